//! The socket of a workload's connection as hyper sees it: bytes that were read ahead come first, what happens is noted for the connection's own
//! clockwork, and hyper's bare answer to a request that it could not even parse is replaced by one that says what is wrong.

use crate::request::respond::Problem;
use bytes::{Buf, Bytes};
use sidecar_runtime::listener::Stream;
use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
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
    /// A request has reached the service: what is written is its answer.
    pub(super) serving: AtomicBool,
}

/// The socket, with bytes that were read ahead of it.
pub(super) struct Io {
    /// The socket.
    pub(super) stream: Stream,
    /// Bytes that come before those of the socket.
    pub(super) prefix: Bytes,
    /// What happened.
    pub(super) flags: Arc<Flags>,
    /// What is left of an answer that replaces hyper's.
    replacement: Option<Bytes>,
}

impl Io {
    /// The socket, with nothing read ahead.
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            stream,
            prefix: Bytes::new(),
            flags: Arc::default(),
            replacement: None,
        }
    }

    fn note(&self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.flags.write_blocked.store(polled.is_pending(), Relaxed);
        polled
    }

    /// Writes the replacement of an answer of hyper's own, and tells hyper that its `len` bytes are out.
    fn poll_replace(&mut self, cx: &mut Context<'_>, len: usize) -> Poll<io::Result<usize>> {
        while let Some(rest) = self.replacement.as_mut().filter(|r| !r.is_empty()) {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?;
            rest.advance(written);
        }
        self.replacement = None;
        Poll::Ready(Ok(len))
    }
}

/// The problem that hyper's automatic answer stands for, if these bytes are one: a header section alone, with an error's status.
fn problem(answer: &[u8]) -> Option<Problem> {
    let status = answer
        .strip_prefix(b"HTTP/1.1 ")
        .filter(|_| answer.ends_with(b"\r\n\r\n"))?
        .get(..3)?;
    match status {
        b"400" => Some(Problem::malformed(
            "the request line or a header field cannot be parsed",
        )),
        b"414" => Some(Problem::uri_too_long()),
        b"431" => Some(Problem::headers_too_large()),
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
        let polled = if self.flags.serving.load(Relaxed) {
            Pin::new(&mut self.stream).poll_write(cx, buf)
        } else {
            if self.replacement.is_none() {
                self.replacement = problem(buf).map(|p| p.raw().into());
            }
            match self.replacement {
                Some(_) => self.poll_replace(cx, buf.len()),
                None => Pin::new(&mut self.stream).poll_write(cx, buf),
            }
        };
        self.note(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if !self.flags.serving.load(Relaxed)
            && let [only] = bufs
        {
            return self.poll_write(cx, only);
        }
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
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
    fn only_automatic_errors_are_replaced() {
        assert_eq!(
            problem(b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\n\r\n")
                .map(|p| p.reason()),
            Some("headers_too_large")
        );
        assert_eq!(
            problem(b"HTTP/1.1 414 URI Too Long\r\n\r\n").map(|p| p.reason()),
            Some("uri_too_long")
        );
        assert_eq!(
            problem(b"HTTP/1.1 400 Bad Request\r\n\r\n").map(|p| p.reason()),
            Some("malformed")
        );
        for other in [
            &b"HTTP/1.1 200 OK\r\n\r\n"[..],
            b"HTTP/1.1 100 Continue\r\n\r\n",
            b"HTTP/1.1 400 Bad Request\r\n\r\nbody",
            b"HTTP/1.1 4",
            b"",
        ] {
            assert!(problem(other).is_none());
        }
    }
}
