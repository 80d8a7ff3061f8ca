//! A raw client: sends these bytes, reads what comes until the answer is complete or the connection closes. For everything that a
//! well-behaved HTTP library would not send, or would hide.

use crate::{
    Result,
    wait::{LONG, within},
};
use std::{net::SocketAddr, path::Path, pin::Pin, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
};

trait Duplex: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Duplex for T {}

/// An open connection and what was read of it and not yet used.
pub struct Raw {
    stream: Pin<Box<dyn Duplex>>,
    buffer: Vec<u8>,
}

/// An HTTP/1 answer as it was on the wire.
#[derive(Debug, Clone, Default)]
pub struct RawAnswer {
    /// Heads of 1xx answers that came before.
    pub interim: Vec<String>,
    /// Status line and header lines, without the empty line.
    pub head: String,
    /// The body: of its `Content-Length`, or all that came until the close; chunked bodies as they are on the wire.
    pub body: Vec<u8>,
    /// The connection ended before the answer was complete.
    pub cut: bool,
}

impl RawAnswer {
    /// The status; 0 when there was no answer at all.
    pub fn status(&self) -> u16 {
        self.head
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .unwrap_or(0)
    }

    /// Every value of a header, in order.
    pub fn headers(&self, name: &str) -> Vec<&str> {
        let lines = self
            .head
            .split("\r\n")
            .skip(1)
            .filter_map(|line| line.split_once(':'));
        lines
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .collect()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Sends `bytes` over a new connection and reads one answer, generously bounded.
///
/// # Errors
/// When the connection cannot be opened or the bound has passed.
pub async fn exchange(address: SocketAddr, bytes: impl AsRef<[u8]>) -> Result<RawAnswer> {
    let mut raw = Raw::connect(address).await?;
    raw.send(bytes).await?;
    raw.answer().await
}

impl Raw {
    /// Connects over TCP.
    ///
    /// # Errors
    /// When nobody listens there.
    pub async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: Box::pin(stream),
            buffer: Vec::new(),
        })
    }

    /// Connects to a Unix socket.
    ///
    /// # Errors
    /// When nobody listens there.
    pub async fn unix(path: &Path) -> Result<Self> {
        Ok(Self {
            stream: Box::pin(UnixStream::connect(path).await?),
            buffer: Vec::new(),
        })
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// When the other end has closed.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> Result<()> {
        self.stream.write_all(bytes.as_ref()).await?;
        Ok(self.stream.flush().await?)
    }

    /// Closes our sending side.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn finish(&mut self) -> Result<()> {
        Ok(self.stream.shutdown().await?)
    }

    /// Reads one answer to a request other than HEAD.
    ///
    /// # Errors
    /// When the bound has passed; a connection that ends early is [`RawAnswer::cut`], not an error.
    pub async fn answer(&mut self) -> Result<RawAnswer> {
        self.answer_to(false).await
    }

    /// As [`Raw::answer`]; an answer to HEAD has no body.
    ///
    /// # Errors
    /// As [`Raw::answer`].
    pub async fn answer_to(&mut self, head_request: bool) -> Result<RawAnswer> {
        within(LONG, "a raw answer", self.read_answer(head_request)).await?
    }

    /// Reads exactly `count` bytes.
    ///
    /// # Errors
    /// When the connection ends or the bound passes before.
    pub async fn bytes(&mut self, count: usize) -> Result<Vec<u8>> {
        within(LONG, "raw bytes", async {
            while self.buffer.len() < count {
                if !self.fill().await? {
                    return Err(format!(
                        "the connection ended after {} of {count} bytes",
                        self.buffer.len()
                    )
                    .into());
                }
            }
            Ok(self.buffer.drain(..count).collect())
        })
        .await?
    }

    /// Reads all until the other end closes, generously bounded.
    ///
    /// # Errors
    /// When it does not close in time.
    pub async fn rest(&mut self) -> Result<Vec<u8>> {
        within(LONG, "the connection to close", async {
            while self.fill().await? {}
            Ok(std::mem::take(&mut self.buffer))
        })
        .await?
    }

    /// Whether the other end closes within `bound` (what it still sends is read away).
    pub async fn closes_within(&mut self, bound: Duration) -> bool {
        within(bound, "the connection to close", async {
            while matches!(self.fill().await, Ok(true)) {}
        })
        .await
        .is_ok()
    }

    async fn read_answer(&mut self, head_request: bool) -> Result<RawAnswer> {
        let mut answer = RawAnswer::default();
        loop {
            let Some(end) = self.find(b"\r\n\r\n").await? else {
                answer.body = std::mem::take(&mut self.buffer);
                answer.cut = true;
                return Ok(answer);
            };
            let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
            self.buffer.drain(..end + 4);
            answer.head = head;
            if (100..200).contains(&answer.status()) && answer.status() != 101 {
                answer.interim.push(std::mem::take(&mut answer.head));
                continue;
            }
            break;
        }
        let status = answer.status();
        if head_request || status == 101 || status == 204 || status == 304 {
            return Ok(answer);
        }
        let chunked = answer
            .headers("transfer-encoding")
            .iter()
            .any(|value| value.eq_ignore_ascii_case("chunked"));
        let length = answer
            .headers("content-length")
            .first()
            .and_then(|value| value.parse::<usize>().ok());
        if chunked {
            answer.cut = !self.chunked(&mut answer.body).await?;
        } else if let Some(length) = length {
            while self.buffer.len() < length && self.fill().await? {}
            answer.cut = self.buffer.len() < length;
            answer.body = self.buffer.drain(..length.min(self.buffer.len())).collect();
        } else {
            while self.fill().await? {}
            answer.body = std::mem::take(&mut self.buffer);
        }
        Ok(answer)
    }

    /// Reads a chunked body as it is on the wire, trailers included; `false` when it was cut off.
    async fn chunked(&mut self, body: &mut Vec<u8>) -> Result<bool> {
        loop {
            let Some(line) = self.find(b"\r\n").await? else {
                return Ok(false);
            };
            let text = String::from_utf8_lossy(&self.buffer[..line]).into_owned();
            let size =
                usize::from_str_radix(text.split(';').next().unwrap_or_default().trim(), 16)?;
            body.extend(self.buffer.drain(..line + 2));
            if size == 0 {
                loop {
                    let Some(line) = self.find(b"\r\n").await? else {
                        return Ok(false);
                    };
                    body.extend(self.buffer.drain(..line + 2));
                    if line == 0 {
                        return Ok(true);
                    }
                }
            }
            while self.buffer.len() < size + 2 {
                if !self.fill().await? {
                    body.append(&mut self.buffer);
                    return Ok(false);
                }
            }
            body.extend(self.buffer.drain(..size + 2));
        }
    }

    async fn find(&mut self, pattern: &[u8]) -> Result<Option<usize>> {
        loop {
            if let Some(at) = self
                .buffer
                .windows(pattern.len())
                .position(|window| window == pattern)
            {
                return Ok(Some(at));
            }
            if !self.fill().await? {
                return Ok(None);
            }
        }
    }

    /// Reads more; `false` at the end (a reset counts as one).
    async fn fill(&mut self) -> Result<bool> {
        self.buffer.reserve(16 * 1024);
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(count) => Ok(count > 0),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
