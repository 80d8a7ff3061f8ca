//! Several identities: what their credentials become, chains of them, the variables of identity bindings, and what is refused of all that.

use super::*;
use crate::{
    net::token_proxy::{Roots, TokenProxyParams},
    token::params::{
        AuthorityParams, ChainedTokenParams, EntraAgentBlueprintParams, EntraClientAssertionParams,
        EntraOnBehalfOfParams, GoogleStsParams, ImpersonationParams, TenantParams, TokenParams,
    },
};

const TENANT: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";
const CLIENT: &str = "11111111-2222-3333-4444-555555555555";
const PUBLIC: &str = "https://login.microsoftonline.com/";
const PROXY: (&str, &str) = ("AZURE_KUBERNETES_TOKEN_PROXY", "https://10.0.0.1:443/");
const SNI: (&str, &str) = ("AZURE_KUBERNETES_SNI_NAME", "abc.ests.aks");
const CA_FILE: (&str, &str) = ("AZURE_KUBERNETES_CA_FILE", "/wi/ca-cert/ca.crt");
const CA_DATA: (&str, &str) = ("AZURE_KUBERNETES_CA_DATA", "-----BEGIN…");

fn url(text: &str) -> url::Url {
    text.parse().unwrap()
}

fn trusting(ca_file: &str) -> AuthorityParams {
    AuthorityParams {
        ca_file: Some(ca_file.into()),
        proxy: None,
    }
}

fn grant<'a>(params: &'a TokenParams, name: &str) -> &'a GrantParams {
    &params
        .credentials
        .iter()
        .find(|c| &*c.name == name)
        .unwrap()
        .grant
}

/// Those that act on behalf of callers.
const FOR_CALLERS: &str = "credentials:
  as-caller:
    entraOnBehalfOf:
      scope: https://graph.microsoft.com/User.Read
      tenantId: 72f988bf-86f1-41af-91ab-2d7cd011db47
      clientId: 11111111-2222-3333-4444-555555555555
      authorityHost: https://login.microsoftonline.us/
      clientAssertion: pod
      assertion: caller
      identityBinding: never
      caFile: /etc/authority/ca.pem
  agent-as-caller:
    entraAgentIdentity:
      scope: https://graph.microsoft.com/User.Read
      agentIdentityClientId: 33333333-4444-5555-6666-777777777777
      onBehalfOf: caller
";

/// The example, and credentials on behalf of callers beside its own.
fn sample() -> TokenParams {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/samples/config/identities.yaml");
    let text = std::fs::read_to_string(file).unwrap();
    load_with(&text.replacen("credentials:\n", FOR_CALLERS, 1), AKS)
        .unwrap()
        .token
}

#[test]
fn every_key_of_the_identities_has_an_effect() {
    let params = sample();
    assert_eq!(
        grant(&params, "as-caller"),
        &GrantParams::EntraOnBehalfOf(EntraOnBehalfOfParams {
            tenant: TenantParams {
                authority_host: url("https://login.microsoftonline.us/"),
                tenant_id: TENANT.into(),
                identity_binding: None,
                authority: trusting("/etc/authority/ca.pem")
            },
            client_id: CLIENT.into(),
            scope: "https://graph.microsoft.com/User.Read".into(),
            client_assertion: "pod".into(),
            assertion: "caller".into()
        })
    );
    assert_eq!(
        grant(&params, "storage"),
        &GrantParams::GoogleSts(GoogleStsParams {
            token_endpoint: url("https://sts.example.com/v1/token"),
            audience: "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/k".into(),
            scope: vec!["https://www.googleapis.com/auth/devstorage.read_only".into()],
            subject_token: "google".into(),
            subject_token_type: "urn:ietf:params:oauth:token-type:id_token".into(),
            impersonation: Some(ImpersonationParams {
                endpoint: url("https://iam.example.com/"),
                service_account: "orders@p.iam.gserviceaccount.com".into(),
                lifetime: Duration::from_secs(1800),
                authority: trusting("/etc/google/iam-ca.pem"),
            }),
            authority: trusting("/etc/google/ca.pem"),
        })
    );
}

