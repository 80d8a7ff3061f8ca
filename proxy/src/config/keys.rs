//! The table of keys. Reading a configuration takes its known keys, its defaults and what is required from here, so that the reference in
//! the README, which is checked against this table, cannot say anything else.

/// A key of the configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Its path; `*` stands for a name of the user's choice, `[]` for each item of a list.
    pub path: &'static str,
    /// What its value is: `duration`, `size`, `URL`, …
    pub kind: &'static str,
    /// What happens without it.
    pub presence: Presence,
    /// What it does, for the reference.
    pub help: &'static str,
}

/// What happens when a key is not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// That is an error.
    Required,
    /// It means what the help says.
    Optional,
    /// This text is read in its place.
    Default(&'static str),
    /// This environment variable is read; without it, that is an error.
    Variable(&'static str),
    /// This environment variable is read; without it, this text.
    VariableOr(&'static str, &'static str),
}

use Presence::{Default, Optional, Required, Variable, VariableOr};

/// One row of the table.
pub(super) const fn key(
    path: &'static str,
    kind: &'static str,
    presence: Presence,
    help: &'static str,
) -> Key {
    Key {
        path,
        kind,
        presence,
        help,
    }
}

/// Every key, in the order of the reference.
#[rustfmt::skip]
pub(super) const KEYS: &[Key] = &[
    key("listen", "address", Default("127.0.0.1:8080"), "Where routes that name no listener are served: `IP:PORT` or `unix:/PATH`."),
    key("admin", "address", Default("[::]:9090"), "Where `/livez`, `/startupz`, `/readyz` and `/metrics` are served. `[::]` is every address: IPv4 too, and `0.0.0.0` where there is no IPv6."),
    key("allowNonLoopbackListeners", "boolean", Default("false"), "Lets `listen` name addresses off loopback, and serves peers that are not on loopback. Whoever reaches such a listener uses the pod's identity."),
    key("workers", "number", Optional, "Worker threads, each with its own listeners and connection pool. Without it: one per core that the process may use."),
    key("log.level", "level", VariableOr(super::env::LOG_LEVEL, "info"), "`error`, `warn`, `info`, `debug` or `trace`, or directives such as `token_sidecar=debug,info`."),
    key("log.format", "format", VariableOr(super::env::LOG_FORMAT, "json"), "`json` or `text`."),
    key("shutdown.delay", "duration", Default("0s"), "From SIGTERM (readiness falls at once) to the closing of the listeners."),
    key("shutdown.deadline", "duration", Default("25s"), "How long requests in flight may take to finish after that."),
    key("allowedHosts", "list of hosts", Optional, "Further `Host` names to accept, without port, beside `localhost`, `127.0.0.1`, `[::1]` and the routes' own hosts."),
    key("allowedOrigins", "list of origins", Optional, "`Origin` values to let through. Every other request that carries one is refused."),
    key("limits.maxConnections", "number", Default("16384"), "Connections from the workload open at once."),
    key("limits.maxRequests", "number", Default("16384"), "Requests in flight at once; more are answered 503."),
    key("limits.maxHeaderBytes", "size", Default("32KiB"), "A request's header section (8KiB to 1MiB)."),
    key("limits.maxHeaderFields", "number", Default("100"), "Fields in a request's header section (at most 4096)."),
    key("limits.maxUriBytes", "size", Default("16KiB"), "A request's target (256B to 60KiB)."),
    key("limits.headerReadTimeout", "duration", Default("10s"), "From the connection, or a request's first byte, to the end of the header section."),
    key("limits.keepAliveTimeout", "duration", Default("5m"), "A connection without a request is closed after this."),
    key("subjectTokens.*.file", "path", Optional, "The projected token. `pod` needs none: its default is `$AZURE_FEDERATED_TOKEN_FILE`."),
    key("subjectTokens.*.credential", "name", Optional, "In place of a file: the credential whose issued token this is. It is handed to the token flow alone, and may be opaque."),
    key("credentials.*.exchangeTimeout", "duration", Default("10s"), "The longest that one exchange may take, connection included."),
    key("credentials.*.entraClientAssertion.scope", "scope", Required, "One resource's scope, ending in `/.default`."),
    key("credentials.*.entraClientAssertion.tenantId", "tenant", Variable(super::env::TENANT_ID), "Tenant id or domain."),
    key("credentials.*.entraClientAssertion.clientId", "text", Variable(super::env::CLIENT_ID), "Client id of the app registration or managed identity."),
    key("credentials.*.entraClientAssertion.authorityHost", "URL", VariableOr(super::env::AUTHORITY_HOST, "https://login.microsoftonline.com"), "The cloud's authority, without a path."),
    key("credentials.*.entraClientAssertion.subjectToken", "name", Default("pod"), "The subject token that is the client assertion."),
    key("credentials.*.entraClientAssertion.caFile", "path", Optional, "PEM file of further roots to trust at the authority."),
    key("credentials.*.entraClientAssertion.identityBinding", "mode", Default("auto"), "AKS identity bindings: `auto` asks the token proxy of `$AZURE_KUBERNETES_TOKEN_PROXY` in the authority's place when there is one, `always` wants it there, `never` asks the authority."),
    key("credentials.*.entraOnBehalfOf.scope", "scopes", Required, "Scopes of one resource: `RESOURCE/.default`, or delegated ones, separated by spaces."),
    key("credentials.*.entraOnBehalfOf.tenantId", "tenant", Variable(super::env::TENANT_ID), "Tenant id or domain."),
    key("credentials.*.entraOnBehalfOf.clientId", "text", Variable(super::env::CLIENT_ID), "Client id of the app registration that the caller's token was made for. A managed identity cannot act on behalf of others."),
    key("credentials.*.entraOnBehalfOf.authorityHost", "URL", VariableOr(super::env::AUTHORITY_HOST, "https://login.microsoftonline.com"), "The cloud's authority, without a path."),
    key("credentials.*.entraOnBehalfOf.clientAssertion", "name", Default("pod"), "The subject token that proves the client."),
    key("credentials.*.entraOnBehalfOf.assertion", "name", Default("caller"), "The subject token on whose behalf: `caller` is the token of the inbound request's caller."),
    key("credentials.*.entraOnBehalfOf.identityBinding", "mode", Default("never"), "As in `entraClientAssertion`."),
    key("credentials.*.entraOnBehalfOf.caFile", "path", Optional, "PEM file of further roots to trust at the authority."),
    key("credentials.*.entraAgentIdentity.scope", "scopes", Required, "One resource's scope, ending in `/.default`; with `onBehalfOf`, delegated ones too."),
    key("credentials.*.entraAgentIdentity.agentIdentityClientId", "text", Required, "Client id of the agent identity (`fmi_path`)."),
    key("credentials.*.entraAgentIdentity.blueprintClientId", "text", Variable(super::env::CLIENT_ID), "Client id of the agent identity blueprint, which the pod's token proves. Its own token is renewed as `NAME/blueprint` and never put on a request."),
    key("credentials.*.entraAgentIdentity.tenantId", "tenant", Variable(super::env::TENANT_ID), "The agent identity's tenant: id or domain."),
    key("credentials.*.entraAgentIdentity.authorityHost", "URL", VariableOr(super::env::AUTHORITY_HOST, "https://login.microsoftonline.com"), "The cloud's authority, without a path."),
    key("credentials.*.entraAgentIdentity.clientAssertion", "name", Default("pod"), "The subject token that proves the blueprint."),
    key("credentials.*.entraAgentIdentity.onBehalfOf", "name", Optional, "The subject token on whose behalf the agent identity acts, such as `caller`. Without it: its own."),
    key("credentials.*.entraAgentIdentity.identityBinding", "mode", Default("never"), "As in `entraClientAssertion`, for the blueprint."),
    key("credentials.*.entraAgentIdentity.caFile", "path", Optional, "PEM file of further roots to trust at the authority."),
    key("credentials.*.googleSts.audience", "text", Required, "The workload identity pool provider: `//iam.googleapis.com/projects/…/providers/…`."),
    key("credentials.*.googleSts.scope", "list of scopes", Optional, "Without it: `https://www.googleapis.com/auth/cloud-platform`."),
    key("credentials.*.googleSts.subjectToken", "name", Default("pod"), "The subject token; its audience must be the one that the provider expects."),
    key("credentials.*.googleSts.subjectTokenType", "URI", Default("urn:ietf:params:oauth:token-type:jwt"), "`subject_token_type`."),
    key("credentials.*.googleSts.tokenEndpoint", "URL", Default("https://sts.googleapis.com/v1/token"), "The Security Token Service; https, or http on loopback."),
    key("credentials.*.googleSts.impersonation.serviceAccount", "text", Required, "The service account to impersonate with the federated token: its e-mail address."),
    key("credentials.*.googleSts.impersonation.lifetime", "duration", Default("1h"), "How long its tokens shall live (10m to 12h; more than 1h needs an organization policy)."),
    key("credentials.*.googleSts.impersonation.endpoint", "URL", Default("https://iamcredentials.googleapis.com"), "The IAM Service Account Credentials API, without a path."),
    key("credentials.*.googleSts.impersonation.caFile", "path", Optional, "PEM file of further roots to trust there."),
    key("credentials.*.googleSts.caFile", "path", Optional, "PEM file of further roots to trust at the token endpoint."),
    key("credentials.*.tokenExchange.tokenEndpoint", "URL", Required, "The RFC 8693 endpoint; https, or http on loopback."),
    key("credentials.*.tokenExchange.issuer", "URI", Optional, "The authorization server's issuer identifier (RFC 8414), the default audience of `privateKeyJwt`."),
    key("credentials.*.tokenExchange.subjectToken", "name", Default("pod"), "The subject token; `caller`: the token of the inbound request's caller."),
    key("credentials.*.tokenExchange.subjectTokenType", "URI", Optional, "`subject_token_type`. Without it: `urn:ietf:params:oauth:token-type:jwt`, for `caller` `urn:ietf:params:oauth:token-type:access_token`."),
    key("credentials.*.tokenExchange.requestedTokenType", "URI", Optional, "`requested_token_type`; not sent without it."),
    key("credentials.*.tokenExchange.audience", "list of text", Optional, "`audience`, one form field each."),
    key("credentials.*.tokenExchange.resource", "list of URIs", Optional, "`resource` (RFC 8707), one form field each; absolute URIs without fragment."),
    key("credentials.*.tokenExchange.scope", "scopes", Optional, "`scope`: scopes, separated by spaces."),
    key("credentials.*.tokenExchange.actorToken.subjectToken", "name", Required, "Delegation: the subject token that is sent as `actor_token`. When the subject's `may_act` names another actor, the exchange is not asked for."),
    key("credentials.*.tokenExchange.actorToken.tokenType", "URI", Default("urn:ietf:params:oauth:token-type:jwt"), "`actor_token_type`."),
    key("credentials.*.tokenExchange.actorToken.requireAct", "boolean", Default("false"), "Refuses an issued token that is no JWT whose outermost `act` names the actor's subject: for servers that document their tokens so."),
    key("credentials.*.tokenExchange.clientAuthentication.none.clientId", "text", Optional, "No client authentication (what happens without `clientAuthentication`); `client_id` of a public client."),
    key("credentials.*.tokenExchange.clientAuthentication.clientSecretBasic.clientId", "text", Required, "HTTP Basic: the client id."),
    key("credentials.*.tokenExchange.clientAuthentication.clientSecretBasic.clientSecretFile", "path", Required, "HTTP Basic: the file that holds the secret."),
    key("credentials.*.tokenExchange.clientAuthentication.clientSecretPost.clientId", "text", Required, "Secret in the form: the client id."),
    key("credentials.*.tokenExchange.clientAuthentication.clientSecretPost.clientSecretFile", "path", Required, "Secret in the form: the file that holds it."),
    key("credentials.*.tokenExchange.clientAuthentication.clientAssertion.subjectToken", "name", Required, "Client assertion (RFC 7523): the subject token that is sent."),
    key("credentials.*.tokenExchange.clientAuthentication.clientAssertion.clientId", "text", Optional, "Client assertion: `client_id`, when the server wants one beside it."),
    key("credentials.*.tokenExchange.clientAuthentication.privateKeyJwt.clientId", "text", Required, "Client assertion signed here (`private_key_jwt`): the client id, `iss` and `sub`."),
    key("credentials.*.tokenExchange.clientAuthentication.privateKeyJwt.keyFile", "path", Required, "The key: PEM (PKCS#8, PKCS#1, SEC 1) or a private JWK; RSA, or EC on P-256, P-384 or P-521. A rotated one is used at the next exchange."),
    key("credentials.*.tokenExchange.clientAuthentication.privateKeyJwt.algorithm", "algorithm", Optional, "`RS256`, `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, `ES256`, `ES384` or `ES512`. Without it: the JWK's `alg`, else `RS256` or the curve's."),
    key("credentials.*.tokenExchange.clientAuthentication.privateKeyJwt.keyId", "text", Optional, "`kid`. Without it: the JWK's, if it has one."),
    key("credentials.*.tokenExchange.clientAuthentication.privateKeyJwt.certificateFile", "path", Optional, "PEM file with the key's certificate, for `x5t#S256`."),
    key("credentials.*.tokenExchange.clientAuthentication.privateKeyJwt.audience", "text", Optional, "`aud`. Without it: the grant's `issuer`, else its `tokenEndpoint`."),
    key("credentials.*.tokenExchange.clientAuthentication.tls.clientId", "text", Required, "Mutual TLS (RFC 8705): the client id."),
    key("credentials.*.tokenExchange.clientAuthentication.tls.certificateFile", "path", Required, "PEM file with the client's certificate and what leads from it to the root. A rotated pair is used at the next exchange."),
    key("credentials.*.tokenExchange.clientAuthentication.tls.keyFile", "path", Required, "PEM file with the certificate's key."),
    key("credentials.*.tokenExchange.parameters.*", "text", Optional, "Further form fields. They may not override the ones above."),
    key("credentials.*.tokenExchange.caFile", "path", Optional, "PEM file of further roots to trust at the token endpoint."),
    key("credentials.*.clientCredentials.tokenEndpoint", "URL", Required, "The token endpoint (RFC 6749); https, or http on loopback."),
    key("credentials.*.clientCredentials.issuer", "URI", Optional, "As that of `tokenExchange`."),
    key("credentials.*.clientCredentials.audience", "list of text", Optional, "`audience`, one form field each, for servers that know it."),
    key("credentials.*.clientCredentials.resource", "list of URIs", Optional, "`resource` (RFC 8707), one form field each; absolute URIs without fragment."),
    key("credentials.*.clientCredentials.scope", "scopes", Optional, "`scope`: scopes, separated by spaces."),
    key("credentials.*.clientCredentials.clientAuthentication", "map", Required, "As that of `tokenExchange`, but never `none`."),
    key("credentials.*.clientCredentials.parameters.*", "text", Optional, "Further form fields. They may not override the ones above."),
    key("credentials.*.clientCredentials.caFile", "path", Optional, "PEM file of further roots to trust at the token endpoint."),
    key("credentials.*.jwtBearer.tokenEndpoint", "URL", Required, "The token endpoint, for a JWT as authorization grant (RFC 7523 section 2.1); https, or http on loopback."),
    key("credentials.*.jwtBearer.issuer", "URI", Optional, "As that of `tokenExchange`."),
    key("credentials.*.jwtBearer.assertion", "name", Default("pod"), "The subject token that is sent as `assertion`; `caller`: the token of the inbound request's caller."),
    key("credentials.*.jwtBearer.audience", "list of text", Optional, "`audience`, one form field each, for servers that know it."),
    key("credentials.*.jwtBearer.resource", "list of URIs", Optional, "`resource` (RFC 8707), one form field each; absolute URIs without fragment."),
    key("credentials.*.jwtBearer.scope", "scopes", Optional, "`scope`: scopes, separated by spaces."),
    key("credentials.*.jwtBearer.clientAuthentication", "map", Optional, "As that of `tokenExchange`."),
    key("credentials.*.jwtBearer.parameters.*", "text", Optional, "Further form fields. They may not override the ones above."),
    key("credentials.*.jwtBearer.caFile", "path", Optional, "PEM file of further roots to trust at the token endpoint."),
    key("credentials.*.identityAssertion.identityProvider.tokenEndpoint", "URL", Required, "Identity assertion JWT authorization grant (ID-JAG; a draft, which may change): the token endpoint of the user's identity provider, which exchanges the subject token for an ID-JAG."),
    key("credentials.*.identityAssertion.identityProvider.issuer", "URI", Optional, "As that of `tokenExchange`."),
    key("credentials.*.identityAssertion.identityProvider.subjectToken", "name", Required, "The subject token; `caller`: the token of the inbound request's caller."),
    key("credentials.*.identityAssertion.identityProvider.subjectTokenType", "URI", Default("urn:ietf:params:oauth:token-type:id_token"), "`subject_token_type`."),
    key("credentials.*.identityAssertion.identityProvider.resource", "list of URIs", Optional, "`resource` (RFC 8707), one form field each; absolute URIs without fragment."),
    key("credentials.*.identityAssertion.identityProvider.scope", "scopes", Optional, "`scope`: scopes, separated by spaces."),
    key("credentials.*.identityAssertion.identityProvider.clientAuthentication", "map", Optional, "As that of `tokenExchange`."),
    key("credentials.*.identityAssertion.identityProvider.parameters.*", "text", Optional, "Further form fields. They may not override the ones above."),
    key("credentials.*.identityAssertion.identityProvider.caFile", "path", Optional, "PEM file of further roots to trust at the identity provider."),
    key("credentials.*.identityAssertion.authorizationServer.tokenEndpoint", "URL", Required, "The token endpoint of the upstream's authorization server, which takes the ID-JAG as grant (RFC 7523)."),
    key("credentials.*.identityAssertion.authorizationServer.issuer", "URI", Required, "Its issuer identifier: the `audience` of the ID-JAG, and the default audience of `privateKeyJwt` there."),
    key("credentials.*.identityAssertion.authorizationServer.scope", "scopes", Optional, "`scope` there. Without it: that of the ID-JAG."),
    key("credentials.*.identityAssertion.authorizationServer.clientAuthentication", "map", Optional, "As that of `tokenExchange`."),
    key("credentials.*.identityAssertion.authorizationServer.parameters.*", "text", Optional, "Further form fields. They may not override the ones above."),
    key("credentials.*.identityAssertion.authorizationServer.caFile", "path", Optional, "PEM file of further roots to trust at that authorization server."),
    key("credentials.*.staticSecret.file", "path", Required, "The file whose content is put on requests as it is; watched."),
    key("credentials.*.inject.header", "header name", Default("authorization"), "The field that carries the token."),
    key("credentials.*.inject.prefix", "text", Optional, "What stands before the token, its space included. Without it: `Bearer ` in `Authorization`, nothing in other fields."),
    key("credentials.*.inject.tokenType", "token type", Default("Bearer"), "What the authority must issue: `Bearer`; `DPoP`, bound to a key of this process, a proof with each request (RFC 9449); `N_A`, no access token (a transaction token), in a field of its own."),
    key("credentials.*.callerCache.maxEntries", "number", Default("20000"), "Callers' tokens for which something is kept. For credentials that use the subject token `caller`."),
    key("credentials.*.callerCache.maxBytes", "size", Default("64MiB"), "Memory that they may take."),
    key("credentials.*.callerCache.maxExchanges", "number", Default("128"), "Exchanges on behalf of callers under way at once."),
    key("routes[].name", "name", Required, "The name that metrics, logs and problems use."),
    key("routes[].listen", "address", Optional, "A listener of its own: `IP:PORT` or `unix:/PATH`. Without it: the top `listen`."),
    key("routes[].match.host", "host", Optional, "The host that `Host` or the absolute-form target must name, without port."),
    key("routes[].match.pathPrefix", "path prefix", Default("/"), "Matched on segment borders; the longest wins."),
    key("routes[].match.methods", "list of methods", Optional, "Methods let through. Without it: all but `CONNECT` and `TRACE`."),
    key("routes[].upstream", "URL or map", Required, "Where requests go; its path is put before the request's. https, or http on loopback."),
    key("routes[].upstream.env", "variable", Required, "In the URL's place: the variable of the sidecar's that holds it, `TOKEN_SIDECAR_UPSTREAM_…`; for a URL that a ConfigMap or Secret has. Nothing but a URL is read from it, by the same rules; white space around it does not count."),
    key("routes[].credential", "name", Required, "The credential whose token is injected."),
    key("routes[].withoutCaller", "name", Optional, "With a credential that acts for callers: the credential of requests that speak of no caller (no handle, or a placeholder in `Authorization` that is shorter than one: 43 characters). Without it they are answered 401. A handle that has lapsed or was mangled, and a real token, are answered 401 in any case."),
    key("routes[].http", "version", Default("auto"), "`1`, `2` or `auto`: by ALPN over https, HTTP/1.1 over http."),
    key("routes[].upstreamCaFile", "path", Optional, "PEM file of further roots to trust at the upstream."),
    key("routes[].serverName", "host", Optional, "The TLS server name, when it is not the upstream's host."),
    key("routes[].allowInsecureHttp", "boolean", Default("false"), "Sends the token over plain http off loopback."),
    key("routes[].pool.maxConnections", "number", Default("1024"), "Connections to the upstream, per worker."),
    key("routes[].pool.maxIdle", "number", Default("128"), "Idle connections kept, per worker."),
    key("routes[].pool.idleTimeout", "duration", Default("90s"), "How long an idle connection is kept."),
    key("routes[].timeouts.connect", "duration", Default("5s"), "Resolve, connect and TLS together."),
    key("routes[].timeouts.responseHeader", "duration", Default("60s"), "From the request's last byte to the response's header."),
    key("routes[].timeouts.idle", "duration", Default("5m"), "Without a byte of a body, either way. There is no total timeout."),
    key("routes[].tokenWait", "duration", Default("2s"), "How long a request may wait for an exchange that is under way (at most 1m)."),
    key("routes[].replayBuffer", "size", Default("64KiB"), "Request body kept for the one replay after a 401 (at most 16MiB); `0B`: only empty bodies are replayed."),
    key("routes[].maxRequestBody", "size", Optional, "Larger request bodies are answered 413. Without it: no limit."),
    key("routes[].upgrades", "boolean", Default("true"), "Forwards upgrades (WebSocket)."),
    key("routes[].stripRequestHeaders", "list of header names", Optional, "Removed from requests, beside those always removed."),
    key("routes[].stripResponseHeaders", "list of header names", Optional, "Removed from responses, beside those always removed."),
    key("inbound.listen", "address", Required, "Where callers of the workload are served; may be off loopback. Without `inbound`, there is no such listener."),
    key("inbound.upstream", "URL", Required, "The workload: `http://` on loopback, or `unix:/PATH`."),
    key("inbound.resource", "URL", Required, "The workload as its callers know it (RFC 9728): the `resource` of its metadata."),
    key("inbound.audience", "list of text", Optional, "Audiences of which a token must name one. Without it: `resource`."),
    key("inbound.issuers[].issuer", "issuer", Required, "An issuer whose tokens are accepted, exactly as their `iss` is."),
    key("inbound.issuers[].jwksUri", "URL", Optional, "Its keys. Without it, they are found through its metadata (`/.well-known/openid-configuration`, then RFC 8414)."),
    key("inbound.issuers[].caFile", "path", Optional, "PEM file of further roots to trust at the issuer."),
    key("inbound.issuers[].audience", "list of text", Optional, "In the place of `inbound.audience`, for this issuer's tokens."),
    key("inbound.issuers[].algorithms", "list of algorithms", Optional, "Of `RS256`, `PS256`, `ES256`, `ES384`, `EdDSA`, those that are accepted. Without it: all."),
    key("inbound.issuers[].typ", "text", Optional, "The `typ` that tokens must have, such as `at+jwt` (RFC 9068). Without it: `JWT`, `at+jwt` or none."),
    key("inbound.requiredScopes", "list of scopes", Optional, "Scopes that every token must have, in `scope`, `scp` or `roles`."),
    key("inbound.requiredClaims.*", "text or list of text", Optional, "A claim that every token must have, with this value or one of these."),
    key("inbound.scopesSupported", "list of scopes", Optional, "Further `scopes_supported` of the metadata."),
    key("inbound.leeway", "duration", Default("30s"), "How far ahead an issuer's clock may be, for `nbf` (at most 5m). `exp` has none."),
    key("inbound.handleHeader", "header name", Default("authorization"), "The field that carries the handle to the workload: `Authorization` behind `Bearer `, others plain."),
    key("inbound.handleGrace", "duration", Default("30s"), "How long a handle outlives its request (at most 10m); never its token."),
    key("inbound.maxHandles", "number", Default("65536"), "Handles at once. Those in their grace make room for new requests; when requests alone fill the table, more are answered 503."),
    key("inbound.maxVerifiedTokens", "number", Default("10000"), "Verified tokens remembered, so that a caller's next request costs no signature check."),
    key("inbound.keyWait", "duration", Default("2s"), "How long a request may wait for an issuer's keys (at most 1m)."),
    key("inbound.keys.refreshInterval", "duration", Default("15m"), "Between two fetches of an issuer's keys."),
    key("inbound.keys.cooldown", "duration", Default("10s"), "A token with an unknown key causes a fetch, but not so soon after the last one."),
    key("inbound.keys.maxStale", "duration", Default("24h"), "How long keys are used when the issuer cannot be reached."),
    key("inbound.keys.timeout", "duration", Default("10s"), "The longest that one fetch may take."),
    key("inbound.publicPaths", "list of paths", Optional, "Whole paths that need no token, for GET and HEAD. Without it: `/health`, `/healthz`, `/livez`, `/readyz`, `/startupz`."),
    key("inbound.allowedHosts", "list of hosts", Optional, "Further `Host` names to accept, without port, beside the resource's and those of loopback."),
    key("inbound.allowedOrigins", "list of origins", Optional, "`Origin` values to let through. Every other request that carries one is refused."),
    key("inbound.corsPreflights", "rule", Default("forward"), "Preflights of allowed origins, which carry no token: `forward` to the workload, or `answer` here, together with CORS for all answers."),
    key("inbound.forwardCookies", "boolean", Default("false"), "Lets `Cookie` through to the workload."),
    key("inbound.bindSessions", "boolean", Default("true"), "A session (`Mcp-Session-Id`) is for the caller alone whom the workload gave it to; others are answered 404."),
    key("inbound.stripRequestHeaders", "list of header names", Optional, "Removed from requests, beside those always removed."),
    key("inbound.stripResponseHeaders", "list of header names", Optional, "Removed from responses, beside those always removed."),
    key("inbound.maxRequestBody", "size", Optional, "Larger request bodies are answered 413. Without it: no limit."),
    key("inbound.upgrades", "boolean", Default("true"), "Forwards upgrades (WebSocket)."),
    key("inbound.timeouts.connect", "duration", Default("5s"), "To the workload."),
    key("inbound.timeouts.responseHeader", "duration", Default("60s"), "From the request's last byte to the response's header."),
    key("inbound.timeouts.idle", "duration", Default("5m"), "Without a byte of a body, either way. There is no total timeout."),
];

/// Features that other tools or later versions know, with where they would stand: worth a better answer than "unknown".
pub(super) const NOT_SUPPORTED: &[(&str, &str)] =
    &[("credentials.*.entraClientAssertion", "clientSecretFile")];

/// The table that has the keys below `pattern`.
fn rows(pattern: &str) -> &'static [Key] {
    if pattern.starts_with(super::profile_keys::ROOT) {
        super::profile_keys::KEYS
    } else {
        KEYS
    }
}

