//! What is left of a request's body when the answer is there before its end: until it has gone by, the connection is good for nothing. A little of it is
//! waited for, so that the connection serves on; more, or what may never come, ends the connection, and the answer says so (RFC 9112 sections 9.3 and
//! 9.6). hyper by itself would take what happens to be there already, and else close without a word: a caller that sends head and body apart would lose
//! its next request.
//!
//! The parts that every server here has in common: who waits, and with which clock, is up to the server ([`crate::serve`], and the sidecar's request flow).

use bytes::Bytes;
use http::{Version, header, request::Parts};
use http_body_util::BodyExt as _;
use hyper::body::Body;
use std::{io, time::Duration};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// More than this is not waited for, in bytes: a new connection is cheaper.
pub const MOST: u64 = 64 * 1024;
/// Nor is it waited for longer than this, and with it the answer. Far more than lies between a head and a body that are sent apart.
pub const LONGEST: Duration = Duration::from_secs(1);
/// How long a peer may go on sending what nobody uses any more, so that it gets to read why.
pub const LINGER: Duration = Duration::from_secs(2);

/// What there may be left of a body, told from the request's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leftover {
    /// Nothing that matters: there is no body, or it has an HTTP/2 stream to itself.
    Nothing,
    /// A body that is sent whatever we say.
    Coming,
    /// A body that is sent once we ask for it (`Expect: 100-continue`), which an answer does not do: whether it comes is the caller's choice.
    Withheld,
}

impl Leftover {
    /// Of a request as it came in.
    pub fn of(parts: &Parts, body: &impl Body) -> Self {
        if body.is_end_stream() || parts.version >= Version::HTTP_2 {
            Self::Nothing
        } else if parts.headers.contains_key(header::EXPECT) {
            Self::Withheld
        } else {
            Self::Coming
        }
    }
}

/// Reads a body and keeps none of it. Gives whether it came to its end within [`MOST`]: `false` when it is larger, says so, or is broken off. For
/// [`LONGEST`] the caller sees.
pub async fn read_away(mut body: impl Body<Data = Bytes> + Unpin) -> bool {
    let mut left = MOST;
    while !body.is_end_stream() {
        if body.size_hint().lower() > left {
            return false;
        }
        let read = match body.frame().await {
            None => return true,
            Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len),
            Some(Err(_)) => return false,
        };
        let Some(rest) = left.checked_sub(read as u64) else {
            return false;
        };
        left = rest;
    }
    true
}

/// Ends our side of a connection and reads until the peer has ended its own: closing with unread bytes would reset the connection, and with it an answer
/// that the peer has not read yet (RFC 9112 section 9.6). For [`LINGER`] the caller sees.
///
/// # Errors
/// The connection is broken.
pub async fn end_of(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
    stream.shutdown().await?;
    let mut rest = vec![0; 16 * 1024];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{io::duplex, join, time::timeout};

    /// The peer learns that there is nothing more, and whatever it still sends is taken.
    #[tokio::test(start_paused = true)]
    async fn our_end_comes_before_the_peers() {
        let (mut ours, mut peer) = duplex(1000);
        let peer = async {
            assert_eq!(peer.read(&mut [0; 1]).await.unwrap(), 0);
            peer.write_all(&[0; 100_000]).await.unwrap();
            drop(peer);
        };
        let both = async { join!(end_of(&mut ours), peer) };
        timeout(LINGER, both).await.expect("an end").0.unwrap();
    }
}
