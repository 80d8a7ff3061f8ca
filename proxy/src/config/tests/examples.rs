//! Configurations that are right, and what they become.

use super::*;

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/samples/config")
}

pub(super) fn sample(name: &str) -> Config {
    let source = Source {
        document: Some(Document::File(samples().join(name))),
        ..Source::default()
    };
    let own = (
        "TOKEN_SIDECAR_UPSTREAM_PUBLIC",
        "http://public.example.com\n",
    );
    load_from(source, &[AKS, &[own]].concat()).unwrap()
}

#[test]
fn every_example_loads_without_a_warning() {
    let mut read = 0;
    for entry in std::fs::read_dir(samples()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert_eq!(sample(&name).warnings, [""; 0], "{name}");
        read += 1;
    }
    assert!(read >= 4, "{read} examples");
}

#[test]
fn json_means_the_same_as_yaml() {
    let (yaml, json) = (sample("minimal.yaml"), sample("minimal.json"));
    assert_eq!(Config { file: None, ..yaml }, Config { file: None, ..json });
}

#[test]
fn everything_has_an_effect() {
    let config = sample("everything.yaml");
    assert_eq!(config.admin.to_string(), "127.0.0.1:19090");
    assert_eq!(config.workers.map(NonZeroUsize::get), Some(2));
    assert_eq!(
        (config.log.level.as_str(), config.log.format),
        ("token_sidecar=debug,info", LogFormat::Text)
    );
    let s = Duration::from_secs;
    assert_eq!(
        config.shutdown,
        ShutdownParams {
            delay: s(3),
            deadline: s(60)
        }
    );
    assert_eq!(config.file, Some(samples().join("everything.yaml")));

    let request = &config.request;
    let listeners: Vec<_> = request.listeners.iter().map(ToString::to_string).collect();
    assert_eq!(
        listeners,
        [
            "127.0.0.1:18080",
            "127.0.0.1:18081",
            "unix:/run/token-sidecar/post.sock"
        ]
    );
    assert!(request.allow_remote_peers);
    assert_eq!(request.allowed_hosts, ["orders.internal"]);
    assert_eq!(request.allowed_origins, ["http://localhost:6274"]);
    let l = request.limits;
    assert_eq!(
        (
            l.max_connections,
            l.max_requests,
            l.max_header_bytes,
            l.max_header_fields,
            l.max_uri_bytes
        ),
        (1000, 2000, 16384, 50, 4096)
    );
    assert_eq!((l.header_read_timeout, l.keep_alive_timeout), (s(2), s(90)));

    let orders = &request.routes[1];
    assert_eq!((&*orders.name, &*orders.credential), ("orders", "orders"));
    assert_eq!(orders.listen.to_string(), "127.0.0.1:18080");
    assert_eq!(
        (orders.host.as_deref(), orders.path_prefix.as_str()),
        (Some("orders.example.com"), "/v1")
    );
    assert_eq!(
        orders.methods,
        Some(vec![http::Method::GET, http::Method::POST])
    );
    let u = &orders.upstream;
    assert_eq!(
        (u.tls, u.host.as_str(), u.port, u.base_path.as_str()),
        (true, "10.1.2.3", 8443, "/api")
    );
    assert_eq!(
        (u.http, u.server_name.as_deref()),
        (HttpVersions::Http2, Some("orders.example.com"))
    );
    assert_eq!(u.ca_file.as_deref(), Some(Path::new("/etc/orders/ca.pem")));
    assert_eq!(
        (u.max_connections, u.max_idle_connections, u.idle_timeout),
        (10, 5, s(30))
    );
    assert!(u.allow_insecure_http && !orders.upgrades);
    let t = orders.timeouts;
    assert_eq!((t.connect, t.response_header, t.idle), (s(1), s(2), s(3)));
    assert_eq!(
        (
            orders.token_wait,
            orders.replay_buffer,
            orders.max_request_body
        ),
        (s(0), 0, Some(1 << 30))
    );
    assert_eq!(
        orders.strip_request_headers,
        ["x-ms-token-aad-access-token"]
    );
    assert_eq!(orders.strip_response_headers, ["set-cookie"]);
    assert_eq!(request.routes[3].upstream.host, "::1");

    let token = &config.token;
    let subjects: Vec<_> = token
        .subject_tokens
        .iter()
        .map(|t| (&*t.name, t.file.display().to_string()))
        .collect();
    assert_eq!(
        subjects,
        [
            (
                "pod",
                "/var/run/secrets/azure/wi/token/azure-identity-token".into()
            ),
            ("agent", "/var/run/secrets/agent/token".into())
        ]
    );
    let GrantParams::EntraClientAssertion(arm) = &token.credentials[0].grant else {
        panic!()
    };
    assert_eq!(token.credentials[0].exchange_timeout, s(5));
    assert_eq!(
        arm.tenant.authority_host.as_str(),
        "https://login.microsoftonline.us/"
    );
    assert_eq!(arm.tenant.tenant_id, "72f988bf-86f1-41af-91ab-2d7cd011db47");
    assert_eq!(arm.client_id, "11111111-2222-3333-4444-555555555555");
    assert_eq!(
        (arm.scope.as_str(), &*arm.subject_token),
        ("https://management.azure.com/.default", "pod")
    );
    assert_eq!(
        arm.tenant.authority.ca_file.as_deref(),
        Some(Path::new("/etc/authority/ca.pem"))
    );
    let GrantParams::TokenExchange(orders) = &token.credentials[1].grant else {
        panic!()
    };
    assert_eq!(
        orders.endpoint.url.as_str(),
        "https://sts.example.com/token"
    );
    assert_eq!(
        orders.subject_token_type,
        "urn:ietf:params:oauth:token-type:id_token"
    );
    assert_eq!(
        orders.requested_token_type.as_deref(),
        Some("urn:ietf:params:oauth:token-type:access_token")
    );
    assert_eq!(
        (
            orders.target.audience.as_slice(),
            orders.target.resource.as_slice()
        ),
        (
            &["orders".into(), "invoices".into()][..],
            &["https://orders.example.com".into()][..]
        )
    );
    assert_eq!(
        orders.target.scope.as_deref(),
        Some("orders.read orders.write")
    );
    let actor = orders.actor_token.as_ref().unwrap();
    assert_eq!(
        (&*actor.subject_token, actor.token_type.as_str()),
        ("agent", "urn:ietf:params:oauth:token-type:access_token")
    );
    assert_eq!(
        orders.endpoint.parameters,
        [("tenant".to_owned(), "t1".to_owned())]
    );
    assert_eq!(
        orders.endpoint.authority.ca_file.as_deref(),
        Some(Path::new("/etc/sts/ca.pem"))
    );
    let authentications: Vec<_> = token.credentials[1..]
        .iter()
        .map(|c| match &c.grant {
            GrantParams::TokenExchange(t) => t.endpoint.client_authentication.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    let client_secret_file: PathBuf = "/etc/sts/secret".into();
    assert_eq!(
        authentications,
        [
            ClientAuthentication::ClientSecretBasic {
                client_id: "a".into(),
                client_secret_file: client_secret_file.clone()
            },
            ClientAuthentication::ClientSecretPost {
                client_id: "b".into(),
                client_secret_file
            },
            ClientAuthentication::ClientAssertion {
                client_id: Some("c".into()),
                subject_token: "agent".into()
            },
            ClientAuthentication::None {
                client_id: Some("d".into())
            },
        ]
    );
}

#[test]
fn without_a_file_aks_and_two_options_are_enough() {
    let source = Source {
        document: None,
        overrides: Overrides {
            upstream: Some("https://management.azure.com".into()),
            scope: Some("https://management.azure.com/.default".into()),
            ..Overrides::default()
        },
    };
    let config = load_from(source, AKS).unwrap();
    assert_eq!(
        config.request.listeners,
        ["127.0.0.1:8080".parse().unwrap()]
    );
    assert!(!config.request.allow_remote_peers);
    assert_eq!(config.admin.to_string(), "[::]:9090");
    let route = &config.request.routes[0];
    assert_eq!(
        (
            &*route.name,
            &*route.credential,
            route.upstream.host.as_str()
        ),
        ("default", "default", "management.azure.com")
    );
    assert_eq!(&*config.token.credentials[0].name, "default");
    let subject = &config.token.subject_tokens[0];
    assert_eq!(
        (&*subject.name, subject.file.as_path()),
        (
            "pod",
            Path::new("/var/run/secrets/azure/wi/token/azure-identity-token")
        )
    );
    assert_eq!(
        (
            config.token.credentials.len(),
            config.token.subject_tokens.len(),
            config.request.routes.len()
        ),
        (1, 1, 1)
    );
    assert_eq!(
        (config.warnings, config.file, config.workers),
        (vec![], None, None)
    );

    let by_environment = [
        AKS,
        &[
            ("TOKEN_SIDECAR_UPSTREAM", "https://management.azure.com"),
            (
                "TOKEN_SIDECAR_SCOPE",
                "https://management.azure.com/.default",
            ),
        ],
    ]
    .concat();
    assert_eq!(
        load_from(Source::default(), &by_environment)
            .unwrap()
            .request,
        config.request
    );
}

#[test]
fn the_authority_host_may_end_in_a_slash() {
    let host = |value| {
        let env: Vec<_> = AKS
            .iter()
            .copied()
            .filter(|(k, _)| *k != "AZURE_AUTHORITY_HOST")
            .chain(value)
            .collect();
        let text = "credentials: {a: {entraClientAssertion: {scope: x/.default}}}\nroutes: [{name: r, upstream: https://u.example, credential: a}]";
        match &load_with(text, &env).unwrap().token.credentials[0].grant {
            GrantParams::EntraClientAssertion(e) => e.tenant.authority_host.to_string(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        host(Some((
            "AZURE_AUTHORITY_HOST",
            "https://login.chinacloudapi.cn/"
        ))),
        "https://login.chinacloudapi.cn/"
    );
    assert_eq!(
        host(Some((
            "AZURE_AUTHORITY_HOST",
            "https://login.chinacloudapi.cn"
        ))),
        "https://login.chinacloudapi.cn/"
    );
    assert_eq!(
        host(Some(("AZURE_AUTHORITY_HOST", ""))),
        "https://login.microsoftonline.com/"
    );
    assert_eq!(host(None), "https://login.microsoftonline.com/");
}

#[test]
fn options_win_over_variables_and_variables_over_the_file() {
    let text = "listen: 127.0.0.1:1\nadmin: 127.0.0.1:2\nlog: {level: error, format: json}\ncredentials: {a: {entraClientAssertion: {scope: x/.default}}}\nroutes: [{name: r, upstream: https://u.example, credential: a}]";
    let load = |overrides, env: &[(&str, &str)]| {
        let document = Some(Document::Text {
            name: "c.yaml".into(),
            text: text.into(),
        });
        load_from(
            Source {
                document,
                overrides,
            },
            &[AKS, env].concat(),
        )
        .unwrap()
    };
    let variables = [
        ("TOKEN_SIDECAR_LOG_LEVEL", "debug"),
        ("TOKEN_SIDECAR_LOG_FORMAT", "text"),
    ];
    assert_eq!(load(Overrides::default(), &[]).log.level, "error");
    let by_environment = load(Overrides::default(), &variables);
    assert_eq!(
        (by_environment.log.level.as_str(), by_environment.log.format),
        ("debug", LogFormat::Text)
    );
    let overrides = Overrides {
        listen: Some("127.0.0.1:11".into()),
        admin: Some("127.0.0.1:12".into()),
        workers: Some("3".into()),
        log_level: Some("warn".into()),
        log_format: Some("json".into()),
        ..Overrides::default()
    };
    let by_options = load(overrides, &variables);
    assert_eq!(
        (by_options.log.level.as_str(), by_options.log.format),
        ("warn", LogFormat::Json)
    );
    assert_eq!(by_options.request.listeners[0].to_string(), "127.0.0.1:11");
    assert_eq!(
        (
            by_options.admin.to_string().as_str(),
            by_options.workers.map(NonZeroUsize::get)
        ),
        ("127.0.0.1:12", Some(3))
    );
}

#[test]
fn slips_that_do_no_harm_are_warned_of() {
    let text = "subjectTokens: {spare: {file: /t}}\ncredentials:\n  a: {entraClientAssertion: {scope: x/.default}}\n  b: {entraClientAssertion: {scope: y/.default}}\nroutes: [{name: r, upstream: https://u.example, credential: a}]";
    assert_eq!(
        load_with(text, AKS).unwrap().warnings,
        [
            "c.yaml:1:17: subjectTokens.spare: no credential uses this subject token; remove it, or use it",
            "c.yaml:4:3: credentials.b: no route uses this credential; it is renewed all the same: remove it, or use it",
        ]
    );
}

#[test]
fn routes_that_differ_in_one_thing_stand_beside_one_another() {
    let route = |name: &str, rest: &str| {
        format!("- {{name: {name}, upstream: https://u.example, credential: a, {rest}}}\n")
    };
    let text = format!(
        "credentials: {{a: {{entraClientAssertion: {{scope: x/.default}}}}}}\nroutes:\n{}{}{}{}{}",
        route("r1", "match: {pathPrefix: /a, methods: [GET]}"),
        route("r2", "match: {pathPrefix: /a, methods: [POST]}"),
        route("r3", "match: {pathPrefix: /b, methods: [GET]}"),
        route(
            "r4",
            "match: {pathPrefix: /a, methods: [GET], host: h.example}"
        ),
        route(
            "r5",
            "match: {pathPrefix: /a, methods: [GET]}, listen: 127.0.0.1:8081"
        ),
    );
    let config = load_with(&text, AKS).unwrap();
    assert_eq!(
        (config.request.routes.len(), config.request.listeners.len()),
        (5, 2)
    );
}

#[test]
fn ten_thousand_routes_load() {
    let mut text =
        String::from("credentials: {a: {entraClientAssertion: {scope: x/.default}}}\nroutes:\n");
    for i in 0..10_000 {
        text.push_str(&format!("- {{name: r{i}, upstream: https://u.example, credential: a, match: {{host: h{i}.example, pathPrefix: /v{i}}}}}\n"));
    }
    assert_eq!(load_with(&text, AKS).unwrap().request.routes.len(), 10_000);
}

#[test]
fn the_tables_list_every_key_and_variable() {
    let table = keys_markdown();
    assert_eq!(table.lines().count(), reference().len() + 2);
    assert!(table.contains("\n| `routes[].timeouts.connect` | duration | `5s` | Resolve, connect and TLS together. |\n"), "{table}");
    assert!(table.contains("| `credentials.*.entraClientAssertion.tenantId` | tenant | `$AZURE_TENANT_ID` | Tenant id or domain. |"), "{table}");
    let variables = environment_markdown();
    for variable in env::VARIABLES {
        assert!(variables.contains(&format!("| `{}` |", variable.name)));
    }
}

#[test]
fn authorities_go_through_the_proxy_that_the_environment_names() {
    let proxies = |env: &[(&str, &str)]| {
        let document = Some(Document::File(samples().join("several-upstreams.yaml")));
        let source = Source {
            document,
            ..Source::default()
        };
        let config = load_from(source, &[AKS, env].concat()).unwrap();
        let proxy = |grant: &GrantParams| match grant {
            GrantParams::EntraClientAssertion(e) => e.tenant.authority.proxy.clone(),
            GrantParams::TokenExchange(t) => t.endpoint.authority.proxy.clone(),
            other => panic!("{other:?}"),
        };
        let proxies = config.token.credentials.iter().map(|c| proxy(&c.grant));
        proxies
            .map(|p| p.map(|p| p.to_string()))
            .collect::<Vec<_>>()
    };
    let through = Some("http://proxy.example:3128/".to_owned());
    assert_eq!(
        proxies(&[("HTTP_PROXY", "http://proxy.example:3128")]),
        [None, None, None]
    );
    assert_eq!(
        proxies(&[
            ("HTTPS_PROXY", "http://proxy.example:3128"),
            ("no_proxy", "sts.example.com")
        ]),
        [through.clone(), through, None]
    );
}

#[test]
fn an_at_sign_in_a_path_is_no_user_name() {
    let config = with_route("upstream: https://u.example/@team/api\ncredential: a").unwrap();
    assert_eq!(config.request.routes[0].upstream.base_path, "/@team/api");
}
