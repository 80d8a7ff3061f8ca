// An authorization server that this project did not write (oidc-provider), over TLS, with every client authentication that it certifies: basic, post,
// private_key_jwt, mutual TLS. It has client credentials of its own; token exchange and JWT bearer are grants registered with it, whose client
// authentication, parameters, errors and access tokens are still its own, and whose JWTs are verified by jose.
import { createServer } from 'node:https'
import { readFileSync } from 'node:fs'
import { Provider, errors } from 'oidc-provider'
import { createLocalJWKSet, jwtVerify } from 'jose'

const given = JSON.parse(readFileSync(process.env.SETUP, 'utf8'))
const issuer = `https://localhost:${process.env.PORT}`
const TOKEN_EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange'
const JWT_BEARER = 'urn:ietf:params:oauth:grant-type:jwt-bearer'
const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token'
const JWT = 'urn:ietf:params:oauth:token-type:jwt'

const common = {
  grant_types: ['client_credentials', TOKEN_EXCHANGE, JWT_BEARER],
  scope: 'orders.read',
  redirect_uris: [],
  response_types: [],
}
const keyed = (client_id, token_endpoint_auth_signing_alg) => ({
  ...common,
  client_id,
  token_endpoint_auth_method: 'private_key_jwt',
  token_endpoint_auth_signing_alg,
  jwks: { keys: [given.keys[client_id]] },
})
const provider = new Provider(issuer, {
  clients: [
    { ...common, client_id: 'basic client', client_secret: given.secret, token_endpoint_auth_method: 'client_secret_basic' },
    { ...common, client_id: 'post-client', client_secret: given.secret, token_endpoint_auth_method: 'client_secret_post' },
    keyed('ps256', 'PS256'),
    keyed('es256', 'ES256'),
    keyed('es384', 'ES384'),
    { ...common, client_id: 'mtls', token_endpoint_auth_method: 'tls_client_auth', tls_client_auth_subject_dn: 'CN=mtls' },
  ],
  clientAuthMethods: ['client_secret_basic', 'client_secret_post', 'private_key_jwt', 'tls_client_auth', 'none'],
  enabledJWA: { clientAuthSigningAlgValues: ['PS256', 'ES256', 'ES384'] },
  scopes: ['orders.read', 'orders.write'],
  extraTokenClaims: (ctx) => ctx.state.exchanged,
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    introspection: { enabled: true, allowedPolicy: () => true },
    resourceIndicators: { enabled: false },
    mTLS: {
      enabled: true,
      tlsClientAuth: true,
      getCertificate: (ctx) => ctx.socket.getPeerX509Certificate?.(),
      certificateAuthorized: (ctx) => ctx.socket.authorized,
      certificateSubjectMatches: (ctx, property, expected) =>
        property === 'tls_client_auth_subject_dn' && ctx.socket.getPeerX509Certificate().subject === expected,
    },
  },
})

const cluster = createLocalJWKSet(given.cluster.jwks)
async function verified(token, audience) {
  try {
    return (await jwtVerify(token, cluster, { issuer: given.cluster.issuer, audience, requiredClaims: ['sub', 'exp'] })).payload
  } catch {
    throw new errors.InvalidGrant('the token is not acceptable')
  }
}

async function issue(ctx, exchanged) {
  const { client } = ctx.oidc
  ctx.state.exchanged = exchanged
  const token = new provider.ClientCredentials({ client, scope: ctx.oidc.params.scope })
  ctx.oidc.entity('ClientCredentials', token)
  const access_token = await token.save()
  return { access_token, token_type: token.tokenType, expires_in: token.expiration, scope: token.scope }
}

provider.registerGrantType(
  TOKEN_EXCHANGE,
  async (ctx) => {
    const p = ctx.oidc.params
    if (!p.subject_token || ![JWT, ACCESS_TOKEN].includes(p.subject_token_type)) {
      throw new errors.InvalidRequest('subject_token or subject_token_type is missing or not supported')
    }
    if (Boolean(p.actor_token) !== Boolean(p.actor_token_type)) {
      throw new errors.InvalidRequest('actor_token and actor_token_type go together')
    }
    const subject = await verified(p.subject_token, given.cluster.audience)
    const actor = p.actor_token && (await verified(p.actor_token, given.cluster.audience))
    if (p.audience !== 'orders') throw new errors.InvalidTarget('audience is not known here')
    ctx.body = { ...(await issue(ctx, { subject: subject.sub, actor: actor?.sub })), issued_token_type: ACCESS_TOKEN }
  },
  ['subject_token', 'subject_token_type', 'actor_token', 'actor_token_type', 'requested_token_type', 'audience', 'resource', 'scope'],
)
provider.registerGrantType(
  JWT_BEARER,
  async (ctx) => {
    if (!ctx.oidc.params.assertion) throw new errors.InvalidRequest('assertion is missing')
    const subject = await verified(ctx.oidc.params.assertion, issuer)
    ctx.body = await issue(ctx, { subject: subject.sub })
  },
  ['assertion', 'scope'],
)
provider.on('grant.error', (ctx, error) => console.error('refused:', error.message, error.error_description, error.error_detail ?? ''))
provider.on('server_error', (ctx, error) => console.error('failed:', error))

createServer(
  {
    key: readFileSync(given.tls.key),
    cert: readFileSync(given.tls.certificate),
    ca: readFileSync(given.tls.ca),
    requestCert: true,
    rejectUnauthorized: false,
  },
  provider.callback(),
).listen(Number(process.env.PORT), '127.0.0.1')
