//! Where the sidecar listens for rewritten variables: never where something else of its own does, and where the workload calls.

use super::*;

/// Two variables, and where the workload is sent with each.
fn sent(profile: Profile) -> [String; 2] {
    let mut pod = pod();
    list(&mut pod["spec"]["containers"][0], "env")
        .push(json!({"name": "OTHER_URL", "value": "https://other.example"}));
    let after = injected(&pod, profile);
    ["BACKEND_API_URL", "OTHER_URL"].map(|name| {
        let value = &env(&after["spec"]["containers"][0], name)["value"];
        value.as_str().unwrap().trim_end_matches('/').to_owned()
    })
}

#[test]
fn ports_are_those_that_nothing_else_has() {
    let two = |port: u16, second: Option<u16>| Profile {
        port,
        rewrite: vec![
            rewrite("BACKEND_API_URL"),
            Rewrite {
                port: second,
                ..rewrite("OTHER_URL")
            },
        ],
        ..profile()
    };
    let at = |first: u16, second: u16| [first, second].map(|p| format!("http://127.0.0.1:{p}"));
    assert_eq!(sent(two(8080, None)), at(8080, 8081));
    // 9090 is the admin port.
    assert_eq!(sent(two(9089, None)), at(9089, 9091));
    assert_eq!(sent(two(8080, Some(8080))), at(8081, 8080));
}

/// The short form says an upstream and a scope, and nothing else.
#[test]
fn what_the_short_form_cannot_say_is_a_configuration() {
    for entry in [
        Rewrite {
            allow_insecure_http: true,
            ..rewrite("BACKEND_API_URL")
        },
        Rewrite {
            port: Some(8085),
            ..rewrite("BACKEND_API_URL")
        },
    ] {
        let insecure = entry.allow_insecure_http;
        let profile = Profile {
            rewrite: vec![entry],
            ..profile()
        };
        let after = injected(&pod(), profile);
        let sidecar = &after["spec"]["initContainers"][0];
        let text = env(sidecar, "TOKEN_SIDECAR_CONFIG_TEXT")["value"].as_str();
        let config: Value = serde_json::from_str(text.unwrap()).unwrap();
        let route = &config["routes"][0];
        let (listen, said) = match insecure {
            true => (&Value::Null, json!(true)),
            false => (&json!("127.0.0.1:8085"), Value::Null),
        };
        assert_eq!(
            (&route["listen"], &route["allowInsecureHttp"]),
            (listen, &said)
        );
    }
}

#[test]
fn init_containers_call_a_sidecar_that_is_there() {
    let mut pod = pod();
    let app = pod["spec"]["containers"][0].clone();
    let named = |name: &str, restart: Value| {
        let mut container = app.clone();
        container["name"] = name.into();
        container["restartPolicy"] = restart;
        container
    };
    pod["spec"]["initContainers"] = json!([
        named("migrate", Value::Null),
        named("other", "Always".into())
    ]);
    let kept = "https://orders.example/api/";
    let ours = "http://127.0.0.1:8080/";
    for (native, values, warned) in [(true, [ours, ours], false), (false, [kept, ours], true)] {
        let profile = Profile {
            native,
            ..profile()
        };
        let injection = with(&pod, profile).unwrap();
        let init = injection.pod()["spec"]["initContainers"]
            .as_array()
            .unwrap();
        let found = ["migrate", "other"].map(|name| {
            let container = init.iter().find(|c| c["name"] == name).unwrap();
            env(container, "BACKEND_API_URL")["value"].as_str().unwrap()
        });
        assert_eq!(found, values);
        let line = "init container migrate keeps BACKEND_API_URL: it runs before the sidecar, which is an ordinary container here";
        assert_eq!(injection.warnings, [line][..usize::from(warned)]);
    }
}