#[test]
fn an_agent_identity_is_two_credentials_of_which_the_first_is_never_injected() {
    let params = sample();
    let blueprint = GrantParams::EntraAgentBlueprint(EntraAgentBlueprintParams {
        tenant: TenantParams {
            authority_host: url(PUBLIC),
            tenant_id: TENANT.into(),
            identity_binding: None,
            authority: trusting("/etc/authority/ca.pem"),
        },
        client_id: "44444444-5555-6666-7777-888888888888".into(),
        agent_identity: "33333333-4444-5555-6666-777777777777".into(),
        client_assertion: "pod".into(),
    });
    assert_eq!(grant(&params, "agent/blueprint"), &blueprint);
    assert!(!blueprint.injectable());
    assert_eq!(
        grant(&params, "agent"),
        &GrantParams::EntraClientAssertion(EntraClientAssertionParams {
            tenant: TenantParams {
                authority_host: url(PUBLIC),
                tenant_id: TENANT.into(),
                identity_binding: None,
                authority: trusting("/etc/authority/ca.pem")
            },
            client_id: "33333333-4444-5555-6666-777777777777".into(),
            scope: "https://graph.microsoft.com/.default".into(),
            subject_token: "agent/blueprint".into()
        })
    );
    let GrantParams::EntraOnBehalfOf(p) = grant(&params, "agent-as-caller") else {
        panic!("on behalf of")
    };
    assert_eq!(
        (&*p.client_assertion, &*p.assertion, &*p.client_id),
        (
            "agent-as-caller/blueprint",
            "caller",
            "33333333-4444-5555-6666-777777777777"
        )
    );
    // The blueprint is the pod's own by default.
    let GrantParams::EntraAgentBlueprint(p) = grant(&params, "agent-as-caller/blueprint") else {
        panic!("a blueprint")
    };
    assert_eq!(p.client_id, CLIENT);
    let timeouts = params
        .credentials
        .iter()
        .filter(|c| c.name.starts_with("agent"));
    let timeouts: Vec<_> = timeouts.map(|c| c.exchange_timeout.as_secs()).collect();
    assert_eq!(timeouts, [10, 10, 5, 5]);

    // A route cannot name it, whatever it writes.
    let error = load_with(
        "credentials: {a: {entraAgentIdentity: {scope: x/.default, agentIdentityClientId: b}}}\nroutes: [{name: r, upstream: https://u.example, credential: a/blueprint}]",
        AKS,
    );
    assert!(
        error
            .unwrap_err()
            .contains("no credential is named `a/blueprint`")
    );
}

#[test]
fn one_credentials_token_is_anothers_subject() {
    let params = sample();
    let chained: Vec<_> = params
        .chained_tokens
        .iter()
        .map(|ChainedTokenParams { name, credential }| (&**name, &**credential))
        .collect();
    assert_eq!(
        chained,
        [
            ("agent-as-caller/blueprint", "agent-as-caller/blueprint"),
            ("agent/blueprint", "agent/blueprint"),
            ("managed-token", "managed"),
        ]
    );
    let files: Vec<_> = params.subject_tokens.iter().map(|s| &*s.name).collect();
    assert_eq!(files, ["pod", "google"]);
}

/// Subject tokens and credentials, and a route to each credential.
fn chain(subjects: &str, credentials: &[(&str, &str)]) -> Result<Config, String> {
    let mut text = format!("subjectTokens: {{{subjects}}}\ncredentials:\n");
    for (name, subject) in credentials {
        text += &format!(
            "  {name}: {{entraClientAssertion: {{scope: x/.default, subjectToken: {subject}}}}}\n"
        );
    }
    text += "routes:\n";
    for (name, _) in credentials {
        text += &format!(
            "- {{name: {name}, listen: '127.0.0.1:{}', upstream: https://u.example, credential: {name}}}\n",
            2000 + name.len()
        );
    }
    load_with(&text, AKS)
}

#[test]
fn circles_are_refused_with_their_path() {
    let error = chain(
        "x: {credential: aa}, y: {credential: bbb}",
        &[("aa", "y"), ("bbb", "x"), ("cccc", "x")],
    );
    assert_eq!(
        error.unwrap_err(),
        "c.yaml:3:3: credentials.aa: uses its own token by a detour: `aa` -> (subject token `y`) `bbb` -> (subject token `x`) -> `aa`; get one of these in another way"
    );
    let error = chain("x: {credential: a}", &[("a", "x")]).unwrap_err();
    assert!(
        error.contains("`a` -> (subject token `x`) -> `a`"),
        "{error}"
    );
}

