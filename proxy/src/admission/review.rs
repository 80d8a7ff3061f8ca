//! AdmissionReview `admission.k8s.io/v1`: what is asked, and the answer. Pure; serving it is `webhook`'s business.

use super::{
    bounds,
    check::Check,
    inject::{Outcome, Request, inject},
    manifest::is_system,
    patch::{items, text},
    profile::Profiles,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

const API_VERSION: &str = "admission.k8s.io/v1";
/// The label that the injector's own pods have.
const OWN_NAME: &str = "token-sidecar-injector";
/// Longer warnings are cut by the API server.
const MAX_WARNING: usize = 256;
/// More of a refusal is neither sent nor logged.
const MAX_REFUSAL: usize = 4096;
/// A uid is a UUID.
const MAX_UID: usize = 128;
/// A namespace has 63 characters at most; what is longer is recognized as none.
const MAX_NAMESPACE: usize = 64;

/// An answer, and what to count it as.
#[derive(Debug)]
pub struct Answer {
    /// The AdmissionReview to send back.
    pub review: Value,
    /// The namespace it was about.
    pub namespace: String,
    /// `injected`, `unchanged`, `not_asked` or `refused`.
    pub result: &'static str,
    /// Nothing will come of it, whatever the answer.
    pub dry_run: bool,
    /// What it was about, and why it was refused: for the log.
    pub subject: String,
    /// Why it was refused.
    pub refusal: Option<String>,
}

/// Answers a review. `own`: the injector's own namespace.
///
/// # Errors
/// The text is not a review that can be answered.
pub fn answer(
    body: &[u8],
    profiles: &Profiles,
    check: &Check,
    own: Option<&str>,
) -> Result<Answer, String> {
    let mut review: Value = serde_json::from_slice(body).map_err(|e| format!("not JSON: {e}"))?;
    let version = text(&review, "apiVersion");
    if version != API_VERSION || text(&review, "kind") != "AdmissionReview" {
        return Err(format!(
            "not an AdmissionReview of {API_VERSION}; set admissionReviewVersions: [v1] in the webhook's configuration"
        ));
    }
    let mut request = review
        .get_mut("request")
        .map(Value::take)
        .unwrap_or_default();
    let uid = text(&request, "uid").to_owned();
    if uid.is_empty() {
        return Err("a review without request.uid; only the API server can ask".into());
    }
    if uid.len() > MAX_UID {
        return Err("a review whose request.uid is no uid; only the API server can ask".into());
    }
    let namespace = text(&request, "namespace").to_owned();
    let dry_run = request.get("dryRun").and_then(Value::as_bool) == Some(true);
    let pod = request
        .get_mut("object")
        .map(Value::take)
        .unwrap_or_default();
    let subject = subject(&request, &pod);
    let mut response = json!({ "uid": uid, "allowed": true });
    let (result, refusal) = match look(&request, &pod, &namespace, profiles, check, own) {
        Look::Away(warning) => {
            if let Some(warning) = warning {
                response["warnings"] = json!([warning]);
            }
            ("not_asked", None)
        }
        Look::Refused(why) => {
            let why = cut(&why, MAX_REFUSAL);
            response["allowed"] = false.into();
            let message = format!("token-sidecar is not injected: {why}");
            response["status"] = json!({ "code": 422, "reason": "Invalid", "message": message });
            ("refused", Some(why))
        }
        Look::Injection(outcome, warnings, operations) => {
            if !operations.is_empty() {
                response["patchType"] = "JSONPatch".into();
                response["patch"] = STANDARD.encode(operations).into();
            }
            if !warnings.is_empty() {
                response["warnings"] = warnings
                    .iter()
                    .map(|w| cut(&format!("token-sidecar: {w}"), MAX_WARNING))
                    .collect();
            }
            let result = match outcome {
                Outcome::NotAsked => "not_asked",
                Outcome::Unchanged => "unchanged",
                Outcome::Injected => "injected",
            };
            (result, None)
        }
    };
    Ok(Answer {
        review: json!({ "apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response }),
        namespace: namespace.chars().take(MAX_NAMESPACE).collect(),
        result,
        dry_run,
        subject,
        refusal,
    })
}

enum Look {
    /// None of our business, and a warning when somebody thinks otherwise.
    Away(Option<String>),
    Refused(String),
    /// With its patch as text, empty when there is nothing to do.
    Injection(Outcome, Vec<String>, String),
}

fn look(
    request: &Value,
    pod: &Value,
    namespace: &str,
    profiles: &Profiles,
    check: &Check,
    own: Option<&str>,
) -> Look {
    let resource = request.get("resource").unwrap_or(&Value::Null);
    let is_pod = text(resource, "group").is_empty() && text(resource, "resource") == "pods";
    if !is_pod || text(request, "operation") != "CREATE" || !text(request, "subResource").is_empty()
    {
        return Look::Away(None);
    }
    let labels = pod.pointer("/metadata/labels").unwrap_or(&Value::Null);
    if text(labels, "app.kubernetes.io/name") == OWN_NAME || own == Some(namespace) {
        return Look::Away(None);
    }
    if is_system(namespace) {
        let asks = text(labels, "token-sidecar.io/inject") == "true";
        return Look::Away(asks.then(|| format!("token-sidecar is never injected in {namespace}")));
    }
    let owners = pod
        .get("metadata")
        .map_or(&[][..], |m| items(m, "ownerReferences"));
    let request = Request {
        profiles,
        check,
        asked: false,
        profile: None,
        job: owners.iter().any(|o| text(o, "kind") == "Job"),
    };
    match inject(pod, &request) {
        Err(refusal) => Look::Refused(refusal.to_string()),
        Ok(mut injection) => {
            let warnings = std::mem::take(&mut injection.warnings);
            let outcome = injection.outcome;
            let operations = injection.into_operations();
            let operations = Value::Array(operations);
            let list = operations.as_array().map_or(&[][..], Vec::as_slice);
            let patch = match list {
                [] => String::new(),
                _ => operations.to_string(),
            };
            if let Some(problem) = bounds::patch(patch.len(), list) {
                return Look::Refused(problem);
            }
            Look::Injection(outcome, warnings, patch)
        }
    }
}

/// The pod's name for the log: what it is called, or what it will begin with.
fn subject(request: &Value, pod: &Value) -> String {
    let metadata = pod.get("metadata").unwrap_or(&Value::Null);
    let names = [
        text(request, "name"),
        text(metadata, "name"),
        text(metadata, "generateName"),
    ];
    let name: String = names
        .into_iter()
        .find(|n| !n.is_empty())
        .unwrap_or_default()
        .chars()
        .take(253)
        .collect();
    name
}

/// At most so many characters of a text.
fn cut(text: &str, max: usize) -> String {
    if text.chars().nth(max).is_none() {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(max - 1).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::{profile::Profile, tests::profile};

    fn asked(change: impl FnOnce(&mut Value)) -> Result<Answer, String> {
        asked_of(profile(), change)
    }

    fn asked_of(profile: Profile, change: impl FnOnce(&mut Value)) -> Result<Answer, String> {
        let mut review = json!({
            "apiVersion": API_VERSION, "kind": "AdmissionReview",
            "request": {
                "uid": "u-1", "namespace": "shop", "operation": "CREATE", "resource": {"group": "", "version": "v1", "resource": "pods"}, "dryRun": false,
                "object": {
                    "metadata": {"generateName": "web-", "labels": {"token-sidecar.io/inject": "true"}},
                    "spec": {"containers": [{"name": "app", "env": [{"name": "BACKEND_API_URL", "value": "https://orders.example"}]}]},
                }
            }
        });
        change(&mut review);
        let profiles = Profiles([("default".to_owned(), profile)].into());
        answer(
            review.to_string().as_bytes(),
            &profiles,
            &|_, _| Ok(()),
            Some("injector"),
        )
    }

    #[test]
    fn a_pod_that_asks_gets_a_patch() {
        let answer = asked(|_| {}).unwrap();
        assert_eq!(
            (
                answer.result,
                answer.namespace.as_str(),
                answer.subject.as_str(),
                answer.dry_run
            ),
            ("injected", "shop", "web-", false)
        );
        let response = &answer.review["response"];
        assert_eq!(
            (
                &response["uid"],
                &response["allowed"],
                &response["patchType"]
            ),
            (&json!("u-1"), &json!(true), &json!("JSONPatch"))
        );
        let patch: Value = serde_json::from_slice(
            &STANDARD
                .decode(response["patch"].as_str().unwrap())
                .unwrap(),
        )
        .unwrap();
        assert!(
            patch
                .as_array()
                .unwrap()
                .iter()
                .any(|o| o["path"] == "/spec/initContainers/0")
        );
        assert_eq!(response.get("warnings"), None);
    }

    #[test]
    fn whom_it_leaves_alone() {
        type Change = fn(&mut Value);
        let cases: [Change; 7] = [
            |r| r["request"]["namespace"] = "injector".into(),
            |r| {
                r["request"]["object"]["metadata"]["labels"]["app.kubernetes.io/name"] =
                    OWN_NAME.into()
            },
            |r| r["request"]["operation"] = "UPDATE".into(),
            |r| r["request"]["subResource"] = "ephemeralcontainers".into(),
            |r| r["request"]["resource"]["resource"] = "deployments".into(),
            |r| r["request"]["object"]["metadata"]["labels"] = json!({}),
            |r| r["request"]["object"] = Value::Null,
        ];
        for (i, case) in cases.into_iter().enumerate() {
            let answer = asked(case).unwrap();
            assert_eq!(
                (answer.result, &answer.review["response"]),
                ("not_asked", &json!({"uid": "u-1", "allowed": true})),
                "{i}"
            );
        }
        let system = asked(|r| r["request"]["namespace"] = "kube-system".into()).unwrap();
        assert_eq!(
            system.review["response"]["warnings"],
            json!(["token-sidecar is never injected in kube-system"])
        );
        assert_eq!(system.review["response"].get("patch"), None);
    }

    #[test]
    fn a_refusal_says_why() {
        let answer = asked(|r| r["request"]["object"]["spec"]["hostPID"] = true.into()).unwrap();
        let response = &answer.review["response"];
        assert_eq!(
            (answer.result, &response["allowed"], response.get("patch")),
            ("refused", &json!(false), None)
        );
        assert_eq!(
            response["status"]["message"],
            "token-sidecar is not injected: hostPID: the workload could look into the sidecar's process, where the tokens are; take hostPID out"
        );
    }

    #[test]
    fn what_is_no_review() {
        assert!(
            asked(|r| r["apiVersion"] = "admission.k8s.io/v1beta1".into())
                .unwrap_err()
                .contains("admissionReviewVersions: [v1]")
        );
        assert!(
            asked(|r| r["request"] = Value::Null)
                .unwrap_err()
                .contains("request.uid")
        );
        assert!(
            asked(|r| *r = json!([]))
                .unwrap_err()
                .contains("not an AdmissionReview")
        );
        let profiles = Profiles::default();
        assert!(
            answer(b"{", &profiles, &|_, _| Ok(()), None)
                .unwrap_err()
                .starts_with("not JSON: ")
        );
    }

    /// No API server would take the pod that it makes.
    #[test]
    fn a_patch_that_is_too_large_is_a_refusal() {
        for (length, expected) in [
            (bounds::MAX_PATCH / 2, "injected"),
            (bounds::MAX_PATCH, "refused"),
        ] {
            let mut large = profile();
            large.proxy = vec![("NO_PROXY", "x".repeat(length))];
            let answer = asked_of(large, |_| {}).unwrap();
            let said = answer.review["response"]["status"]["message"].to_string();
            assert_eq!(answer.result, expected, "{said}");
            assert_eq!(
                said.contains("KiB of it are the sidecar and its volumes"),
                expected == "refused"
            );
        }
    }

    #[test]
    fn texts_are_cut_on_characters() {
        let long = "é".repeat(300);
        assert_eq!(cut(&long, 300), long);
        let shorter = cut(&long, MAX_WARNING);
        assert_eq!(shorter.chars().count(), MAX_WARNING);
        assert!(shorter.ends_with("é…"));
    }

    /// Whatever a pod is made of, neither the answer nor the log grows with it.
    #[test]
    fn answers_have_an_end() {
        type Change = fn(&mut Value);
        let cases: [(&str, Change); 8] = [
            ("containers", |r| {
                r["request"]["object"]["spec"]["containers"] =
                    vec![json!({"name": "a"}); 150_000].into();
            }),
            ("ports", |r| {
                r["request"]["object"]["spec"]["containers"][0]["ports"] =
                    vec![json!({"containerPort": 8080}); 100_000].into();
            }),
            ("ports of ours", |r| {
                r["request"]["object"]["spec"]["containers"][0]["ports"] =
                    vec![json!({"containerPort": 8080}); 19_000].into();
            }),
            ("annotations", |r| {
                for i in 0..10_000 {
                    r["request"]["object"]["metadata"]["annotations"]
                        [format!("token-sidecar.io/x{i}")] = "x".into();
                }
            }),
            ("a long annotation", |r| {
                r["request"]["object"]["metadata"]["annotations"]
                    [format!("token-sidecar.io/{}", "x".repeat(1 << 20))] = "x".into();
            }),
            ("an upstream", |r| {
                r["request"]["object"]["spec"]["containers"][0]["env"][0]["value"] =
                    format!("https://{}", "x".repeat(4 << 20)).into();
            }),
            ("AKS' names", |r| {
                r["request"]["object"]["metadata"]["labels"]["azure.workload.identity/use"] =
                    "true".into();
                r["request"]["object"]["metadata"]["annotations"]["azure.workload.identity/skip-containers"] =
                    "x".repeat(4 << 20).into();
            }),
            ("warnings", |r| {
                let container = json!({"name": "a", "securityContext": {"privileged": true}});
                r["request"]["object"]["spec"]["initContainers"] = vec![container; 400].into();
            }),
        ];
        for (name, change) in cases {
            let answer = asked(change).unwrap();
            let size = answer.review.to_string().len();
            assert!(size < 64 << 10, "{name}: {size}");
            assert!(
                answer.refusal.unwrap_or_default().len() < 16 << 10,
                "{name}"
            );
            let warnings = &answer.review["response"]["warnings"];
            assert!(warnings.as_array().is_none_or(|w| w.len() <= 21), "{name}");
        }
        let long =
            |key: &'static str| asked(move |r| r["request"][key] = "x".repeat(1 << 20).into());
        assert!(long("uid").unwrap_err().contains("is no uid"));
        let answer = long("namespace").unwrap();
        assert_eq!(answer.namespace.len(), MAX_NAMESPACE);
        assert_eq!(long("name").unwrap().subject.len(), 253);
    }
}
