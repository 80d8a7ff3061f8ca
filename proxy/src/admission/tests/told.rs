//! In whose words a fault of the configuration is told: an annotation's only where the annotation brought what is wrong.

use super::*;

/// What is said of a fault at this path, in a pod with these annotations.
fn told(path: &str, credentials: &str, routes: &str) -> String {
    let mut pod = pod();
    pod["metadata"]["annotations"] = json!({
        "token-sidecar.io/credentials": credentials,
        "token-sidecar.io/routes": routes,
    });
    let path = path.to_owned();
    let check = move |_: &str, _: &Environment| {
        Err(vec![Fault {
            path: path.clone(),
            message: "is wrong".into(),
            other: None,
        }])
    };
    let mut problems = with_check(&pod, profile(), &check)
        .map(|i| i.pod().clone())
        .unwrap_err();
    assert_eq!(problems.len(), 1);
    problems.remove(0)
}

#[test]
fn a_credential_is_the_annotations_by_its_whole_name() {
    for (path, credentials, expected) in [
        (
            "credentials.shop.x",
            "{sho: {}, shops: {}}",
            "the sidecar's configuration: credentials.shop.x: is wrong",
        ),
        (
            "credentials.shop.x",
            "shop: {}",
            "annotation token-sidecar.io/credentials: line 1, column 7: shop.x: is wrong",
        ),
        // Which of them it is cannot be told: the longer one says more.
        (
            "credentials.a.b.x",
            "a: {}\na.b: {}",
            "annotation token-sidecar.io/credentials: line 2, column 6: a.b.x: is wrong",
        ),
    ] {
        assert_eq!(told(path, credentials, "[]"), expected);
    }
}

#[test]
fn routes_behind_the_annotations_are_not_its() {
    for (path, expected) in [
        (
            "routes[0].name",
            "annotation token-sidecar.io/routes: line 1, column 9: [0].name: is wrong",
        ),
        (
            "routes[1].name",
            "the sidecar's configuration: routes[1].name: is wrong",
        ),
    ] {
        assert_eq!(told(path, "{}", "[{name: a}]"), expected);
    }
}
