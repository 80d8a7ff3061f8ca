//! Slips in a profile that would show in the pod alone: files that nothing brings, names that Kubernetes does not take, another authority's audience.

use super::{
    super::profiles::{Loaded, check, load},
    profiles::{profiles, with_profile},
    *,
};
use crate::admission::{check::Environment, files::Files};

fn loaded(text: &str) -> Result<Loaded, String> {
    let (name, text) = ("p.yaml".into(), text.into());
    load(Document::Text { name, text }).map_err(|e| e.to_string())
}

/// Every key that is a file's path, in credentials and routes, whatever the grant.
#[test]
fn files_that_nothing_mounts_are_told_in_their_place() {
    let lines = "\
mounts: [{path: /etc/sts, secret: sts}]
credentials:
  a:
    clientCredentials:
      tokenEndpoint: https://sts.example/token
      caFile: /etc/ca/ca.pem
      clientAuthentication: {clientSecretBasic: {clientId: c, clientSecretFile: /etc/sts/secret}}
  b:
    clientCredentials:
      tokenEndpoint: https://sts.example/token
      parameters: {file: x}
      clientAuthentication: {privateKeyJwt: {clientId: c, algorithm: ES256, keyFile: /etc/stss/key}}
  c: {staticSecret: {file: secret}}
routes:
- {name: r, match: {host: r.example}, upstream: https://u.example, credential: a, upstreamCaFile: /etc/sts}
- {name: s, match: {host: s.example}, upstream: https://u.example, credential: b, upstreamCaFile: /etc/orders/ca.pem}";
    let told = with_profile(lines).unwrap_err();
    let brings = |file: &str, parent: &str| {
        format!(
            "nothing that the profile mounts brings {file} (mounted: /etc/sts), so the sidecar would not find it; add `{{path: {parent}, configMap: NAME}}` (or \
             `secret: NAME`) to the profile's `mounts`"
        )
    };
    let expected = [
        format!(
            "p.yaml:10:19: profiles.default.credentials.a.clientCredentials.caFile: {}",
            brings("/etc/ca/ca.pem", "/etc/ca")
        ),
        format!(
            "p.yaml:16:90: profiles.default.credentials.b.clientCredentials.clientAuthentication.privateKeyJwt.keyFile: {}",
            brings("/etc/stss/key", "/etc/stss")
        ),
        "p.yaml:17:32: profiles.default.credentials.c.staticSecret.file: secret is not an absolute path without `..`; name it by a path in one of the \
         profile's `mounts`, such as `{path: /etc/orders-ca, configMap: NAME}` (or `secret: NAME`)"
            .to_owned(),
        "p.yaml:19:103: profiles.default.routes[0].upstreamCaFile: /etc/sts is the directory of a mount; add the key that is the file, such as \
         /etc/sts/ca.pem"
            .to_owned(),
        format!(
            "p.yaml:20:103: profiles.default.routes[1].upstreamCaFile: {}",
            brings("/etc/orders/ca.pem", "/etc/orders")
        ),
    ];
    assert_eq!(told.lines().collect::<Vec<_>>(), expected, "{told}");
}

/// A path where an image has its own is right or not as the image is: it is worth a word.
#[test]
fn a_file_of_the_image_is_warned_of() {
    let text = "profiles:\n  a:\n    image: i\n    token: {aks: {}}\n    credentials: {c: {entraClientAssertion: {scope: x/.default, caFile: /usr/share/ca.pem}}}\n";
    let told = loaded(text).unwrap().warnings;
    assert_eq!(
        told,
        [
            "p.yaml:5:73: profiles.a.credentials.c.entraClientAssertion.caFile: /usr/share/ca.pem is nothing that the profile mounts, so it must be in the \
          sidecar's image; if it is not, name it by a path in one of the profile's `mounts`, such as `{path: /etc/orders-ca, configMap: NAME}` (or `secret: NAME`)"
        ]
    );
    let of_the_project = text.replace("/usr/share/ca.pem", "/etc/ssl/certs/ca-certificates.crt");
    assert_eq!(loaded(&of_the_project).unwrap().warnings, [""; 0]);
}

/// What an annotation brings is checked as the profile's own.
#[test]
fn files_of_a_configuration_that_was_put_together_are_looked_for() {
    let profile = with_profile("mounts: [{path: /etc/ca, configMap: ca}]").unwrap();
    let environment = Environment {
        variables: (AKS.iter().map(|(n, v)| ((*n).into(), (*v).into()))).collect(),
        projected: false,
        files: Files::of(&profile.0["default"]),
    };
    let text = |file: &str| {
        format!(
            r#"{{"credentials":{{"a":{{"entraClientAssertion":{{"scope":"x/.default","caFile":"{file}"}}}}}},"routes":[{{"name":"r","upstream":"https://u.example","credential":"a"}}]}}"#
        )
    };
    assert_eq!(check(&text("/etc/ca/ca.pem"), &environment), Ok(()));
    let faults = check(&text("/etc/other/ca.pem"), &environment).unwrap_err();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!(faults[0].path, "credentials.a.entraClientAssertion.caFile");
    assert!(
        faults[0]
            .message
            .contains("brings /etc/other/ca.pem (mounted: /etc/ca)"),
        "{faults:?}"
    );
}

#[test]
fn the_default_audience_is_for_entra_alone() {
    let text = |token: &str| {
        format!(
            "profiles:\n  a:\n    image: i\n    token: {{projected: {token}}}\n    credentials:\n      entra: {{entraClientAssertion: {{scope: x/.default, clientId: c, tenantId: t}}}}\n      \
             shop:\n        tokenExchange:\n          tokenEndpoint: https://sso.example/token\n          audience: [orders]\n          clientAuthentication: {{none: {{}}}}\n"
        )
    };
    let expected = "p.yaml:4:12: profiles.a.token.projected.audience: missing; its default, api://AzureADTokenExchange, is Entra's, but the credential `shop` shows \
                    the token to sso.example: write the audience that is wanted there, such as the issuer's URL, or the default itself if it is that";
    assert_eq!(profiles(&text("{}")).unwrap_err(), expected);
    assert_eq!(profiles(&text("{expiration: 30m}")).unwrap_err(), expected);
    profiles(&text("{audience: https://sso.example}")).unwrap();
    profiles(&text("{audience: api://AzureADTokenExchange}")).unwrap();
    // So does a token that proves the client; one that nobody but Entra sees is Entra's.
    let assertion = text("{}")
        .replace(
            "none: {}",
            "clientAssertion: {subjectToken: pod, clientId: c}",
        )
        .replace("tokenExchange:", "clientCredentials:")
        .replace("          audience: [orders]\n", "");
    assert_eq!(profiles(&assertion).unwrap_err(), expected);
    let secret = assertion.replace(
        "clientAssertion: {subjectToken: pod, clientId: c}",
        "clientSecretPost: {clientId: c, clientSecretFile: /etc/sts/secret}",
    );
    profiles(&format!(
        "{secret}    mounts: [{{path: /etc/sts, secret: sts}}]\n"
    ))
    .unwrap();
}

#[test]
fn names_are_such_as_kubernetes_takes() {
    let object = "not a name that a ConfigMap or Secret can have (at most 253 of a-z, 0-9, `-` and `.`, each part begun and ended by a letter or digit); write the \
                  name, such as orders-ca";
    let boolean = "a boolean, where a name belongs; write the name, such as orders-ca";
    let long = "a".repeat(254);
    for (name, expected) in [
        ("on", boolean),
        ("true", boolean),
        ("No", boolean),
        ("Orders", object),
        ("orders_ca", object),
        ("-orders", object),
        ("orders-", object),
        ("orders..ca", object),
        ("orders.-ca", object),
        ("shop/orders", object),
        (long.as_str(), object),
    ] {
        for (lines, place) in [
            (
                format!("mounts: [{{path: /a, configMap: {name}}}]"),
                "5:36: profiles.default.mounts[0].configMap",
            ),
            (
                format!("mounts: [{{path: /a, secret: {name}}}]"),
                "5:33: profiles.default.mounts[0].secret",
            ),
            (
                format!("configMap: {{name: {name}}}"),
                "5:23: profiles.default.configMap.name",
            ),
        ] {
            assert_eq!(
                with_profile(&lines).unwrap_err(),
                format!("p.yaml:{place}: {expected}")
            );
        }
    }
    let many = ["a"; 127].join(".");
    for good in ["7", "orders-ca.v1", "a", "kube-root-ca.crt", many.as_str()] {
        with_profile(&format!("mounts: [{{path: /a, configMap: {good}}}]")).unwrap();
    }
    for (key, good) in [
        ("config.yaml", true),
        ("Config_1", true),
        (".config", true),
        ("..config", false),
        ("a/b", false),
        (".", false),
    ] {
        assert_eq!(
            with_profile(&format!("configMap: {{name: m, key: {key}}}")).is_ok(),
            good,
            "{key}"
        );
    }
    let container = "p.yaml:5:52: profiles.default.rewrite[0].containers[0]: not a name that a container can have (at most 63 of a-z, 0-9 and `-`, begun and ended by a \
                     letter or digit); write it as the pod has it";
    for name in ["App", "app_1", "a.b", "on"] {
        let lines = format!("rewrite: [{{variable: A, scope: x/.default, containers: [{name}]}}]");
        assert_eq!(
            with_profile(&lines).unwrap_err().replace("5:61", "5:52"),
            container,
            "{name}"
        );
    }
}

#[test]
fn annotations_without_a_value_mean_nothing() {
    assert_eq!(
        with_profile("annotations:").unwrap_err(),
        "p.yaml:5:16: profiles.default.annotations: has no value; write `[]` for none, or remove the key for all"
    );
    assert_eq!(
        with_profile("annotations: []").unwrap().0["default"].annotations,
        Some(vec![])
    );
}

/// It goes into one variable of the sidecar's, and Linux has a bound for those.
#[test]
fn a_configuration_that_no_variable_can_hold() {
    let with = |length: usize| {
        let scope = "x".repeat(length);
        with_profile(&format!(
            "credentials: {{a: {{entraClientAssertion: {{scope: {scope}/.default}}}}}}"
        ))
    };
    with(130_000).unwrap();
    assert_eq!(
        with(131_072).unwrap_err(),
        "p.yaml:3:5: profiles.default: `credentials` and `routes` are 129 KiB, and a sidecar can be given 128 KiB of them at most; put them into a ConfigMap, and \
         name it in `configMap`"
    );
}

#[test]
fn amounts_whose_unit_is_another_resources() {
    for (resources, expected) in [
        (
            "{limits: {memory: 128}}",
            "p.yaml:5:34: profiles.default.resources.limits.memory: 128 bytes, with which nothing runs; write 128Mi",
        ),
        (
            "{requests: {cpu: 100Mi}}",
            "p.yaml:5:33: profiles.default.resources.requests.cpu: not an amount of CPUs; write one such as 20m or 1",
        ),
    ] {
        assert_eq!(
            with_profile(&format!("resources: {resources}")).unwrap_err(),
            expected
        );
    }
    with_profile("resources: {limits: {memory: 134217728, cpu: 0.5}}").unwrap();
}

#[test]
fn an_image_is_one_that_a_kubelet_takes() {
    assert_eq!(
        profiles("profiles: {a: {image: 'https://ghcr.io/a', token: {aks: {}}}}").unwrap_err(),
        "p.yaml:1:23: profiles.a.image: a URL, where an image's name belongs, which has no scheme; write one such as registry.example.com/token-sidecar:0.1.0"
    );
}

#[test]
fn a_manifest_is_no_profiles_file() {
    assert_eq!(
        profiles("apiVersion: v1\nkind: ConfigMap\ndata: {profiles.yaml: ''}\n").unwrap_err(),
        "p.yaml:2:7: a manifest, not a profiles file; give what a ConfigMap has under its key, such as `profiles.yaml`: `profiles:` and what follows"
    );
}
