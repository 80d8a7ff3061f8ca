//! The regression gate on the CPU of a proxied request: user instructions, counted by callgrind. Unlike a time they do not depend on the
//! machine's load, and repeat to about 0.1 %. Two runs with different numbers of requests; their difference leaves out start and end.
//! Not a benchmark: the kernel's share is not in it.
//!
//! ```text
//! cargo build --profile profiling -p token-sidecar
//! cargo run -p harness --example instructions -- target/profiling/token-sidecar --bound 35200 --caller-ratio 1.15
//! ```
//!
//! With `--caller-ratio`, also that of a request on behalf of a caller whose token is there, against one with the pod's own: same process, same upstream.

use clap::Parser;
use harness::{
    Result,
    authority::{
        Authority, Options,
        options::{CLIENT, SCOPE, TENANT},
    },
    body,
    caller_issuer::{CallerIssuer, Discovery},
    certs::Ca,
    client::Client,
    ports,
    process::Process,
    raw::Raw,
    serve::{self, Server},
    temp::TempDir,
    volume::{Layout, TokenVolume},
    wait::within,
    workload::Workload,
};
use http::{Request, Response, StatusCode};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    io::{self, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// Requests of the two runs.
const FEW: usize = 300;
const MANY: usize = 1300;

/// Under valgrind all is some 50 times slower, and the machine may be busy: reached by a real fault alone.
const STARTUP: Duration = Duration::from_secs(90);
const REQUESTS: Duration = Duration::from_secs(120);

/// Each question whether it is ready costs instructions, and not the same number of them in each run: ask seldom.
const PAUSE: Duration = Duration::from_secs(1);

/// Exit code of a sidecar that cannot bind: another process took a port before it did.
const CANNOT_BIND: i32 = 71;

/// Length of the access token in bytes; Entra's have 1200 to 2000.
const TOKEN_BYTES: usize = 1500;
const BODY_BYTES: usize = 1024;

#[derive(Parser)]
struct Arguments {
    /// The binary to count in, with optimisation and symbols (`cargo build --profile profiling`).
    #[arg(value_name = "BINARY")]
    sidecar: PathBuf,
    /// Fail when a request takes more instructions than this.
    #[arg(long, value_name = "N")]
    bound: u64,
    /// Also count requests on behalf of a caller, and fail when one takes more than so many times a request with the pod's own token.
    #[arg(long, value_name = "RATIO")]
    caller_ratio: Option<f64>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match Box::pin(gate(&arguments)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Without a standard error there is nobody to tell; the exit code stands.
            drop(writeln!(io::stderr(), "instructions: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn gate(arguments: &Arguments) -> Result<()> {
    let sidecar = fs::canonicalize(&arguments.sidecar).map_err(|error| {
        format!(
            "no binary at {}: {error}; build it with `cargo build --profile profiling -p token-sidecar`",
            arguments.sidecar.display()
        )
    })?;
    let surroundings = Surroundings::start().await?;
    let mut dir = TempDir::new("token-sidecar-instructions")?;
    let few = surroundings.count(&sidecar, dir.path(), FEW).await?;
    let many = surroundings.count(&sidecar, dir.path(), MANY).await?;
    let difference = many.checked_sub(few).ok_or_else(|| {
        format!("{MANY} requests took fewer instructions ({many}) than {FEW} ({few}): the counts cannot be trusted")
    })?;
    let per_request = difference / (MANY - FEW) as u64;
    writeln!(io::stdout(), "{per_request} instructions per request")?;
    if per_request > arguments.bound {
        dir.keep();
        return Err(format!(
            "{per_request} instructions per request exceed the bound of {}; `callgrind_annotate {}` says where they go: compare with the \
             last good commit, and mend what rose",
            arguments.bound,
            profile(dir.path(), MANY).display()
        )
        .into());
    }
    match arguments.caller_ratio {
        Some(ratio) => Box::pin(callers(&surroundings, &sidecar, &mut dir, ratio)).await,
        None => Ok(()),
    }
}

/// Requests on behalf of a caller against requests with the pod's own token.
async fn callers(
    surroundings: &Surroundings,
    sidecar: &Path,
    dir: &mut TempDir,
    ratio: f64,
) -> Result<()> {
    let mut per_request = Vec::new();
    for who in [Who::Pod, Who::Caller] {
        let few = surroundings
            .count_for(sidecar, dir.path(), FEW, who)
            .await?;
        let many = surroundings
            .count_for(sidecar, dir.path(), MANY, who)
            .await?;
        let each = many.saturating_sub(few) / (MANY - FEW) as u64;
        writeln!(
            io::stdout(),
            "{each} instructions per request: {who:?}, with an inbound side"
        )?;
        per_request.push(each as f64);
    }
    let seen = per_request[1] / per_request[0];
    writeln!(
        io::stdout(),
        "a caller's request takes {seen:.3} times the pod's"
    )?;
    if seen > ratio {
        dir.keep();
        return Err(format!(
            "that exceeds {ratio}; `callgrind_annotate {}` says where they go",
            profile(dir.path(), MANY).display()
        )
        .into());
    }
    Ok(())
}

/// On whose behalf requests are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Pod,
    Caller,
}

/// What the sidecar talks to: the authority, the volume with a projected token, the upstream.
struct Surroundings {
    ca: Ca,
    authority: Authority,
    volume: TokenVolume,
    upstream: Upstream,
    callers: CallerIssuer,
    workload: Workload,
    exchange: Server,
}

/// The workload as its callers know it.
const RESOURCE: &str = "https://mcp.example.com/mcp";

impl Surroundings {
    async fn start() -> Result<Self> {
        let ca = Ca::new()?;
        let token = "t".repeat(TOKEN_BYTES);
        let options = Options {
            fixed_access_token: Some(token.clone()),
            ..Options::default()
        };
        let authority = Authority::start(&ca, options).await?;
        let volume = TokenVolume::new(Layout::Nested)?;
        volume.write(authority.projected_token()?)?;
        // Whoever asks gets the one token.
        let reply =
            format!(r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":3600}}"#);
        let exchange = Server::start(
            None,
            serve::handler(move |_, _| {
                let reply = reply.clone();
                async move { Response::new(body::full(reply)) }
            }),
        )
        .await?;
        Ok(Self {
            callers: CallerIssuer::start(&ca, Discovery::OpenId).await?,
            workload: Workload::start().await?,
            exchange,
            ca,
            authority,
            volume,
            upstream: Upstream::start(&token).await?,
        })
    }

    /// As [`Surroundings::count`], with an inbound side and a credential for callers beside the pod's, which the requests are sent with or without.
    async fn count_for(
        &self,
        sidecar: &Path,
        dir: &Path,
        requests: usize,
        who: Who,
    ) -> Result<u64> {
        let file = profile(dir, requests);
        let (listen, admin, inbound) = (ports::free()?, ports::free()?, ports::free()?);
        let config = dir.join("callers.yaml");
        fs::write(
            &config,
            format!(
                "listen: '{listen}'\nadmin: '{admin}'\nworkers: 1\nlog: {{ level: warn }}\n\
                 inbound: {{ listen: '{inbound}', upstream: '{}', resource: '{RESOURCE}', handleGrace: 10m, issuers: [{{ issuer: '{}', caFile: '{}' }}] }}\n\
                 credentials:\n  pod: {{ entraClientAssertion: {{ scope: '{SCOPE}' }} }}\n\
                 \x20 user: {{ tokenExchange: {{ tokenEndpoint: 'http://{}/token', subjectToken: caller }} }}\n\
                 routes:\n  - {{ name: pod, match: {{ pathPrefix: /orders }}, upstream: '{up}', credential: pod }}\n\
                 \x20 - {{ name: user, match: {{ pathPrefix: /caller }}, upstream: '{up}', credential: user }}\n",
                self.workload.url(),
                self.callers.url(),
                self.ca.file().display(),
                self.exchange.address(),
                up = self.upstream.url(),
            ),
        )?;
        let args = ["--config".into(), config.into()];
        let mut process = self.spawn_with(sidecar, &file, &args)?;
        if !within(
            STARTUP,
            "the sidecar to start",
            self.ready(&mut process, admin),
        )
        .await?
        {
            process.read_up().await;
            return Err(format!("ended at its start:\n{}", process.output()).into());
        }
        // Both make one inbound request: the handle of a caller.
        let token = self.callers.token("alice", RESOURCE)?;
        let request = Request::get("/hello")
            .header("authorization", format!("Bearer {token}"))
            .body(body::empty())?;
        within(
            STARTUP,
            "the inbound answer",
            Client::new(inbound).send(request),
        )
        .await??;
        let received = self.workload.received().last();
        let handle = received
            .as_ref()
            .and_then(|r| r.handle())
            .ok_or("the workload got no handle")?
            .to_owned();
        // The first one fetches the token.
        let (path, bearer) = match who {
            Who::Pod => ("/orders", "wrong"),
            Who::Caller => ("/caller", &*handle),
        };
        within(
            REQUESTS,
            "all answers",
            send(listen, path, bearer, requests),
        )
        .await??;
        let status = process.stop().await?;
        process.read_up().await;
        if !status.success() {
            return Err(format!("SIGTERM ended it with {status}:\n{}", process.output()).into());
        }
        let text = fs::read_to_string(&file)?;
        total(&text).ok_or_else(|| format!("no total in {}", file.display()).into())
    }

    /// Runs the sidecar for this many requests; gives the instructions of the whole process.
    async fn count(&self, sidecar: &Path, dir: &Path, requests: usize) -> Result<u64> {
        let file = profile(dir, requests);
        let mut tries = 0;
        let (mut process, listen) = loop {
            tries += 1;
            let (listen, admin) = (ports::free()?, ports::free()?);
            let mut process = self.spawn(sidecar, &file, listen, admin)?;
            if within(
                STARTUP,
                "the sidecar to start",
                self.ready(&mut process, admin),
            )
            .await
            .map_err(|error| format!("{error}; it said:\n{}", process.output()))?
            {
                break (process, listen);
            }
            let status = process.wait().await?;
            process.read_up().await;
            if status.code() != Some(CANNOT_BIND) || tries == 3 {
                return Err(format!("ended at its start ({status}):\n{}", process.output()).into());
            }
        };
        let served = self.upstream.served();
        within(
            REQUESTS,
            "all answers",
            send(listen, "/orders", "wrong", requests),
        )
        .await?
        .map_err(|error| format!("{error}; the sidecar said:\n{}", process.output()))?;
        let served = self.upstream.served() - served;
        if served != requests {
            return Err(format!("{requests} requests, but {served} reached the upstream").into());
        }
        let status = process.stop().await?;
        process.read_up().await;
        if !status.success() {
            return Err(format!("SIGTERM ended it with {status}:\n{}", process.output()).into());
        }
        let text = fs::read_to_string(&file)
            .map_err(|error| format!("callgrind left no {}: {error}", file.display()))?;
        total(&text).ok_or_else(|| format!("no total in {}", file.display()).into())
    }

    fn spawn(
        &self,
        sidecar: &Path,
        file: &Path,
        listen: SocketAddr,
        admin: SocketAddr,
    ) -> Result<Process> {
        let mut out = OsString::from("--callgrind-out-file=");
        out.push(file);
        let args = [
            "--workers".into(),
            "1".into(),
            "--log-level".into(),
            "warn".into(),
            "--listen".into(),
            listen.to_string().into(),
            "--admin".into(),
            admin.to_string().into(),
        ];
        self.spawn_with(sidecar, file, &args)
    }

    fn spawn_with(&self, sidecar: &Path, file: &Path, more: &[OsString]) -> Result<Process> {
        let mut out = OsString::from("--callgrind-out-file=");
        out.push(file);
        let mut args = vec!["--tool=callgrind".into(), out, sidecar.into()];
        args.extend_from_slice(more);
        let quick = more.iter().any(|arg| arg == "--listen");
        let mut env = BTreeMap::<String, OsString>::from([
            ("AZURE_CLIENT_ID".into(), CLIENT.into()),
            ("AZURE_TENANT_ID".into(), TENANT.into()),
            (
                "AZURE_FEDERATED_TOKEN_FILE".into(),
                self.volume.file().into(),
            ),
            (
                "AZURE_AUTHORITY_HOST".into(),
                self.authority.authority_host().into(),
            ),
            ("SSL_CERT_FILE".into(), self.ca.file().into()),
        ]);
        if quick {
            env.insert("TOKEN_SIDECAR_SCOPE".into(), SCOPE.into());
            env.insert("TOKEN_SIDECAR_UPSTREAM".into(), self.upstream.url().into());
        }
        // Valgrind is looked for where the rest of the machine's programs are.
        env.extend(std::env::var_os("PATH").map(|path| ("PATH".into(), path)));
        Process::spawn(Path::new("valgrind"), &args, &env)
            .map_err(|error| format!("{error}; install valgrind").into())
    }

    /// Waits until `/readyz` answers 200; `false` when the process ended before. It is asked only once a token was issued.
    async fn ready(&self, process: &mut Process, admin: SocketAddr) -> bool {
        let before = self.authority.issued().len();
        let client = Client::new(admin);
        let mut issued = false;
        loop {
            if !process.is_running() {
                return false;
            }
            let answer = match issued {
                true => client.get("/readyz").await.ok(),
                false => None,
            };
            if answer.is_some_and(|answer| answer.status == StatusCode::OK) {
                return true;
            }
            issued = self.authority.issued().len() > before;
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// One request after the other over one connection, as a usual client sends them; each answer must be 200 with the whole body.
async fn send(listen: SocketAddr, path: &str, bearer: &str, requests: usize) -> Result<()> {
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
struct Upstream {
    address: SocketAddr,
    served: Arc<AtomicUsize>,
    _accepting: JoinSet<()>,
}

impl Upstream {
    async fn start(token: &str) -> Result<Self> {
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

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Requests answered with 200 so far.
    fn served(&self) -> usize {
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

/// Where callgrind writes the profile of a run.
fn profile(dir: &Path, requests: usize) -> PathBuf {
    dir.join(format!("callgrind.{requests}"))
}

/// The instructions of the whole process in a profile of callgrind: its `totals:` line, or else `summary:`.
fn total(profile: &str) -> Option<u64> {
    let value = |name| profile.lines().find_map(|line| line.strip_prefix(name));
    let numbers = value("totals:").or_else(|| value("summary:"))?;
    numbers.split_whitespace().next()?.parse().ok()
}
