//! A tap on a TCP connection: forwards bytes both ways and keeps a copy of each, so that a test can search what was on the wire.

use crate::Result;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// A running tap. Ends with its connections on drop.
pub struct Tap {
    address: SocketAddr,
    seen: Seen,
    _tasks: JoinSet<()>,
}

#[derive(Clone, Default)]
struct Seen {
    requests: Arc<Mutex<Vec<u8>>>,
    answers: Arc<Mutex<Vec<u8>>>,
}

impl Tap {
    /// Listens on a free loopback port and forwards each connection to `target`.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let seen = Seen::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, target, seen.clone()));
        Ok(Self {
            address,
            seen,
            _tasks: tasks,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All bytes that came from those who connected, in the order of arrival.
    pub fn requests(&self) -> Vec<u8> {
        self.seen
            .requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// All bytes that the target sent back.
    pub fn answers(&self) -> Vec<u8> {
        self.seen
            .answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, seen: Seen) {
    let mut connections = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        let seen = seen.clone();
        connections.spawn(async move {
            let Ok(far) = TcpStream::connect(target).await else {
                return;
            };
            let ((near_read, near_write), (far_read, far_write)) =
                (near.into_split(), far.into_split());
            tokio::join!(
                copy(near_read, far_write, &seen.requests),
                copy(far_read, near_write, &seen.answers)
            );
        });
    }
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    seen: &Mutex<Vec<u8>>,
) {
    let mut chunk = vec![0; 16 * 1024];
    while let Ok(count) = from.read(&mut chunk).await {
        seen.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(&chunk[..count]);
        if count == 0 || to.write_all(&chunk[..count]).await.is_err() {
            break;
        }
    }
    drop(to.shutdown().await);
}
