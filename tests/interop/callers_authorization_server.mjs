// The authorization server of an MCP server's callers, which this project did not write (oidc-provider), over TLS: metadata, dynamic registration,
// authorization code with PKCE, resource indicators, access tokens as JWTs of RFC 9068. Whoever says at sign-in who they are is believed. It exchanges its
// own tokens too, for the one client that is registered beforehand: RFC 8693 is a grant registered with it, what it issues is its own.
import { createServer } from 'node:https';
import { readFileSync } from 'node:fs';
import { Provider, errors } from 'oidc-provider';
import { createLocalJWKSet, exportJWK, generateKeyPair, jwtVerify } from 'jose';

const given = JSON.parse(readFileSync(process.env.SETUP, 'utf8'));
const issuer = `https://localhost:${process.env.PORT}`;
const TOKEN_EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token';
const scopes = { [given.resource]: 'tools.call', [given.backend]: 'users.read' };

const { privateKey } = await generateKeyPair('RS256', { extractable: true });
const key = { ...(await exportJWK(privateKey)), kid: 'one', use: 'sig', alg: 'RS256' };
const { kty, n, e } = key;
const keys = createLocalJWKSet({ keys: [{ kty, n, e, kid: key.kid, alg: key.alg }] });

// What tokens for a resource are like; unknown resources have none.
function server(resource) {
  if (!scopes[resource]) throw new errors.InvalidTarget();
  return { audience: resource, scope: scopes[resource], accessTokenFormat: 'jwt', accessTokenTTL: 600, jwt: { sign: { alg: 'RS256' } } };
}

const provider = new Provider(issuer, {
  jwks: { keys: [key] },
  cookies: { keys: [given.secret] },
  clients: [
    { client_id: 'sidecar', client_secret: given.secret, grant_types: [TOKEN_EXCHANGE], redirect_uris: [], response_types: [] },
  ],
  scopes: [...Object.values(scopes), 'offline_access'],
  pkce: { required: () => true },
  findAccount: (_, accountId) => ({ accountId, claims: () => ({ sub: accountId }) }),
  interactions: { url: (_, { uid }) => `/sign-in/${uid}` },
  // Whoever has signed in consents to all that is asked for.
  loadExistingGrant: async ({ oidc }) => {
    const grant = new provider.Grant({ clientId: oidc.client.clientId, accountId: oidc.session.accountId });
    grant.addOIDCScope(oidc.params.scope);
    for (const [resource, { scope }] of Object.entries(oidc.resourceServers)) grant.addResourceScope(resource, scope);
    await grant.save();
    return grant;
  },
  features: {
    devInteractions: { enabled: false },
    registration: { enabled: true },
    resourceIndicators: { enabled: true, getResourceServerInfo: (_, resource) => server(resource), useGrantedResource: () => true },
  },
});

provider.registerGrantType(
  TOKEN_EXCHANGE,
  async (ctx) => {
    const { client, params } = ctx.oidc;
    if (params.subject_token_type !== ACCESS_TOKEN) throw new errors.InvalidRequest('subject_token_type is not supported');
    let subject;
    try {
      subject = (await jwtVerify(params.subject_token, keys, { issuer, audience: given.resource, typ: 'at+jwt' })).payload;
    } catch {
      throw new errors.InvalidGrant('the subject token is not acceptable');
    }
    const resourceServer = new provider.ResourceServer(params.resource, server(params.resource));
    const token = new provider.AccessToken({ client, accountId: subject.sub, scope: scopes[params.resource], gty: 'token_exchange' });
    token.resourceServer = resourceServer;
    const access_token = await token.save();
    ctx.body = { access_token, issued_token_type: ACCESS_TOKEN, token_type: 'Bearer', expires_in: token.expiration, scope: token.scope };
  },
  ['subject_token', 'subject_token_type', 'requested_token_type', 'resource', 'audience', 'scope'],
);
provider.on('grant.error', (_, error) => console.error('refused:', error.message, error.error_description, error.error_detail ?? ''));
provider.on('authorization.error', (_, error) => console.error('refused:', error.message, error.error_description, error.error_detail ?? ''));
provider.on('registration_create.error', (_, error) => console.error('refused:', error.message, error.error_description, error.error_detail ?? ''));
provider.on('server_error', (_, error) => console.error('failed:', error));

const callback = provider.callback();
createServer({ key: readFileSync(given.tls.key), cert: readFileSync(given.tls.certificate) }, async (request, response) => {
  console.log(request.method, request.url.split('?')[0].replace(/[^/]{20,}$/, '…'));
  if (!request.url.startsWith('/sign-in/')) return callback(request, response);
  let form = '';
  for await (const part of request) form += part;
  const accountId = new URLSearchParams(form).get('person');
  await provider.interactionFinished(request, response, { login: { accountId }, consent: {} });
}).listen(Number(process.env.PORT), '127.0.0.1');
