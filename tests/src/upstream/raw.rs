//! A raw upstream: reads a request's head, sends scripted bytes, closes or stays. For answers that no HTTP library would send: 1xx other
//! than 100, broken framing, bytes after the end.

use crate::{Result, record::Record};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// What to do after a request's head has arrived.
#[derive(Debug, Clone)]
pub enum Step {
    /// Send these bytes.
    Send(Vec<u8>),
    /// Wait until this many bytes of body have arrived.
    Read(usize),
    /// Pause.
    Pause(Duration),
    /// Close with a reset instead of an orderly end.
    Reset,
    /// Keep the connection open and take the next request.
    Again,
}

impl Step {
    /// Sends text.
    pub fn text(text: &str) -> Self {
        Self::Send(text.as_bytes().to_vec())
    }
}

/// A running raw upstream; plain TCP.
pub struct RawUpstream {
    address: SocketAddr,
    heads: Record<String>,
    _tasks: JoinSet<()>,
}

impl RawUpstream {
    /// Does the same steps for every connection, then closes it.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start(steps: Vec<Step>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let heads = Record::new();
        let (steps, seen) = (Arc::new(steps), heads.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (steps, seen) = (Arc::clone(&steps), seen.clone());
                // How it ends is for the proxy to show.
                connections.spawn(async move { drop(serve(stream, &steps, &seen).await) });
            }
        });
        Ok(Self {
            address,
            heads,
            _tasks: tasks,
        })
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The heads of the requests received, as they were on the wire.
    pub fn heads(&self) -> &Record<String> {
        &self.heads
    }
}

async fn serve(
    mut stream: TcpStream,
    steps: &[Step],
    seen: &Record<String>,
) -> std::io::Result<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        seen.push(String::from_utf8_lossy(&head).into_owned());
        let mut again = false;
        for step in steps {
            match step {
                Step::Send(bytes) => stream.write_all(bytes).await?,
                Step::Read(count) => {
                    stream.read_exact(&mut vec![0; *count]).await?;
                }
                Step::Pause(pause) => tokio::time::sleep(*pause).await,
                Step::Reset => stream.set_zero_linger()?,
                Step::Again => again = true,
            }
        }
        if !again {
            return Ok(());
        }
    }
}
