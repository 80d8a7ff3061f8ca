//! Examines the sidecar that runs already: is it ready, and does it export its metrics. On a laptop, or before the first start, there is none.

use super::{commands::kubernetes, facts::Facts, report::Step};
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use sidecar_runtime::spawn;
use std::{io, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::timeout,
};

const TIMEOUT: Duration = Duration::from_secs(5);
const MAX_BODY: usize = 4 * 1024 * 1024;

/// `admin`: `HOST:PORT` or `unix:/PATH`. `must_run`: the address was given for this, so that nothing there is a failure.
pub(super) async fn examine(admin: &str, must_run: bool, facts: &Facts) -> Vec<Step> {
    const OF: &str = "sidecar";
    let (status, body) = match get(admin, "/readyz", "application/json").await {
        Ok(answer) => answer,
        Err(error) if must_run => {
            let step = Step::fail(
                OF,
                "readyz",
                "not_running",
                format!("nothing answers at {admin} ({})", said(&error)),
            )
            .mend("see that the sidecar runs, that this is its admin address, and that network policies let this in")
            .run(kubernetes::sidecar(facts));
            return vec![step];
        }
        Err(_) => {
            return vec![Step::skip(
                OF,
                "readyz",
                format!(
                    "no sidecar answers at {admin}; run this beside one, or give its address with --sidecar"
                ),
            )];
        }
    };
    let ready = readiness(OF, admin, status, &body, facts);
    // What is no sidecar has no metrics of one.
    let metrics = match ready.code {
        "not_a_sidecar" => None,
        _ => Some(metrics(OF, admin).await),
    };
    std::iter::once(ready).chain(metrics).collect()
}

/// Without the numbers that the system puts behind.
fn said(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut => "it took too long".to_owned(),
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::NotFound => "there is no such socket".to_owned(),
        _ => error.to_string(),
    }
}

fn readiness(of: &str, admin: &str, status: StatusCode, body: &[u8], facts: &Facts) -> Step {
    const STEP: &str = "readyz";
    if status == StatusCode::OK {
        let warned = reasons(body, "warning", |c| c["warning"].is_object());
        return match warned.is_empty() {
            true => Step::pass(of, STEP, format!("{admin}: ready")),
            false => Step::warn(
                of,
                STEP,
                "ready_for_now",
                format!("{admin}: ready, but {}", warned.join("; ")),
            )
            .mend("the cause is among the steps above; mend it before the token expires"),
        };
    }
    let pending = reasons(body, "reason", |c| c["ready"] != true);
    if pending.is_empty() {
        return Step::fail(
            of,
            STEP,
            "not_a_sidecar",
            format!(
                "what answers at {admin} is no sidecar's admin port (status {})",
                status.as_u16()
            ),
        )
        .mend("give the address of the sidecar's admin port (`admin`: 9090 by default, 64116 where the injector put it in)");
    }
    Step::fail(of, STEP, "not_ready", format!("{admin}: not ready: {}", pending.join("; ")))
        .mend("the cause is among the steps above, or named here; it becomes ready by itself once that is mended")
        .run(kubernetes::sidecar(facts))
}

/// A text of /readyz; that of a warning is one deeper.
fn text(value: &Value) -> String {
    let text = value.as_str().or_else(|| value["reason"].as_str());
    let text = text.unwrap_or_default().chars();
    text.filter(|c| !c.is_control()).collect()
}

/// Name and `field` of the conditions in the JSON of /readyz that are meant, and what holds for the whole.
fn reasons(body: &[u8], field: &str, meant: impl Fn(&Value) -> bool) -> Vec<String> {
    let Ok(json) = serde_json::from_slice::<Value>(body) else {
        return vec![];
    };
    let Some(conditions) = json["conditions"].as_array() else {
        return vec![];
    };
    let whole = json["reason"].as_str().map(str::to_owned);
    let each = conditions
        .iter()
        .filter(|c| meant(c))
        .map(|c| format!("{}: {}", text(&c["name"]), text(&c[field])));
    whole.into_iter().chain(each).collect()
}

async fn metrics(of: &str, admin: &str) -> Step {
    const STEP: &str = "metrics";
    match get(admin, "/metrics", "text/plain").await {
        Ok((StatusCode::OK, body)) => match build(&body) {
            Some(build) => Step::pass(of, STEP, format!("{} bytes of series; {build}", body.len())),
            None => without(of, StatusCode::OK),
        },
        Ok((status, _)) => without(of, status),
        Err(error) => Step::fail(
            of,
            STEP,
            "no_metrics",
            format!("/metrics: {}", said(&error)),
        )
        .mend("look at the sidecar's log"),
    }
}

