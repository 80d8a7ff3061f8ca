//! Examines an admission webhook as an API server would call it: the way there, TLS with the CA bundle alone, and for each profile a dry-run review of a pod that asks for it, which must be
//! answered with a patch that puts the sidecar in. Asks nothing of a cluster and changes nothing.

use super::{
    facts::Facts,
    layers,
    reach::setup,
    report::{Report, Status, Step},
    subject::span,
    trust::Handshake,
};
use crate::{
    admission::profile::{Profile, Profiles, Rewrite, RewriteCredential, SidecarConfig},
    net::{
        client::{AuthorityClient, Reply, SetupError},
        observe::{self, Presented},
        tls::{Alpn, TlsError},
    },
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderValue, header::CONTENT_TYPE};
use serde_json::{Map, Value, json};
use sidecar_runtime::{clock::Clock, telemetry::chain};
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::time::timeout;
use url::Url;
use zeroize::Zeroizing;

/// What the API server waits, unless it is told otherwise.
const WITHIN: Duration = Duration::from_secs(5);
/// The namespace of the pods that are asked about, and the uid of the reviews. There need be none of this name.
const NAME: &str = "token-sidecar-probe";
/// Where the pod's workload would call. There is nobody, and nobody tries.
const UPSTREAM: &str = "https://upstream.invalid";
/// More of what the webhook says is not shown.
const MAX_SAID: usize = 1024;

/// What is asked, and whom.
#[derive(Debug)]
pub struct WebhookProbe {
    /// The webhook's URL, with its path.
    pub url: Url,
    /// The roots that the API server trusts, and no others: PEM.
    pub ca: PathBuf,
    /// The profiles that the webhook should have.
    pub profiles: Profiles,
}

/// Asks the webhook, on a runtime of its own.
///
/// # Errors
/// When the system refuses what a runtime needs.
pub fn probe(asked: &WebhookProbe) -> io::Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let report = runtime.block_on(examine(asked, &Clock::system()));
    // A resolver that hangs must not hold up the end.
    runtime.shutdown_background();
    Ok(report)
}

async fn examine(asked: &WebhookProbe, clock: &Clock) -> Report {
    const OF: &str = "webhook";
    let mut report = Report::default();
    let facts = Facts {
        host: asked.url.host_str().map(str::to_owned),
        port: asked.url.port_or_known_default(),
        ..Facts::default()
    };
    let (client, presented) = match client(asked) {
        Ok(built) => built,
        Err(error) => {
            report.push(setup(OF, &error, &facts));
            return report;
        }
    };
    let walk = client.walk(WITHIN).await;
    let shake = Handshake {
        host: facts.host.as_deref().unwrap_or_default(),
        chain: &presented.chain(),
        ca_file: Some(&asked.ca),
        ca_key: "caBundle",
        now: clock.unix_now(),
    };
    let mut steps = Vec::new();
    let way = layers::layers(
        OF, walk, None, WITHIN, &shake, &presented, &facts, &mut steps,
    );
    report.extend(steps.into_iter().map(of_a_webhook));
    let stop = report.steps().last().map(Step::name).unwrap_or_default();
    for (name, profile) in &asked.profiles.0 {
        let of = format!("profile {name}");
        report.push(match (&way, brought(profile)) {
            (None, _) => Step::blocked(of, REVIEW, &stop),
            (_, Err(why)) => Step::unasked(of, REVIEW, why),
            (_, Ok(annotations)) => {
                let asking = asking(name, profile, annotations);
                review(&client, asked.url.path(), of, asking).await
            }
        });
    }
    report
}

const REVIEW: &str = "review";

fn client(asked: &WebhookProbe) -> Result<(AuthorityClient, Arc<Presented>), SetupError> {
    let (config, presented) = observe::exclusive_config(&read(&asked.ca)?, &asked.ca, Alpn::Http1)?;
    let client = AuthorityClient::over_tls(&asked.url, None, config)?;
    Ok((client, presented))
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|e| TlsError::CaFile {
        path: path.to_owned(),
        cause: e.to_string(),
    })
}

/// The layer's finding with what mends it where a webhook is at the other end.
fn of_a_webhook(step: Step) -> Step {
    if step.status != Status::Fail {
        return step;
    }
    let mend = match (step.step, step.code) {
        ("dns", _) => {
            "see that the webhook's Service is there, and that the URL is https://SERVICE.NAMESPACE.svc/mutate"
        }
        ("connect", _) => {
            "see that an injector is running and ready, and that networkPolicy.callersFrom and other network policies let this pod through"
        }
        (_, "tls_certificate_error") => {
            "certificate, its names and the webhook's caBundle must be of one make: with a certificate of the chart's making `helm upgrade` makes them so; with certificate.source=secret put one for \
             SERVICE.NAMESPACE.svc into the Secret and its issuer's into certificate.secret.caBundle; with cert-manager its Certificate says what is wrong; pods serve a \
             certificate that was just changed after a minute at most"
        }
        _ => return step,
    };
    Step {
        commands: vec![],
        ..step
    }
    .mend(mend)
}

