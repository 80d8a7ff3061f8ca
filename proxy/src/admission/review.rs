//! AdmissionReview `admission.k8s.io/v1`: what is asked, and the answer. Pure; serving it is `webhook`'s business.

use super::{
    inject::{Check, Outcome, Request, inject},
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
            response["allowed"] = false.into();
            let message = format!("token-sidecar is not injected: {why}");
            response["status"] = json!({ "code": 422, "reason": "Invalid", "message": message });
            ("refused", Some(why))
        }
        Look::Injection(outcome, warnings, operations) => {
            if !operations.is_empty() {
                response["patchType"] = "JSONPatch".into();
                response["patch"] = STANDARD.encode(Value::Array(operations).to_string()).into();
            }
            if !warnings.is_empty() {
                response["warnings"] = warnings.iter().map(|w| cut(w)).collect();
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
        namespace,
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
    Injection(Outcome, Vec<String>, Vec<Value>),
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
            Look::Injection(injection.outcome, warnings, injection.into_operations())
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

fn cut(warning: &str) -> Value {
    let full = format!("token-sidecar: {warning}");
    if full.chars().count() <= MAX_WARNING {
        return full.into();
    }
    let mut cut: String = full.chars().take(MAX_WARNING - 1).collect();
    cut.push('…');
    cut.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::tests::profile;

    fn asked(change: impl FnOnce(&mut Value)) -> Result<Answer, String> {
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
        let profiles = Profiles([("default".to_owned(), profile())].into());
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

    #[test]
    fn long_warnings_are_cut_on_characters() {
        let long = "é".repeat(300);
        let cut = cut(&long);
        assert_eq!(cut.as_str().unwrap().chars().count(), MAX_WARNING);
    }
}
