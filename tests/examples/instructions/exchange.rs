//! Both ends of the counted requests: a client that sends one after the other, and an upstream that answers each as nginx would. As little as possible
//! varies from run to run.

use harness::{Result, raw::Raw};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

const BODY_BYTES: usize = 1024;

/// One request after the other over one connection, as a usual client sends them; each answer must be 200 with the whole body.
pub(crate) async fn send(
    listen: SocketAddr,
    path: &str,
    bearer: &str,
    requests: usize,
) -> Result<()> {
    let request = format!(
        "GET {path}/1 HTTP/1.1\r\nHost: {listen}\r\nUser-Agent: python-requests/2.32.5\r\nAccept: */*\r\n\
         Accept-Encoding: gzip, deflate\r\nAuthorization: Bearer {bearer}\r\n\r\n"
    );
    let body = content();
    let mut connection = Raw::connect(listen).await?;
    for number in 1..=requests {
        connection.send(&request).await?;
        let answer = connection.answer().await?;
        if answer.status() != 200 || answer.body != body.as_bytes() {
            return Err(format!(
                "request {number} of {requests} was answered with `{}` and {} of {BODY_BYTES} bytes",
                answer.head.lines().next().unwrap_or_default(),
                answer.body.len()
            )
            .into());
        }
    }
    Ok(())
}

/// Answers each GET that carries exactly the token as nginx would, with as little work and as few writes; anything else with 401.
pub(crate) struct Upstream {
    address: SocketAddr,
    served: Arc<AtomicUsize>,
    _accepting: JoinSet<()>,
}

impl Upstream {
    pub(crate) async fn start(token: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let served = Arc::<AtomicUsize>::default();
        let (token, counter) = (Arc::<str>::from(token), Arc::clone(&served));
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            // An upstream that accepts no more shows as requests without an answer.
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(answer_all(stream, Arc::clone(&token), Arc::clone(&counter)));
            }
        });
        Ok(Self {
            address,
            served,
            _accepting: accepting,
        })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Requests answered with 200 so far.
    pub(crate) fn served(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }
}

/// Serves a connection to its end; how it ends is seen from the other side.
async fn answer_all(mut stream: TcpStream, token: Arc<str>, served: Arc<AtomicUsize>) {
    const END: &[u8] = b"\r\n\r\n";
    let good = format!(
        "HTTP/1.1 200 OK\r\nServer: nginx/1.28.0\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Type: application/json\r\n\
         Content-Length: {BODY_BYTES}\r\nConnection: keep-alive\r\n\r\n{}",
        content()
    );
    let refused =
        "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n";
    drop(stream.set_nodelay(true));
    let mut buffer = Vec::with_capacity(16 * 1024);
    loop {
        let Some(end) = buffer.windows(END.len()).position(|window| window == END) else {
            match stream.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => continue,
            }
        };
        let head: Vec<u8> = buffer.drain(..end + END.len()).collect();
        let answer = match carries(&String::from_utf8_lossy(&head), &token) {
            true => {
                served.fetch_add(1, Ordering::SeqCst);
                good.as_str()
            }
            false => refused,
        };
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Whether this is the head of a GET with one `Authorization`, and that the token's.
fn carries(head: &str, token: &str) -> bool {
    let mut values = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, _)| name.eq_ignore_ascii_case("authorization"))
        .map(|(_, value)| value.trim());
    let injected = values
        .next()
        .and_then(|value| value.strip_prefix("Bearer "))
        .is_some_and(|value| value == token);
    head.starts_with("GET ") && injected && values.next().is_none()
}

fn content() -> String {
    "0123456789abcdef".repeat(BODY_BYTES / 16)
}