/// The annotations of our pod: what the profile leaves to pods to give, where it has nothing to do of its own. Nothing is ever sent there.
///
/// # Errors
/// What it leaves to them is not for us to give: why no pod of ours could be injected.
fn brought(profile: &Profile) -> Result<Map<String, Value>, String> {
    let mut annotations = Map::new();
    let SidecarConfig::Inline {
        credentials,
        routes,
    } = &profile.config
    else {
        return Ok(annotations);
    };
    let elsewhere = profile.rewrite.iter().find_map(|r| match &r.credential {
        RewriteCredential::Named(name) if !credentials.contains_key(name) => Some(name.as_str()),
        _ => None,
    });
    if let Some(credential) = elsewhere {
        return Err(format!(
            "not asked: its credential `{credential}` comes from the annotations of pods"
        ));
    }
    if !profile.rewrite.is_empty() || !routes.is_empty() {
        return Ok(annotations);
    }
    let of_ours = [
        (
            "credentials",
            json!({ NAME: { "tokenExchange": { "tokenEndpoint": "https://authority.invalid/token" } } }),
        ),
        (
            "routes",
            json!([{
                "name": NAME,
                "listen": format!("127.0.0.1:{}", profile.port),
                "upstream": UPSTREAM,
                "credential": NAME,
            }]),
        ),
    ];
    for (name, value) in of_ours {
        if let Some(allowed) = &profile.annotations
            && !allowed.iter().any(|a| a == name)
        {
            return Err(format!(
                "not asked: its routes come from the annotations of pods, and it does not let pods use token-sidecar.io/{name}, which a pod of this test would need"
            ));
        }
        annotations.insert(format!("token-sidecar.io/{name}"), value.to_string().into());
    }
    Ok(annotations)
}

async fn review(client: &AuthorityClient, path: &str, of: String, asking: Value) -> Step {
    let body = Zeroizing::new(asking.to_string().into_bytes());
    let json = [(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    match timeout(WITHIN, client.post_form(path, &json, body)).await {
        Ok(Ok(reply)) => judged(of, &reply),
        Ok(Err(error)) => Step::fail(of, REVIEW, error.code(), chain(&error).to_string())
            .mend("the log of the injector may say more"),
        Err(_) => Step::fail(
            of,
            REVIEW,
            "http_response_timeout",
            format!("no answer within {}", span(WITHIN)),
        )
        .mend("give the injector more CPU, or more replicas"),
    }
}

fn judged(of: String, reply: &Reply) -> Step {
    let fail = |cause: String, mend: &str| Step::fail(of.clone(), REVIEW, "", cause).mend(mend);
    if reply.status != 200 {
        return fail(
            format!("answers {}: {}", reply.status, said(&reply.body)),
            "see that the URL's path is the webhook's, /mutate; the log of the injector may say more",
        );
    }
    let review: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    let response = &review["response"];
    if response["uid"] != NAME {
        return fail(
            "what answers is no admission webhook".into(),
            "see that the URL is the injector's, https://SERVICE.NAMESPACE.svc/mutate",
        );
    }
    if response["allowed"] != true {
        let message = response["status"]["message"].as_str().unwrap_or_default();
        return fail(
            format!("refuses the pod: {}", said(message.as_bytes())),
            "correct the profile. If the webhook does not know a profile that is new, it takes over a changed file after a minute or so",
        );
    }
    let patch = response["patch"].as_str().unwrap_or_default();
    let patch = STANDARD.decode(patch).unwrap_or_default();
    let patch: Value = serde_json::from_slice(&patch).unwrap_or_default();
    if !adds_the_sidecar(&patch) {
        return fail(
            "lets the pod pass without a sidecar".into(),
            "see that the injector is of this version, and that its --namespace is its own",
        );
    }
    let count = patch.as_array().map_or(0, Vec::len);
    Step::pass(
        of,
        REVIEW,
        format!("injected, by a patch of {count} operations"),
    )
}

/// Whether a container of the sidecar's name is in some operation's value.
fn adds_the_sidecar(patch: &Value) -> bool {
    match patch {
        Value::Array(items) => items.iter().any(adds_the_sidecar),
        Value::Object(map) => {
            (map.get("name").is_some_and(|n| n == "token-sidecar") && map.contains_key("image"))
                || map.values().any(adds_the_sidecar)
        }
        _ => false,
    }
}

/// The other end's words, in one line and not too many.
fn said(words: &[u8]) -> String {
    let text = String::from_utf8_lossy(words);
    let line = text.chars().filter(|c| !c.is_control());
    line.take(MAX_SAID).collect()
}

/// A dry-run review of a pod that asks for the profile, and has what the profile rewrites and these annotations.
fn asking(name: &str, profile: &Profile, mut annotations: Map<String, Value>) -> Value {
    annotations.insert("token-sidecar.io/profile".into(), name.into());
    let mut containers: Vec<&str> = profile
        .rewrite
        .iter()
        .flat_map(|r| r.containers.iter().map(String::as_str))
        .collect();
    containers.sort_unstable();
    containers.dedup();
    if containers.is_empty() {
        containers.push("workload");
    }
    let set = |rewrite: &Rewrite, container: &str| {
        rewrite.containers.is_empty() || rewrite.containers.iter().any(|c| c == container)
    };
    let containers: Vec<Value> = containers
        .into_iter()
        .map(|container| {
            let variables = profile.rewrite.iter().filter(|r| set(r, container));
            let env: Vec<Value> = variables
                .map(|r| json!({ "name": r.variable, "value": UPSTREAM }))
                .collect();
            json!({ "name": container, "image": "registry.invalid/workload", "env": env })
        })
        .collect();
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": NAME,
            "namespace": NAME,
            "labels": { "token-sidecar.io/inject": "true" },
            "annotations": annotations,
        },
        "spec": { "serviceAccountName": "default", "containers": containers },
    });
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": NAME,
            "kind": { "group": "", "version": "v1", "kind": "Pod" },
            "resource": { "group": "", "version": "v1", "resource": "pods" },
            "namespace": NAME,
            "operation": "CREATE",
            "dryRun": true,
            "object": pod,
        },
    })
}

#[cfg(test)]
#[path = "webhook_tests.rs"]
mod tests;
