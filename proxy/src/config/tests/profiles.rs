//! Profiles files: what they become, and what they are refused for.

use super::super::profiles::{check, load, load_profiles};
use super::*;
use crate::admission::{
    check::Environment,
    files::Files,
    profile::{Mount, MountSource, Profiles, RewriteCredential, SidecarConfig, TokenSource},
};

pub(super) fn profiles(text: &str) -> Result<Profiles, String> {
    let document = Document::Text {
        name: "p.yaml".into(),
        text: text.into(),
    };
    load_profiles(document).map_err(|e| e.to_string())
}

/// A profile that is right but for the lines put into it (line 5 on, indented by four).
pub(super) fn with_profile(lines: &str) -> Result<Profiles, String> {
    profiles(&format!(
        "profiles:\n  default:\n    image: i\n    token: {{aks: {{}}}}\n    {}\n",
        lines.replace('\n', "\n    ")
    ))
}

#[test]
fn the_sample_is_read() {
    let sample =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/samples/admission/profiles.yaml");
    let profiles = load_profiles(Document::File(sample)).unwrap();
    let default = &profiles.0["default"];
    assert_eq!(
        (
            default.port,
            default.admin_port,
            default.uid,
            default.native
        ),
        (64117, 64116, 64117, true)
    );
    assert_eq!(
        default.token,
        TokenSource::Aks {
            identity_binding: false
        }
    );
    assert_eq!(
        default.rewrite[1].credential,
        RewriteCredential::Scope("api://inventory/.default".into())
    );
    assert_eq!(
        serde_json::Value::Object(default.resources.clone()),
        serde_json::json!({"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}})
    );
    let keycloak = &profiles.0["keycloak"];
    let TokenSource::Projected {
        audience,
        expiration,
        env,
    } = &keycloak.token
    else {
        panic!("{keycloak:?}")
    };
    assert_eq!(
        (audience.as_str(), *expiration, env.len()),
        ("https://sso.example.com/realms/shop", 1800, 0)
    );
    assert_eq!(
        keycloak.rewrite[0].credential,
        RewriteCredential::Named("shop".into())
    );
    assert_eq!(profiles.0["file"].rewrite[0].port, Some(8081));
    assert!(
        matches!(&profiles.0["file"].config, SidecarConfig::ConfigMap { name, key } if name == "token-sidecar" && key == "config.yaml")
    );
}

/// The API server refuses a pod whose request is above its limit.
#[test]
fn a_default_request_gives_way_to_a_limit_and_a_said_one_is_refused() {
    let text = |resources: &str| {
        format!(
            "profiles:\n  default:\n    image: x\n    token: {{aks: {{}}}}\n    rewrite: [{{variable: A, scope: x/.default}}]\n    resources: {resources}\n"
        )
    };
    let lowered = profiles(&text("{limits: {memory: 16Mi, cpu: 5m}}")).unwrap();
    assert_eq!(
        serde_json::Value::Object(lowered.0["default"].resources.clone()),
        serde_json::json!({"requests": {"cpu": "5m", "memory": "16Mi"}, "limits": {"memory": "16Mi", "cpu": "5m"}})
    );
    assert_eq!(
        profiles(&text("{requests: {memory: 256Mi}}")).unwrap_err(),
        "p.yaml:6:36: profiles.default.resources.requests.memory: 256Mi is above the limit 128Mi, and Kubernetes refuses such a pod; lower it, or raise `limits.memory`"
    );
}

#[test]
fn everything_wrong_is_said_in_one_run_with_its_place() {
    let text = "\
profiles:
  default:
    imag: x
    token: {}
    port: 80
    resources: {limits: {memory: 64MB, gpu: 1}}
    annotations: [imagee]
    rewrite:
      - {variable: 1X, scope: x/.default}
      - {variable: A, scope: User.Read}
      - {variable: B}
";
    let expected = "\
p.yaml:3:5: profiles.default.image: missing; it has no default
p.yaml:3:5: profiles.default.imag: unknown key; did you mean `image`?
p.yaml:4:12: profiles.default.token: incomplete; give one of aks, projected
p.yaml:5:11: profiles.default.port: not a port from 1024 to 65535; write one in digits
p.yaml:6:34: profiles.default.resources.limits.memory: not an amount; write one such as 20m or 1 (cpu), 64Mi or 1Gi (memory)
p.yaml:6:40: profiles.default.resources.limits.gpu: unknown key; did you mean `cpu`?
p.yaml:7:19: profiles.default.annotations[0]: not an annotation of ours; did you mean `image`?
p.yaml:9:20: profiles.default.rewrite[0].variable: not a variable's name; write one such as BACKEND_API_URL
p.yaml:10:30: profiles.default.rewrite[1].scope: does not end in `/.default`; an application gets all that it was granted: write `RESOURCE/.default`, such as https://management.azure.com/.default
p.yaml:11:9: profiles.default.rewrite[2]: incomplete; give one of scope, credential";
    let errors = profiles(text).unwrap_err();
    let mut told: Vec<&str> = errors.lines().collect();
    let mut wanted: Vec<&str> = expected.lines().collect();
    told.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(told, wanted, "{errors}");
}

#[test]
fn what_does_not_fit_together() {
    for (lines, expected) in [
        (
            "rewrite: [{variable: A, scope: x/.default, credential: y}]",
            "p.yaml:5:60: profiles.default.rewrite[0].credential: stands beside `scope`; give one of them",
        ),
        (
            "rewrite: [{variable: A, scope: x/.default}, {variable: A, scope: x/.default}]",
            "p.yaml:5:60: profiles.default.rewrite[1].variable: is rewritten by an earlier entry already; name the `containers` of each, or remove one",
        ),
        (
            "configMap: {name: m}\nroutes: []",
            "p.yaml:6:13: profiles.default.routes: stands beside `configMap`, which has the whole configuration; put it in there",
        ),
        (
            "configMap: {name: m}\nrewrite: [{variable: A}]",
            "p.yaml:6:15: profiles.default.rewrite[0].port: missing; with `configMap` it is needed: the port that the configuration there serves this upstream on",
        ),
        (
            "configMap: {name: m}\nrewrite: [{variable: A, port: 8081, scope: x/.default}]",
            "p.yaml:6:48: profiles.default.rewrite[0].scope: stands beside `configMap`, which says so itself; take it out",
        ),
        (
            "adminPort: 64117\nrewrite: [{variable: A, scope: x/.default}]",
            "p.yaml:5:16: profiles.default.adminPort: is the first listener's port (`port`) too; choose another",
        ),
    ] {
        assert_eq!(with_profile(lines).unwrap_err(), expected);
    }
    assert_eq!(
        profiles("profiles: {a: {image: i, token: {aks: {x: 1}}}}").unwrap_err(),
        "p.yaml:1:40: profiles.a.token.aks.x: unknown key; known here: identityBinding"
    );
    assert_eq!(
        profiles("{}").unwrap_err(),
        "p.yaml:1:1: profiles: no profile; add one, such as `default`"
    );
}

#[test]
fn the_forward_proxy_is_read() {
    let read = |lines: &str| with_profile(lines).unwrap().0["default"].proxy.clone();
    assert_eq!(read("uid: 1000"), []);
    assert_eq!(
        read("httpsProxy: http://proxy.example:3128\nnoProxy: 'sts.example, 10.0.0.0/8'"),
        [
            ("HTTPS_PROXY", "http://proxy.example:3128".to_owned()),
            ("NO_PROXY", "sts.example, 10.0.0.0/8".to_owned()),
        ]
    );
    for (value, expected) in [
        (
            "http://me:hunter2@proxy.example:3128",
            "has a user or a password, which would stand in every pod; use a proxy that asks for none",
        ),
        (
            "proxy.example:3128",
            "not a proxy's URL; write one such as http://proxy.example.com:3128",
        ),
        (
            "http://@proxy.example:3128",
            "has a user or a password, which would stand in every pod; use a proxy that asks for none",
        ),
        (
            "http://proxy.example:3128/pac",
            "has a path, query or fragment, which no proxy is asked with; write scheme, host and port alone",
        ),
        (
            "http://proxy.example:3128?a",
            "has a path, query or fragment, which no proxy is asked with; write scheme, host and port alone",
        ),
        (
            "http://proxy.example:3128#a",
            "has a path, query or fragment, which no proxy is asked with; write scheme, host and port alone",
        ),
        (
            "http://proxy.example:0",
            "names port 0, where nothing listens; write the proxy's",
        ),
        (
            "socks5://proxy.example",
            "not a proxy's URL; write one such as http://proxy.example.com:3128",
        ),
    ] {
        assert_eq!(
            with_profile(&format!("httpsProxy: {value}")).unwrap_err(),
            format!("p.yaml:5:17: profiles.default.httpsProxy: {expected}")
        );
    }
}

#[test]
fn identity_bindings_and_mounts_are_read() {
    let read = |lines: &str| with_profile(lines).unwrap().0["default"].clone();
    let text = "mounts:\n- {path: /etc/orders-ca, configMap: orders-ca}\n- {path: /etc/sts, secret: sts-client}";
    let mount = |path: &str, source| Mount {
        source,
        path: path.into(),
    };
    assert_eq!(
        read(text).mounts,
        [
            mount("/etc/orders-ca", MountSource::ConfigMap("orders-ca".into())),
            mount("/etc/sts", MountSource::Secret("sts-client".into())),
        ]
    );
    assert_eq!(read("mounts:").mounts, []);
    for (lines, expected) in [
        (
            "mounts: [{configMap: a}]",
            "p.yaml:5:14: profiles.default.mounts[0].path: missing; it has no default",
        ),
        (
            "mounts: [{path: /a}]",
            "p.yaml:5:14: profiles.default.mounts[0]: incomplete; give one of configMap, secret",
        ),
        (
            "mounts: [{path: /a, configMap: a, secret: b}]",
            "p.yaml:5:47: profiles.default.mounts[0].secret: stands beside `configMap`; give one of them",
        ),
        (
            "mounts: [{path: /a, hostPath: /}]",
            "p.yaml:5:14: profiles.default.mounts[0]: incomplete; give one of configMap, secret\n\
             p.yaml:5:25: profiles.default.mounts[0].hostPath: unknown key; known here: path, configMap, secret",
        ),
        (
            "mounts: [{path: /a/b, secret: a}, {path: /a, secret: b}]",
            "p.yaml:5:46: profiles.default.mounts[1].path: would cover /a/b or be covered by it, which is mounted, too; choose another",
        ),
        (
            "mounts: [{path: /etc/token-sidecar, secret: a}]",
            "p.yaml:5:21: profiles.default.mounts[0].path: would cover /etc/token-sidecar or be covered by it; write a directory that is nobody's yet, such \
             as /etc/orders-ca",
        ),
    ] {
        let errors = with_profile(lines).unwrap_err();
        let mut told: Vec<&str> = errors.lines().collect();
        told.sort_unstable();
        assert_eq!(told.join("\n"), expected);
    }
    let with_token = |token: &str| {
        let always = "entraClientAssertion: {scope: x/.default, identityBinding: always}";
        profiles(&format!(
            "profiles: {{a: {{image: i, token: {token}, credentials: {{c: {{{always}}}}}}}}}"
        ))
    };
    let bound = with_token("{aks: {identityBinding: true}}").unwrap();
    assert_eq!(
        bound.0["a"].token,
        TokenSource::Aks {
            identity_binding: true
        }
    );
    for token in ["{aks: {}}", "{aks: {identityBinding: false}}"] {
        let error = with_token(token).unwrap_err();
        assert!(
            error.contains("AZURE_KUBERNETES_TOKEN_PROXY is not set"),
            "{error}"
        );
    }
    let error = with_token("{projected: {identityBinding: true}}").unwrap_err();
    assert!(error.contains("identityBinding: unknown key"), "{error}");
}

/// `credentials` and `routes` are the sidecar's own, and checked as such, in their place.
#[test]
fn the_sidecars_own_parts_are_checked() {
    assert_eq!(
        with_profile("credentials:\n  a: {entraClientAssertion: {scop: x/.default}}\nroutes:\n- {name: r, upstream: http://u.example, credential: b}").unwrap_err(),
        "\
p.yaml:6:33: profiles.default.credentials.a.entraClientAssertion.scope: missing; it has no default
p.yaml:6:34: profiles.default.credentials.a.entraClientAssertion.scop: unknown key; did you mean `scope`?
p.yaml:8:27: profiles.default.routes[0].upstream: plain http off loopback; the access token would travel in the clear: use https://, or set `allowInsecureHttp: true` beside it
p.yaml:8:57: profiles.default.routes[0].credential: no credential is named `b`; did you mean `a`?"
    );
    // So is what stands for a rewritten variable; the route before it is the profile's own.
    assert_eq!(
        with_profile("adminPort: 7000\ncredentials:\n  a: {entraClientAssertion: {scope: x/.default}}\nroutes:\n- {name: r, match: {host: r.example}, upstream: https://u.example, credential: a}\nrewrite:\n- {variable: A, upstream: http://a.example, credential: a}\n- {variable: B, port: 7000, credential: a}").unwrap_err(),
        "\
p.yaml:11:31: profiles.default.rewrite[0].upstream: plain http off loopback; the access token would travel in the clear: use https://, or set `allowInsecureHttp: true` beside it
p.yaml:12:27: profiles.default.rewrite[1].port: takes the admin listener's place ([::]:7000); choose another port"
    );
    // Another key that a message names is the profile's, too.
    assert_eq!(
        with_profile("credentials: {a: {entraClientAssertion: {scope: x/.default}}}\nroutes:\n- {name: r, upstream: https://u.example, credential: a}\n- {name: s, upstream: https://u.example, credential: a}").unwrap_err(),
        "p.yaml:8:7: profiles.default.routes[1]: matches the same requests as profiles.default.routes[0]: same listener, host, path prefix and methods; change one of them"
    );
    // What annotations may still bring is no error.
    with_profile("rewrite: [{variable: A, credential: mine}]").unwrap();
    with_profile("credentials: {a: {entraClientAssertion: {scope: x/.default}}}").unwrap();
    with_profile("native: true").unwrap();
}

/// A credential that no pod can bring is an error, and one that looks like a slip a warning.
#[test]
fn a_rewrites_credential_that_the_profile_does_not_have() {
    let of = |credential: &str, annotations: &str| {
        let text = format!(
            "profiles:\n  a:\n    image: i\n    token: {{aks: {{}}}}\n    credentials: {{kc: {{entraClientAssertion: {{scope: x/.default}}}}, unused: {{entraClientAssertion: {{scope: x/.default}}}}}}\n    \
             rewrite: [{{variable: A, credential: {credential}}}]\n{annotations}"
        );
        let name = "p.yaml".into();
        let loaded = load(Document::Text { name, text });
        loaded.map(|l| l.warnings).map_err(|e| e.to_string())
    };
    let place = "p.yaml:6:41: profiles.a.rewrite[0].credential: no credential is named";
    assert_eq!(
        of("kc3", "    annotations: [image, routes]\n"),
        Err(format!(
            "{place} `kc3`, and no pod can bring it; did you mean `kc`?; declare it under `credentials`, or add credentials to `annotations`"
        ))
    );
    for open in ["", "    annotations: [credentials]\n"] {
        assert_eq!(
            of("kc3", open),
            Ok(vec![format!(
                "{place} `kc3`, so each pod must bring it by annotation; did you mean `kc`?"
            )])
        );
        assert_eq!(of("orders", open), Ok(vec![]));
    }
    assert_eq!(of("kc", "    annotations: []\n"), Ok(vec![]));
}

/// Neither names that were made up for rewrites are offered, nor keys that a profile does not have.
#[test]
fn mends_are_of_the_profile() {
    let own = "credentials: {orders: {entraClientAssertion: {scope: x/.default}}}\nroutes:\n";
    let rewrite = "rewrite: [{variable: A, scope: x/.default}]";
    assert_eq!(
        with_profile(&format!("{own}- {{name: r, listen: '127.0.0.1:7000', upstream: https://u.example, credential: nope}}\n{rewrite}")).unwrap_err(),
        "p.yaml:7:84: profiles.default.routes[0].credential: no credential is named `nope`; known here: orders"
    );
    assert_eq!(
        with_profile(&format!("{own}- {{name: r, listen: '0.0.0.0:7000', upstream: https://u.example, credential: orders}}\n{rewrite}")).unwrap_err(),
        "p.yaml:7:25: profiles.default.routes[0].listen: not a loopback address; whoever reaches it would use the pod's identity: listen on 127.0.0.1 or [::1]"
    );
}

/// Without AKS nobody but the profile says the ids, and the mend is there.
#[test]
fn a_token_of_the_profiles_own_comes_with_its_ids() {
    let own = "profiles:\n  a:\n    image: i\n    token: {projected: {}}\n    rewrite: [{variable: A, credential: b}, {variable: B, scope: x/.default}]\n";
    assert_eq!(
        profiles(own).unwrap_err(),
        "\
p.yaml:4:12: profiles.a.token.projected.clientId: missing; Entra wants it beside the scope of `rewrite[1]`: write the client id of the app registration or managed identity
p.yaml:4:12: profiles.a.token.projected.tenantId: missing; Entra wants it beside the scope of `rewrite[1]`: write the tenant's id or one of its domains"
    );
    profiles(&own.replace("projected: {}", "projected: {clientId: c, tenantId: t}")).unwrap();
    // A credential can have its own.
    let credential = "profiles:\n  a:\n    image: i\n    token: {projected: {tenantId: t}}\n    credentials:\n      b: {entraClientAssertion: {scope: x/.default}}\n";
    assert_eq!(
        profiles(credential).unwrap_err(),
        "p.yaml:6:33: profiles.a.credentials.b.entraClientAssertion.clientId: missing, and the profile has no `token.projected.clientId`; give one of them"
    );
    profiles(&credential.replace("scope:", "clientId: c, scope:")).unwrap();
}

fn check_with(text: &str, variables: &[(&str, &str)], projected: bool) -> Result<(), String> {
    let variables = variables.iter();
    let environment = Environment {
        variables: variables
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect(),
        projected,
        files: Files::of(&with_profile("native: true").unwrap().0["default"]),
    };
    check(text, &environment).map_err(|faults| {
        let told = faults.iter().map(|f| format!("{}: {}", f.path, f.message));
        told.collect::<Vec<_>>().join("\n")
    })
}

/// So it is when a pod's annotations bring the credential; with AKS' token the mend is AKS' webhook's.
#[test]
fn a_pods_own_credential_is_told_the_profiles_mend() {
    let text = r#"{"credentials":{"a":{"entraAgentIdentity":{"scope":"x/.default","agentIdentityClientId":"i","tenantId":"t"}}},"routes":[{"name":"r","upstream":"https://u.example","credential":"a"}]}"#;
    let said = |projected| {
        check_with(text, &[("AZURE_FEDERATED_TOKEN_FILE", "/t")], projected).unwrap_err()
    };
    assert_eq!(
        said(true),
        "credentials.a.entraAgentIdentity.blueprintClientId: missing, and the profile has no `token.projected.clientId`; give one of them"
    );
    let aks = "AZURE_CLIENT_ID is not set; give one of them: the AKS workload identity webhook";
    assert!(said(false).contains(aks), "{}", said(false));
}

/// What the kubelet reads is there for the routes that injection makes, and nothing else is.
#[test]
fn an_injected_sidecar_has_the_variables_of_its_rewrites_alone() {
    let mend = "an injected sidecar has no variable TOKEN_SIDECAR_UPSTREAM_X; write the URL here, or name the workload's variable in `rewrite` of the profile";
    assert_eq!(
        with_profile("credentials: {a: {entraClientAssertion: {scope: x/.default}}}\nroutes: [{name: r, upstream: {env: TOKEN_SIDECAR_UPSTREAM_X}, credential: a}]").unwrap_err(),
        format!("p.yaml:6:40: profiles.default.routes[0].upstream.env: {mend}")
    );
    let text = r#"{"credentials":{"a":{"entraClientAssertion":{"scope":"x/.default"}}},"routes":[{"name":"r","upstream":{"env":"TOKEN_SIDECAR_UPSTREAM_X"},"credential":"a"}]}"#;
    let said = check_with(text, AKS, false).unwrap_err();
    assert!(said.ends_with(mend), "{said}");
    let given = [
        AKS,
        &[("TOKEN_SIDECAR_UPSTREAM_X", "https://stands-in.invalid")],
    ];
    check_with(text, &given.concat(), false).unwrap();
}

#[test]
fn a_configuration_that_was_put_together_is_checked() {
    let config = |upstream: &str| {
        format!(
            "{{\"credentials\":{{\"a\":{{\"entraClientAssertion\":{{\"scope\":\"x/.default\"}}}}}},\"routes\":[{{\"name\":\"r\",\"upstream\":\"{upstream}\",\"credential\":\"a\"}}]}}"
        )
    };
    assert_eq!(check_with(&config("https://u.example"), AKS, false), Ok(()));
    assert_eq!(
        check_with(&config("ftp://u.example"), AKS, false),
        Err("routes[0].upstream: not a URL; begin with https://".into())
    );
    assert!(
        check_with(&config("https://u.example"), &[], false)
            .unwrap_err()
            .contains("AZURE_TENANT_ID is not set")
    );
}

/// Not by a file but by a variable: what injection does.
#[test]
fn the_text_may_stand_in_the_environment() {
    let text = "credentials: {a: {entraClientAssertion: {scope: x/.default}}}\nroutes: [{name: r, upstream: https://u.example, credential: a}]";
    let with = |more: &[(&str, &str)]| {
        load_from(
            Source::default(),
            &[AKS, &[("TOKEN_SIDECAR_CONFIG_TEXT", text)], more].concat(),
        )
    };
    assert_eq!(with(&[]).unwrap().file, None);
    assert_eq!(
        with(&[("TOKEN_SIDECAR_CONFIG", "/c.yaml")]).unwrap_err(),
        "TOKEN_SIDECAR_CONFIG_TEXT: stands beside TOKEN_SIDECAR_CONFIG; give one of them"
    );
    let broken = load_from(
        Source::default(),
        &[("TOKEN_SIDECAR_CONFIG_TEXT", "lisen: x")],
    )
    .unwrap_err();
    assert!(
        broken
            .contains("TOKEN_SIDECAR_CONFIG_TEXT:1:1: lisen: unknown key; did you mean `listen`?"),
        "{broken}"
    );
}
