//! Bodies that servers and clients of the harness send: whole, streamed from a channel, with trailers, or dying midway.

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame};
use http_body_util::{BodyExt, Empty, Full, combinators::UnsyncBoxBody};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::sync::mpsc;

/// Any body.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;

/// No bytes.
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// These bytes.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A body that is written while it is sent; the channel is bounded, so that a slow reader holds the writer back.
pub fn channel() -> (Writer, Body) {
    let (sender, receiver) = mpsc::channel(4);
    (Writer(sender), Channel(receiver).boxed_unsync())
}

/// The writing end of [`channel`]. Dropping it ends the body.
#[derive(Clone)]
pub struct Writer(mpsc::Sender<io::Result<Frame<Bytes>>>);

impl Writer {
    /// Writes data; `false` when the reader has gone.
    pub async fn data(&self, bytes: impl Into<Bytes>) -> bool {
        self.0.send(Ok(Frame::data(bytes.into()))).await.is_ok()
    }

    /// Writes trailers; nothing may follow.
    pub async fn trailers(&self, trailers: HeaderMap) -> bool {
        self.0.send(Ok(Frame::trailers(trailers))).await.is_ok()
    }

    /// Breaks the body off: the connection (HTTP/1.1) or the stream (HTTP/2) dies.
    pub async fn break_off(&self) {
        drop(
            self.0
                .send(Err(io::Error::new(
                    io::ErrorKind::ConnectionReset,
                    "broken off on purpose",
                )))
                .await,
        );
    }

    /// Resolves when the reader has gone.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}

struct Channel(mpsc::Receiver<io::Result<Frame<Bytes>>>);

impl HttpBody for Channel {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx)
    }
}

/// Everything that a body carried.
#[derive(Debug, Clone, Default)]
pub struct Collected {
    /// The data.
    pub bytes: Bytes,
    /// The trailers, if any came.
    pub trailers: Option<HeaderMap>,
}

/// Reads a body to its end.
///
/// # Errors
/// When it breaks off.
pub async fn collect<B>(body: B) -> Result<Collected, B::Error>
where
    B: HttpBody,
{
    let collected = body.collect().await?;
    let trailers = collected.trailers().cloned();
    Ok(Collected {
        bytes: collected.to_bytes(),
        trailers,
    })
}