fn without(of: &str, status: StatusCode) -> Step {
    Step::fail(
        of,
        "metrics",
        "no_metrics",
        format!("/metrics answers {} without {BUILD_INFO}", status.as_u16()),
    )
    .mend("give the address of the sidecar's admin port (`admin`: 9090 by default, 64116 where the injector put it in)")
}

/// The labels of the build that runs there, when this is a sidecar's exposition.
fn build(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix(BUILD_INFO))?;
    let labels = line.split('}').next()?.trim_start_matches('{');
    Some(
        labels
            .chars()
            .filter(|c| !c.is_control())
            .take(100)
            .collect(),
    )
}

const BUILD_INFO: &str = "token_sidecar_build_info";

async fn get(admin: &str, path: &str, accept: &'static str) -> io::Result<(StatusCode, Vec<u8>)> {
    let exchange = async {
        match admin.strip_prefix("unix:") {
            Some(file) => over(UnixStream::connect(file).await?, path, accept).await,
            None => over(TcpStream::connect(admin).await?, path, accept).await,
        }
    };
    timeout(TIMEOUT, exchange)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn over(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    path: &str,
    accept: &'static str,
) -> io::Result<(StatusCode, Vec<u8>)> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    // It ends with the connection, which ends with this answer.
    drop(spawn("doctor", async move {
        drop(connection.await);
    }));
    let mut request = Request::new(Empty::<bytes::Bytes>::new());
    *request.uri_mut() = path.parse().map_err(io::Error::other)?;
    let headers = request.headers_mut();
    headers.insert(header::HOST, HeaderValue::from_static("localhost"));
    headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
    let response = sender
        .send_request(request)
        .await
        .map_err(io::Error::other)?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_BODY)
        .collect()
        .await
        .map_err(io::Error::other)?;
    Ok((status, body.to_bytes().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pending_is_named() {
        let body = br#"{"ready":false,"conditions":[{"name":"listeners","ready":true},{"name":"credential arm","ready":false,"reason":"aadsts_700213: x"}]}"#;
        let readiness =
            |status, body: &[u8]| readiness("sidecar", "a:1", status, body, &Facts::default());
        let step = readiness(StatusCode::SERVICE_UNAVAILABLE, body);
        assert_eq!(step.code, "not_ready");
        assert!(
            step.detail.contains("credential arm: aadsts_700213: x"),
            "{}",
            step.detail
        );
        assert!(!step.detail.contains("listeners"));
        let draining = br#"{"ready":false,"draining":true,"reason":"draining","conditions":[{"name":"listeners","ready":true}]}"#;
        let step = readiness(StatusCode::SERVICE_UNAVAILABLE, draining);
        assert_eq!(
            (step.code, &*step.detail),
            ("not_ready", "a:1: not ready: draining")
        );
        assert_eq!(
            readiness(StatusCode::NOT_FOUND, b"<html>").code,
            "not_a_sidecar"
        );
    }

    #[test]
    fn ready_for_now_is_told_from_ready() {
        let readiness = |body: &str| {
            readiness(
                "sidecar",
                "a:1",
                StatusCode::OK,
                body.as_bytes(),
                &Facts::default(),
            )
        };
        let fine = r#"{"ready":true,"conditions":[{"name":"credential arm","ready":true}]}"#;
        assert_eq!(readiness(fine).code, "");
        let failing = r#"{"ready":true,"conditions":[{"name":"credential arm","ready":true,"warning":{"reason":"renewal fails: x"}}]}"#;
        let step = readiness(failing);
        assert_eq!(step.code, "ready_for_now");
        assert!(
            step.detail.contains("credential arm: renewal fails: x"),
            "{}",
            step.detail
        );
    }

    #[test]
    fn a_sidecars_metrics_say_which_build_it_is() {
        let body = b"# TYPE token_sidecar_build_info gauge\ntoken_sidecar_build_info{revision=\"abc\",version=\"0.1.0\"} 1\n";
        assert_eq!(
            build(body).as_deref(),
            Some("revision=\"abc\",version=\"0.1.0\"")
        );
        assert_eq!(build(b"go_goroutines 1\n"), None);
    }
}
