//! Protocol upgrades of HTTP/1.1 (WebSocket, RFC 6455; RFC 9110 section 7.8): recognised, offered to the upstream over a connection of its own, and after
//! a 101 copied byte by byte in both directions, with an idle timeout. Never `h2c`: that would be a tunnel around everything this proxy checks.

use super::timer::Deadline;
use http::{HeaderMap, HeaderValue, Version, header, request::Parts};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The protocol that an HTTP/1.1 request asks to switch to, if it is one that may pass.
pub fn requested(parts: &Parts) -> Option<HeaderValue> {
    if parts.version != Version::HTTP_11 {
        return None;
    }
    let asks = parts.headers.get_all(header::CONNECTION).iter().any(|v| {
        v.as_bytes()
            .split(|b| *b == b',')
            .any(|t| t.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
    });
    let mut protocols = parts.headers.get_all(header::UPGRADE).iter();
    let protocol = protocols.next()?;
    let safe = protocols.next().is_none()
        && !protocol.as_bytes().contains(&b',')
        && !protocol
            .as_bytes()
            .trim_ascii()
            .to_ascii_lowercase()
            .starts_with(b"h2c");
    (asks && safe).then(|| protocol.clone())
}

/// Puts the offer (or its acceptance) back after stripping.
pub fn offer(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, protocol);
}

/// Copies both ways until both ends have closed, one broke, or nothing moved for `idle`.
pub async fn tunnel(
    workload: OnUpgrade,
    upstream: OnUpgrade,
    deadline: Rc<Deadline>,
    idle: Duration,
    in_flight: super::conn::InFlight,
) {
    let (workload, upstream) = match (workload.await, upstream.await) {
        (Ok(w), Ok(u)) => (w, u),
        (w, u) => {
            tracing::debug!(
                workload = w.is_ok(),
                upstream = u.is_ok(),
                "upgrade did not complete"
            );
            return;
        }
    };
    deadline.arm(idle);
    let mut workload = Watched::new(workload, &deadline, idle);
    let mut upstream = Watched::new(upstream, &deadline, idle);
    let mut copy = std::pin::pin!(tokio::io::copy_bidirectional(&mut workload, &mut upstream));
    let result = std::future::poll_fn(|cx| match copy.as_mut().poll(cx) {
        Poll::Ready(result) => Poll::Ready(result),
        Poll::Pending if deadline.poll_due(cx) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
        Poll::Pending => Poll::Pending,
    })
    .await;
    if let Err(error) = result {
        tracing::debug!(%error, "upgraded connection ended");
    }
    drop(in_flight);
}

/// Re-arms the deadline with every byte.
struct Watched<'a> {
    io: TokioIo<Upgraded>,
    deadline: &'a Deadline,
    idle: Duration,
}

impl<'a> Watched<'a> {
    fn new(io: Upgraded, deadline: &'a Deadline, idle: Duration) -> Self {
        Self {
            io: TokioIo::new(io),
            deadline,
            idle,
        }
    }
}

impl AsyncRead for Watched<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        if polled.is_ready() {
            self.deadline.arm(self.idle);
        }
        polled
    }
}

impl AsyncWrite for Watched<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, buf);
        if polled.is_ready() {
            self.deadline.arm(self.idle);
        }
        polled
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(version: Version, fields: &[(&str, &str)]) -> Option<HeaderValue> {
        let mut r = http::Request::builder().version(version).uri("/");
        for (n, v) in fields {
            r = r.header(*n, *v);
        }
        requested(&r.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn only_what_was_asked_properly_and_never_h2c() {
        let v = Version::HTTP_11;
        assert_eq!(
            asked(
                v,
                &[
                    ("connection", "keep-alive, Upgrade"),
                    ("upgrade", "websocket")
                ]
            )
            .unwrap(),
            "websocket"
        );
        for fields in [
            &[("connection", "upgrade")][..],
            &[("upgrade", "websocket")],
            &[("connection", "upgrade"), ("upgrade", "h2c")],
            &[("connection", "upgrade"), ("upgrade", "H2C")],
            &[("connection", "upgrade"), ("upgrade", "websocket, h2c")],
            &[
                ("connection", "upgrade"),
                ("upgrade", "websocket"),
                ("upgrade", "h2c"),
            ],
        ] {
            assert_eq!(asked(v, fields), None, "{fields:?}");
        }
        assert_eq!(
            asked(
                Version::HTTP_10,
                &[("connection", "upgrade"), ("upgrade", "websocket")]
            ),
            None
        );
    }
}