/// The keys that may stand in the map at `pattern` (empty for the top), in the table's order, each once.
pub(super) fn children(pattern: &str) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = Vec::new();
    for key in rows(pattern) {
        let rest = match pattern {
            "" => Some(key.path),
            _ => key
                .path
                .strip_prefix(pattern)
                .and_then(|r| r.strip_prefix('.')),
        };
        let name = rest.and_then(|r| r.split(['.', '[']).next());
        if let Some(name) = name
            && names.last() != Some(&name)
            && !names.contains(&name)
        {
            names.push(name);
        }
    }
    names
}

/// The row of the key `name` in the map at `pattern`.
pub(super) fn lookup(pattern: &str, name: &str) -> Option<&'static Key> {
    rows(pattern).iter().find(|k| match pattern {
        "" => k.path == name,
        _ => {
            k.path
                .strip_prefix(pattern)
                .and_then(|r| r.strip_prefix('.'))
                == Some(name)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_are_the_next_segments() {
        assert_eq!(children("log"), ["level", "format"]);
        assert_eq!(
            children("routes[].match"),
            ["host", "pathPrefix", "methods"]
        );
        assert_eq!(children("credentials"), ["*"]);
        assert_eq!(
            children(""),
            [
                "listen",
                "admin",
                "allowNonLoopbackListeners",
                "workers",
                "log",
                "shutdown",
                "allowedHosts",
                "allowedOrigins",
                "limits",
                "subjectTokens",
                "credentials",
                "routes",
                "inbound"
            ]
        );
    }

    #[test]
    fn paths_are_there_once() {
        let mut paths: Vec<_> = KEYS.iter().map(|k| k.path).collect();
        paths.sort_unstable();
        paths.dedup();
        assert_eq!(paths.len(), KEYS.len());
    }
}
