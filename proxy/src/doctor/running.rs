//! Examines the sidecar that runs already: is it ready, and does it export its metrics. On a laptop, or before the first start, there is none.

use super::report::Step;
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
pub(super) async fn examine(admin: &str, must_run: bool) -> Vec<Step> {
    const OF: &str = "sidecar";
    let ready = match get(admin, "/readyz", "application/json").await {
        Ok(answer) => answer,
        Err(error) if must_run => {
            return vec![Step::fail(
                OF,
                "readyz",
                "not_running",
                format!(
                    "nothing answers at {admin} ({error}); check that the sidecar runs and that network policies let this pod in"
                ),
                vec![
                    "kubectl get pods -l app.kubernetes.io/name=mcp-server -o wide".into(),
                    "kubectl logs <pod> -c token-sidecar".into(),
                ],
            )];
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
    vec![readiness(OF, ready.0, &ready.1), metrics(OF, admin).await]
}

fn readiness(of: &str, status: StatusCode, body: &[u8]) -> Step {
    const STEP: &str = "readyz";
    if status == StatusCode::OK {
        return Step::pass(of, STEP, "ready");
    }
    let pending = pending(body);
    if pending.is_empty() {
        return Step::fail(
            of,
            STEP,
            "not_a_sidecar",
            format!("what answers there is no sidecar's admin port (status {status})"),
            vec![],
        );
    }
    Step::fail(
        of,
        STEP,
        "not_ready",
        format!("not ready: {}", pending.join("; ")),
        vec!["kubectl logs <pod> -c token-sidecar".into()],
    )
}

/// What the JSON of /readyz names as pending, with the reason.
fn pending(body: &[u8]) -> Vec<String> {
    let Ok(json) = serde_json::from_slice::<Value>(body) else {
        return vec![];
    };
    let Some(conditions) = json["conditions"].as_array() else {
        return vec![];
    };
    let whole = json["reason"].as_str().map(str::to_owned);
    let each = conditions.iter().filter(|c| c["ready"] != true).map(|c| {
        let text = |name: &str| {
            c[name]
                .as_str()
                .unwrap_or_default()
                .chars()
                .filter(|c| !c.is_control())
                .collect::<String>()
        };
        format!("{}: {}", text("name"), text("reason"))
    });
    whole.into_iter().chain(each).collect()
}

async fn metrics(of: &str, admin: &str) -> Step {
    const STEP: &str = "metrics";
    match get(admin, "/metrics", "text/plain").await {
        Ok((StatusCode::OK, body))
            if body
                .windows(BUILD_INFO.len())
                .any(|w| w == BUILD_INFO.as_bytes()) =>
        {
            Step::pass(of, STEP, format!("{} bytes of series", body.len()))
        }
        Ok((status, _)) => Step::fail(
            of,
            STEP,
            "no_metrics",
            format!("/metrics answers {status} without {BUILD_INFO}"),
            vec![],
        ),
        Err(error) => Step::fail(of, STEP, "no_metrics", error.to_string(), vec![]),
    }
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
        let step = readiness("sidecar", StatusCode::SERVICE_UNAVAILABLE, body);
        assert_eq!(step.code, "not_ready");
        assert!(
            step.detail.contains("credential arm: aadsts_700213: x"),
            "{}",
            step.detail
        );
        assert!(!step.detail.contains("listeners"));
        let draining = br#"{"ready":false,"draining":true,"reason":"draining","conditions":[{"name":"listeners","ready":true}]}"#;
        let step = readiness("sidecar", StatusCode::SERVICE_UNAVAILABLE, draining);
        assert_eq!(
            (step.code, &*step.detail),
            ("not_ready", "not ready: draining")
        );
        assert_eq!(
            readiness("sidecar", StatusCode::NOT_FOUND, b"<html>").code,
            "not_a_sidecar"
        );
    }
}