#[test]
fn chains_that_lead_nowhere_are_refused() {
    for (subjects, credentials, message) in [
        (
            "x: {credential: b}",
            vec![("a", "x")],
            "c.yaml:1:33: subjectTokens.x.credential: no credential is named `b`; did you mean `a`?",
        ),
        (
            "x: {credential: a, file: /f}",
            vec![("a", "pod"), ("bb", "x")],
            "c.yaml:1:33: subjectTokens.x.credential: stands beside `file`; give one of them",
        ),
        (
            "caller: {file: /f}",
            vec![("a", "caller")],
            "c.yaml:1:17: subjectTokens.caller: the name of the token of an inbound request's caller, which no file holds; use another name, or name `caller` without declaring it",
        ),
        (
            "x: {credential: a}",
            vec![("a", "caller"), ("bb", "x")],
            "c.yaml:3:3: credentials.a: has no token of its own but one for each caller, so the subject token `x` cannot be its token; name a credential there that does not use `caller`",
        ),
    ] {
        let error = chain(subjects, &credentials).unwrap_err();
        assert!(error.lines().any(|l| l == message), "{error}");
    }
    // One that only others use is used.
    let config = load_with(
        "subjectTokens: {x: {credential: a}}\ncredentials:\n  a: {entraClientAssertion: {scope: x/.default}}\n  b: {entraClientAssertion: {scope: x/.default, subjectToken: x}}\nroutes: [{name: r, upstream: https://u.example, credential: b}]",
        AKS,
    );
    assert_eq!(config.unwrap().warnings, [""; 0]);
}

#[test]
fn what_cannot_be_meant_is_refused_of_the_new_grants() {
    const GOOGLE: &str = "googleSts: {audience: //iam.googleapis.com/projects/1/providers/k, impersonation: {serviceAccount: ";
    for (lines, message) in [
        (
            "entraOnBehalfOf: {scope: api://x/.default offline_access}".to_owned(),
            "`offline_access` is for signing somebody in; no refresh or ID token is ever kept here: leave it out",
        ),
        (
            "entraAgentIdentity: {scope: User.Read, agentIdentityClientId: b}".into(),
            "does not end in `/.default`",
        ),
        (
            "entraAgentIdentity: {scope: x/.default}".into(),
            "credentials.a.entraAgentIdentity.agentIdentityClientId: missing",
        ),
        (
            "entraAgentIdentity: {scope: x/.default, agentIdentityClientId: b, onBehalfOf: nobody}"
                .into(),
            "no subject token is named `nobody`",
        ),
        (
            "googleSts: {audience: orders}".into(),
            "not a workload identity pool provider",
        ),
        (
            "googleSts: {audience: //iam.googleapis.com/projects/1/providers/k, scope: [a b]}"
                .into(),
            "credentials.a.googleSts.scope[0]: is several scopes",
        ),
        (
            format!("{GOOGLE}orders}}}}"),
            "not a service account's e-mail address",
        ),
        (
            format!("{GOOGLE}'a@b.c/../x'}}}}"),
            "not a service account's e-mail address",
        ),
        (
            format!("{GOOGLE}a@b.c, lifetime: 13h}}}}"),
            "give whole seconds from 10m to 12h",
        ),
        (
            format!("{GOOGLE}a@b.c, lifetime: 600500ms}}}}"),
            "give whole seconds from 10m to 12h",
        ),
        (
            format!("{GOOGLE}a@b.c, endpoint: 'https://iam.example/v1'}}}}"),
            "has a path or query",
        ),
        (
            format!("{GOOGLE}a@b.c, endpoint: 'http://iam.example'}}}}"),
            "plain http off loopback",
        ),
        (
            "entraClientAssertion: {scope: x/.default, identityBinding: on}".into(),
            "none of `auto`, `always` and `never`",
        ),
    ] {
        let error = with_credential(&lines).unwrap_err();
        assert!(error.contains(message), "{lines}: {error}");
    }
    let google = with_credential(&format!("{GOOGLE}a@b.c}}}}")).unwrap();
    let GrantParams::GoogleSts(p) = &google.token.credentials[0].grant else {
        panic!("google")
    };
    assert_eq!(p.scope, ["https://www.googleapis.com/auth/cloud-platform"]);
    assert_eq!(p.token_endpoint, url("https://sts.googleapis.com/v1/token"));
    let impersonation = p.impersonation.as_ref().unwrap();
    assert_eq!(
        impersonation.endpoint,
        url("https://iamcredentials.googleapis.com/")
    );
    assert_eq!(impersonation.lifetime, Duration::from_secs(3600));
}

