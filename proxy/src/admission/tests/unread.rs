//! Values that only the kubelet reads, out of a ConfigMap or Secret: they move to the sidecar as variables that its configuration names, and are never put
//! into its text.

use super::*;

const NAME: &str = "TOKEN_SIDECAR_UPSTREAM_8081";

/// A pod with a URL of its own and one out of a ConfigMap, the profile that takes both, and the reference.
fn two() -> (Value, Profile, Value) {
    let mut pod = pod();
    let from = json!({"configMapKeyRef": {"name": "settings", "key": "url"}});
    pod["spec"]["containers"][0]["env"] = json!([
        {"name": "A", "value": "https://a.example/$$x"},
        {"name": "BACKEND_API_URL", "valueFrom": from},
    ]);
    let profile = Profile {
        rewrite: vec![
            Rewrite {
                upstream: Some("https://a.example/$x".into()),
                ..rewrite("A")
            },
            rewrite("BACKEND_API_URL"),
        ],
        ..profile()
    };
    (pod, profile, from)
}

fn sidecar(pod: &Value) -> &Value {
    &pod["spec"]["initContainers"][0]
}

/// What the version before put into pods: the kubelet pasted the variable's value into the text.
fn as_before(pod: &Value) -> Value {
    let mut pod = pod.clone();
    for variable in list(&mut pod["spec"]["initContainers"][0], "env") {
        if variable["name"] == "TOKEN_SIDECAR_CONFIG_TEXT" {
            let text = variable["value"].as_str().unwrap();
            let pasted = text.replace(
                &json!({ "env": NAME }).to_string(),
                &format!("\"$({NAME})\""),
            );
            assert_ne!(text, pasted);
            variable["value"] = pasted.into();
        }
    }
    pod
}

#[test]
fn one_alone_is_the_short_forms_variable() {
    let mut pod = pod();
    let from = json!({"configMapKeyRef": {"name": "settings", "key": "url"}});
    pod["spec"]["containers"][0]["env"][1] = json!({"name": "BACKEND_API_URL", "valueFrom": from});
    let after = injected(&pod, profile());
    assert_eq!(
        env(sidecar(&after), "TOKEN_SIDECAR_UPSTREAM"),
        &json!({"name": "TOKEN_SIDECAR_UPSTREAM", "valueFrom": from})
    );
    assert_eq!(
        env(&after["spec"]["containers"][0], "BACKEND_API_URL"),
        &json!({"name": "BACKEND_API_URL", "value": "http://127.0.0.1:8080"})
    );
}

#[test]
fn one_of_several_is_named_and_not_pasted() {
    let (pod, profile, from) = two();
    let after = injected(&pod, profile);
    let sidecar = sidecar(&after);
    assert_eq!(
        env(sidecar, NAME),
        &json!({"name": NAME, "valueFrom": from})
    );
    let text = env(sidecar, "TOKEN_SIDECAR_CONFIG_TEXT")["value"]
        .as_str()
        .unwrap();
    // The kubelet expands nothing in it, and a dollar of the profile's stays one.
    assert!(!text.contains("$("), "{text}");
    let config: Value = serde_json::from_str(&text.replace("$$", "$")).unwrap();
    assert_eq!(config["routes"][0]["upstream"], "https://a.example/$x");
    assert_eq!(config["routes"][1]["upstream"], json!({ "env": NAME }));
}

/// A manifest's own value is text of the configuration, whatever it says.
#[test]
fn a_plain_value_stays_within_its_quotes() {
    let (mut pod, mut profile, _) = two();
    profile.rewrite[0].upstream = None;
    for value in [
        "https://a.example\", \"credential\": \"other",
        "https://a.example\n}], \"routes\": [",
        "https://a.example/{env: HOME}",
        "https://read-by-the-kubelet-8081.invalid",
    ] {
        pod["spec"]["containers"][0]["env"][0]["value"] = value.into();
        let after = injected(&pod, profile.clone());
        let text = env(sidecar(&after), "TOKEN_SIDECAR_CONFIG_TEXT")["value"].as_str();
        let config: Value = serde_json::from_str(text.unwrap()).unwrap();
        assert_eq!(config["routes"][0]["upstream"], value);
        assert_eq!(config["routes"].as_array().unwrap().len(), 2);
        assert!(!text.unwrap().contains("$("));
    }
}

#[test]
fn the_check_is_told_of_the_variable_and_not_of_others() {
    let (pod, profile, _) = two();
    let check = |text: &str, given: &Environment| {
        let named = given
            .variables
            .iter()
            .filter(|(n, _)| n.starts_with("TOKEN_SIDECAR_"));
        let named: Vec<_> = named
            .map(|(n, v)| (n.as_str(), v.starts_with("https://")))
            .collect();
        assert_eq!(named, [(NAME, true)], "{text}");
        Ok(())
    };
    with_check(&pod, profile, &check).unwrap();
}

#[test]
fn it_can_be_taken_back_and_put_in_again() {
    let (pod, profile, _) = two();
    let after = injected(&pod, profile.clone());
    assert_eq!(with(&after, profile).unwrap().outcome, Outcome::Unchanged);
    assert_eq!(remove(&after).unwrap().unwrap(), pod);
}

#[test]
fn a_pod_of_the_version_before_comes_out_as_a_fresh_one() {
    let (pod, profile, _) = two();
    let fresh = injected(&pod, profile.clone());
    let before = as_before(&fresh);
    let again = with(&before, profile).unwrap();
    assert_eq!(again.outcome, Outcome::Injected);
    assert_eq!(again.pod(), &fresh);
    assert_eq!(
        again.warnings,
        [
            "the container token-sidecar was not as profile default makes it (env) and is put in anew; whoever changes it must leave it alone"
        ]
    );
    assert_eq!(remove(&before).unwrap().unwrap(), pod);
}

/// Who forges a pod that has the sidecar already sets none of the variables that a configuration may name.
#[test]
fn nobody_else_sets_such_a_variable() {
    let (pod, profile, from) = two();
    let fresh = injected(&pod, profile.clone());
    let mut forged = fresh.clone();
    let variables = list(&mut forged["spec"]["initContainers"][0], "env");
    variables[0] = json!({"name": NAME, "value": "https://evil.example"});
    variables.push(json!({"name": "TOKEN_SIDECAR_UPSTREAM_OTHER", "valueFrom": from}));
    variables.push(json!({"name": NAME, "value": "https://evil.example"}));
    assert_eq!(with(&forged, profile).unwrap().pod(), &fresh);
}

/// The workload did without the value; the sidecar cannot.
#[test]
fn a_reference_that_may_be_missing_is_warned_of() {
    for (key, kind) in [("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")] {
        for (optional, expected) in [(Some(true), 1), (Some(false), 0), (None, 0)] {
            let mut pod = pod();
            let mut source = json!({"name": "settings", "key": "url"});
            if let Some(optional) = optional {
                source["optional"] = optional.into();
            }
            let from = json!({ key: source });
            pod["spec"]["containers"][0]["env"][1] =
                json!({"name": "BACKEND_API_URL", "valueFrom": from});
            let warnings = with(&pod, profile()).unwrap().warnings;
            let line = format!(
                "BACKEND_API_URL comes from key url of the {kind} settings, which may be missing (`optional: true`): the sidecar does not start without it, and \
                 the pod is not ready before; see that it is there, and take `optional` out"
            );
            assert_eq!(warnings, vec![line; expected], "{optional:?}");
        }
    }
}
