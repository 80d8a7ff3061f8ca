// How the official TypeScript client gets a token for a server that asks for one: by its own OAuth flow, from the 401 on. The person's part (to open the
// authorization URL in a browser, and to sign in) is played here.

const CALLBACK = 'http://127.0.0.1:9/callback';

// What answers a 401, with `person` in front of the browser; `cameBack` is what the browser brings to the callback.
export class Provider {
  constructor(person) {
    this.person = person;
  }
  redirectUrl = CALLBACK;
  clientMetadata = { client_name: 'interop', redirect_uris: [CALLBACK], token_endpoint_auth_method: 'none' };
  clientInformation = () => this.client;
  saveClientInformation = (client) => (this.client = client);
  tokens = () => this.kept;
  saveTokens = (tokens) => (this.kept = tokens);
  codeVerifier = () => this.verifier;
  saveCodeVerifier = (verifier) => (this.verifier = verifier);

  async redirectToAuthorization(url) {
    const cookies = new Map();
    let location = url.href;
    for (let page = 0; page < 10 && !location.startsWith(CALLBACK); page += 1) {
      const signIn = location.includes('/sign-in/') && { method: 'POST', body: new URLSearchParams({ person: this.person }) };
      const cookie = [...cookies].map(([name, value]) => `${name}=${value}`).join('; ');
      const answer = await fetch(location, { redirect: 'manual', headers: { cookie }, ...signIn });
      for (const set of answer.headers.getSetCookie()) {
        const [, name, value] = set.match(/^([^=]+)=([^;]*)/);
        cookies.set(name, value);
      }
      location = new URL(answer.headers.get('location'), location).href;
    }
    this.cameBack = new URL(location).searchParams;
  }
}