/// Three grants, each with this `identityBinding` unless it is empty.
fn bound(mode: &str, env: &[(&str, &str)]) -> Result<Vec<Option<TokenProxyParams>>, String> {
    let mode = match mode {
        "" => String::new(),
        mode => format!(", identityBinding: {mode}"),
    };
    let text = format!(
        "credentials:\n  a: {{entraClientAssertion: {{scope: x/.default{mode}}}}}\n  b: {{entraOnBehalfOf: {{scope: x/.default{mode}}}}}\n  \
         c: {{entraAgentIdentity: {{scope: x/.default, agentIdentityClientId: c{mode}}}}}\nroutes: [{{name: a, upstream: https://u.example, credential: a}}]\n"
    );
    let config = load_with(&text, &[AKS, env].concat())?;
    let binding = |name: &str| match grant(&config.token, name) {
        GrantParams::EntraClientAssertion(p) => p.tenant.identity_binding.clone(),
        GrantParams::EntraOnBehalfOf(p) => p.tenant.identity_binding.clone(),
        GrantParams::EntraAgentBlueprint(p) => p.tenant.identity_binding.clone(),
        other => panic!("{other:?}"),
    };
    // The agent's second step has Entra's own token, which no token proxy knows.
    assert_eq!(binding("c"), None);
    Ok(["a", "b", "c/blueprint"].map(binding).to_vec())
}

#[test]
fn an_identity_binding_comes_from_the_environment_and_can_be_switched() {
    let whole = &[PROXY, SNI, CA_FILE];
    let proxy = Some(TokenProxyParams {
        url: url("https://10.0.0.1/"),
        server_name: Some("abc.ests.aks".into()),
        roots: Roots::File("/wi/ca-cert/ca.crt".into()),
    });
    // On behalf of others, and for agents, it must be asked for: a managed identity can do neither.
    assert_eq!(bound("", whole).unwrap(), [proxy.clone(), None, None]);
    assert_eq!(bound("auto", whole).unwrap(), vec![proxy.clone(); 3]);
    assert_eq!(bound("always", whole).unwrap(), vec![proxy; 3]);
    assert_eq!(bound("never", whole).unwrap(), [None, None, None]);
    assert_eq!(bound("auto", &[]).unwrap(), [None, None, None]);
    let alone = Some(TokenProxyParams {
        url: url("https://10.0.0.1/"),
        server_name: None,
        roots: Roots::System,
    });
    assert_eq!(bound("", &[PROXY]).unwrap()[0], alone);
    let data = bound("", &[PROXY, CA_DATA]).unwrap().remove(0).unwrap();
    assert_eq!(data.roots, Roots::Pem("-----BEGIN…".into()));
    // An empty variable is none.
    assert_eq!(bound("", &[(PROXY.0, ""), (SNI.0, "")]).unwrap()[0], None);
}

#[test]
fn a_half_set_identity_binding_is_refused_once() {
    for (env, message) in [
        (
            vec![SNI],
            "AZURE_KUBERNETES_SNI_NAME: set without AZURE_KUBERNETES_TOKEN_PROXY",
        ),
        (
            vec![CA_FILE],
            "AZURE_KUBERNETES_CA_FILE: set without AZURE_KUBERNETES_TOKEN_PROXY",
        ),
        (
            vec![CA_DATA],
            "AZURE_KUBERNETES_CA_DATA: set without AZURE_KUBERNETES_TOKEN_PROXY",
        ),
        (
            vec![PROXY, CA_FILE, CA_DATA],
            "AZURE_KUBERNETES_CA_DATA: stands beside AZURE_KUBERNETES_CA_FILE",
        ),
        (
            vec![(PROXY.0, "http://10.0.0.1/")],
            "AZURE_KUBERNETES_TOKEN_PROXY: not https",
        ),
        (
            vec![(PROXY.0, "http://127.0.0.1/")],
            "AZURE_KUBERNETES_TOKEN_PROXY: not https",
        ),
        (
            vec![(PROXY.0, "https://u:p@10.0.0.1/")],
            "AZURE_KUBERNETES_TOKEN_PROXY: carries a user name",
        ),
        (
            vec![(PROXY.0, "https://10.0.0.1/?x=1")],
            "AZURE_KUBERNETES_TOKEN_PROXY: has a query",
        ),
        (
            vec![(PROXY.0, "https://10.0.0.1/#x")],
            "AZURE_KUBERNETES_TOKEN_PROXY: has a fragment",
        ),
        (
            vec![PROXY, (SNI.0, "a b")],
            "AZURE_KUBERNETES_SNI_NAME: not a host",
        ),
    ] {
        let error = bound("auto", &env).unwrap_err();
        assert!(error.starts_with(message), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        // Whoever does not ask for it is not bothered.
        assert_eq!(bound("never", &env).unwrap(), [None, None, None]);
    }
    let error = bound("always", &[]).unwrap_err();
    assert_eq!(error.lines().count(), 3, "{error}");
    assert!(
        error.contains("AZURE_KUBERNETES_TOKEN_PROXY is not set")
            && error.contains("use-identity-binding"),
        "{error}"
    );
}
