//! The socket of a workload's connection as hyper sees it: bytes that were read ahead come first, what happens is noted for the connection's own
//! clockwork, and hyper's bare answer to a request that it could not even parse is held back, for one that says what is wrong.
//!
//! One such answer is not held back: that to a request which follows an upload that was answered before it had ended, while the workload has not read
//! that answer yet. Then hyper's own stands among bytes of a response, where it cannot be told from them; it is a bare 400 or 431.

use crate::{net::gather::poll_write_slices, request::respond::Problem};
use bytes::{Buf, Bytes};
use sidecar_runtime::listener::Stream;
use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What passes between the socket and the connection's future. Atomics because hyper wants an upgraded stream to be `Send`; only one thread ever
/// looks.
#[derive(Default)]
pub(super) struct Flags {
    /// Bytes came in.
    pub(super) read: AtomicBool,
    /// The last write did not go out whole: the workload is slow to read.
    pub(super) write_blocked: AtomicBool,
    /// A request has reached the service, and its answer is not out yet: what is written is that answer.
    pub(super) serving: AtomicBool,
    /// Requests whose response has not ended.
    requests: AtomicUsize,
    /// The status of hyper's answer to what it could not parse; 0 for none.
    refused: AtomicUsize,
}

impl Flags {
    /// One request more whose response has not ended.
    pub(super) fn add_request(&self) {
        self.requests
            .store(self.requests.load(Relaxed) + 1, Relaxed);
    }
    /// One fewer.
    pub(super) fn end_request(&self) {
        self.requests
            .store(self.requests.load(Relaxed) - 1, Relaxed);
    }
    /// Requests whose response has not ended.
    pub(super) fn requests(&self) -> usize {
        self.requests.load(Relaxed)
    }
    /// hyper has refused what it could not parse.
    pub(super) fn refused(&self) -> bool {
        self.refused.load(Relaxed) != 0
    }
}

/// The socket, with bytes that were read ahead of it.
pub(super) struct Io {
    /// The socket.
    pub(super) stream: Stream,
    /// Bytes that come before those of the socket.
    pub(super) prefix: Bytes,
    /// What happened.
    pub(super) flags: Arc<Flags>,
}

impl Io {
    /// The socket, with nothing read ahead.
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            stream,
            prefix: Bytes::new(),
            flags: Arc::default(),
        }
    }

    fn note(&self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.flags.write_blocked.store(polled.is_pending(), Relaxed);
        polled
    }

    /// What to say instead of the answer that was held back; `unparsed` is what hyper could not make a request of, and
    /// `max_uri_bytes` what a target may have.
    pub(super) fn refusal(&self, unparsed: &[u8], max_uri_bytes: usize) -> Option<Problem> {
        match self.flags.refused.load(Relaxed) {
            0 => None,
            414 => Some(Problem::uri_too_long()),
            // hyper counts the request line into the header section.
            431 if target(unparsed).len() > max_uri_bytes => Some(Problem::uri_too_long()),
            431 => Some(Problem::headers_too_large()),
            _ => Some(Problem::malformed(
                "the request line or a header field cannot be parsed",
            )),
        }
    }

    /// Whether these bytes are hyper's answer to what it could not parse; then it is noted, and goes nowhere.
    fn holds_back(&self, bytes: &[u8]) -> bool {
        if self.flags.serving.load(Relaxed) {
            return false;
        }
        let status = refused_with(bytes);
        if let Some(status) = status {
            self.flags.refused.store(status, Relaxed);
        }
        status.is_some()
    }
}

/// The target of a request line, as far as it is there.
fn target(unparsed: &[u8]) -> &[u8] {
    unparsed
        .split(|b| matches!(b, b'\r' | b'\n'))
        .next()
        .and_then(|line| line.split(|b| *b == b' ').nth(1))
        .unwrap_or_default()
}

/// The status of hyper's automatic answer, if these bytes are one: a header section alone, with an error's status.
fn refused_with(answer: &[u8]) -> Option<usize> {
    let status = answer
        .strip_prefix(b"HTTP/1.1 ")
        .filter(|_| answer.ends_with(b"\r\n\r\n"))?
        .get(..3)?;
    match status {
        b"400" => Some(400),
        b"414" => Some(414),
        b"431" => Some(431),
        _ => None,
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.prefix.is_empty() {
            self.flags.read.store(true, Relaxed);
            let n = self.prefix.len().min(buf.remaining());
            buf.put_slice(&self.prefix[..n]);
            self.prefix.advance(n);
            return Poll::Ready(Ok(()));
        }
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if polled.is_ready() {
            self.flags.read.store(true, Relaxed);
        }
        polled
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.holds_back(buf) {
            return Poll::Ready(Ok(buf.len()));
        }
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes when it has written all that it has. It parses no next request before that.
        if self.flags.requests() == 0 {
            self.flags.serving.store(false, Relaxed);
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.flags.refused() {
            // There is something to say yet.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [only] = bufs
            && self.holds_back(only)
        {
            return Poll::Ready(Ok(only.len()));
        }
        let polled = poll_write_slices(&mut self.stream, cx, bufs);
        self.note(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_of_a_request_line_that_may_be_cut_off() {
        for (line, is) in [
            ("GET /a HTTP/1.1\r\nX: b c\r\n", "/a"),
            ("GET /abc", "/abc"),
            ("GET /a\r\nX: b c", "/a"),
            ("GET\r\nX: b c", ""),
            ("", ""),
        ] {
            assert_eq!(target(line.as_bytes()), is.as_bytes(), "{line:?}");
        }
    }

    #[test]
    fn only_automatic_errors_are_held_back() {
        for (answer, status) in [
            (
                &b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\n\r\n"[..],
                431,
            ),
            (b"HTTP/1.1 414 URI Too Long\r\n\r\n", 414),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", 400),
        ] {
            assert_eq!(refused_with(answer), Some(status));
        }
        for other in [
            &b"HTTP/1.1 200 OK\r\n\r\n"[..],
            b"HTTP/1.1 100 Continue\r\n\r\n",
            b"HTTP/1.1 400 Bad Request\r\n\r\nbody",
            b"HTTP/1.1 4",
            b"",
        ] {
            assert_eq!(refused_with(other), None);
        }
    }
}
