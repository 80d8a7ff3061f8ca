//! Variables that a profile names and a pod does not have as the profile thinks: what is said of them.

use super::*;

/// A profile whose second entry is this one; the first one matches.
fn second(entry: Rewrite) -> Profile {
    Profile {
        rewrite: vec![rewrite("BACKEND_API_URL"), entry],
        ..profile()
    }
}

fn within(containers: &[&str], variable: &str) -> Rewrite {
    Rewrite {
        containers: containers.iter().map(|c| (*c).to_owned()).collect(),
        ..rewrite(variable)
    }
}

#[test]
fn an_entry_that_matches_nothing_is_warned_of() {
    let upstream = Rewrite {
        upstream: Some("https://other.example".into()),
        ..rewrite("OTHER_URL")
    };
    for (entry, why) in [
        (rewrite("OTHER_URL"), "no container sets OTHER_URL"),
        (
            upstream,
            "no container sets OTHER_URL, and `containers` does not say where to set it",
        ),
        (within(&["ap", "b"], "A"), "no container is named ap or b"),
        (within(&["app"], "OTHER_URL"), "OTHER_URL is not set in app"),
        (
            within(&["ap", "app"], "OTHER_URL"),
            "no container is named ap, and OTHER_URL is not set in app",
        ),
    ] {
        let injection = with(&pod(), second(entry)).unwrap();
        let line = format!(
            "{why} (profile default, rewrite[1]), so that nothing is rewritten for it; correct whichever is wrong, unless the entry is for other pods"
        );
        assert_eq!(injection.warnings, [line.as_str()]);
        // The sidecar is there already: the same is said.
        let again = with(injection.pod(), second(within(&["app"], "OTHER_URL")));
        assert_eq!(again.unwrap().warnings.len(), 1);
    }
}

#[test]
fn an_entry_that_matches_somewhere_is_not() {
    let mut pod = pod();
    list(&mut pod["spec"]["containers"][0], "env")
        .push(json!({"name": "OTHER_URL", "value": "https://other.example"}));
    for entry in [
        rewrite("OTHER_URL"),
        within(&["app", "not-here"], "OTHER_URL"),
    ] {
        let none: [&str; 0] = [];
        assert_eq!(with(&pod, second(entry)).unwrap().warnings, none);
    }
}

#[test]
fn such_warnings_are_bounded() {
    let mut profile = profile();
    for i in 0..30 {
        profile.rewrite.push(rewrite(&format!("OTHER_{i}")));
    }
    let warnings = with(&pod(), profile).unwrap().warnings;
    assert_eq!((warnings.len(), warnings[20].as_str()), (21, "and 10 more"));
}

#[test]
fn with_no_entry_that_matches_there_is_nothing_to_do() {
    for (entries, said) in [
        (
            vec![within(&["ap"], "BACKEND_API_URL")],
            "no container is named ap, and there are no routes; set the variable in the pod (`env`, not `envFrom`), or add routes to the profile or",
        ),
        (
            vec![],
            "profile default names no variable to rewrite, and there are no routes; add `rewrite` or `routes` to the profile, or use",
        ),
    ] {
        let profile = Profile {
            rewrite: entries,
            ..profile()
        };
        let line = format!(
            "the sidecar would have nothing to do: {said} the annotation token-sidecar.io/routes"
        );
        assert_eq!(with(&pod(), profile).unwrap_err(), [line]);
    }
}

/// Whoever named the profile is told where.
#[test]
fn an_unknown_profile_is_mended_where_it_was_named() {
    let profiles = Profiles([("default".to_owned(), profile())].into());
    let refused = |pod: &Value, profile| {
        let request = Request {
            profiles: &profiles,
            check: &|_, _| Ok(()),
            asked: true,
            profile,
            job: false,
        };
        inject(pod, &request).unwrap_err().0
    };
    let mend = |place: &str| {
        format!("no profile is named `nope`; known here: default; {place} one of them")
    };
    assert_eq!(
        refused(&pod(), Some("nope")),
        [mend("give the option --profile")]
    );
    let mut named = pod();
    named["metadata"]["annotations"] = json!({"token-sidecar.io/profile": "nope"});
    let annotation = mend("set the annotation token-sidecar.io/profile to");
    for option in [None, Some("default")] {
        assert_eq!(refused(&named, option), [annotation.as_str()]);
    }
}

#[test]
fn what_is_misshapen_is_not_called_empty() {
    let keys = "{name: …, key: …}`";
    for (entry, problem) in [
        (
            json!({"value": 5}),
            "has a value that is not text; put the URL in quotes".to_owned(),
        ),
        (
            json!({"value": true}),
            "has a value that is not text; put the URL in quotes".to_owned(),
        ),
        (
            json!({"value": {"a": 1}}),
            "has a value that is not text; put the URL in quotes".to_owned(),
        ),
        (
            json!({"valueFrom": {"configMapRef": {"name": "x", "key": "y"}}}),
            format!(
                "has a `valueFrom` of the unknown source configMapRef; write `configMapKeyRef: {keys} or `secretKeyRef`"
            ),
        ),
        (
            json!({"valueFrom": {}}),
            format!(
                "has a `valueFrom` without a source; write `configMapKeyRef: {keys} or `secretKeyRef`"
            ),
        ),
        (
            json!({"valueFrom": {"configMapKeyRef": {"name": "x"}}}),
            format!("has a configMapKeyRef without `key`; write `configMapKeyRef: {keys}"),
        ),
        (
            json!({"valueFrom": {"secretKeyRef": {"key": "x"}}}),
            format!("has a secretKeyRef without `name`; write `secretKeyRef: {keys}"),
        ),
        (
            json!({"valueFrom": {"secretKeyRef": null}}),
            format!("has a secretKeyRef without `name`; write `secretKeyRef: {keys}"),
        ),
    ] {
        let mut pod = pod();
        pod["spec"]["containers"][0]["env"][1] = entry;
        pod["spec"]["containers"][0]["env"][1]["name"] = "BACKEND_API_URL".into();
        let line = format!("container app: BACKEND_API_URL {problem}");
        assert_eq!(with(&pod, profile()).unwrap_err(), [line]);
    }
}
