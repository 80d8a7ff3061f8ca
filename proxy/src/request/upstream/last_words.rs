//! A connection that is read to its end although writing to it has failed. An upstream that refuses a large body, and closes without reading it, resets
//! the connection: what it said before is still there to be read, and is the answer. hyper gives up with the first write that fails.
//!
//! What is written from then on goes nowhere. That ends soon: of a connection that was reset there is nothing to wait for, so the next read gives the
//! answer, or the error that the write would have given.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The connection.
#[derive(Debug)]
pub(super) struct LastWords<S> {
    stream: S,
    /// Nothing is taken any more.
    reset: bool,
}

impl<S> LastWords<S> {
    pub(super) const fn new(stream: S) -> Self {
        Self {
            stream,
            reset: false,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> LastWords<S> {
    /// Writes, or does as if it had: `taken`.
    fn write<T>(
        &mut self,
        taken: T,
        write: impl FnOnce(Pin<&mut S>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        use io::ErrorKind::{BrokenPipe, ConnectionReset};
        if self.reset {
            return Poll::Ready(Ok(taken));
        }
        match write(Pin::new(&mut self.stream)) {
            Poll::Ready(Err(error)) if matches!(error.kind(), BrokenPipe | ConnectionReset) => {
                self.reset = true;
                Poll::Ready(Ok(taken))
            }
            written => written,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for LastWords<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for LastWords<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write(buf.len(), |s| s.poll_write(cx, buf))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write((), |s| s.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write((), |s| s.poll_shutdown(cx))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all = bufs.iter().map(|b| b.len()).sum();
        self.write(all, |s| s.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
