//! One run of the sidecar under callgrind, with everything that it talks to, and what it counted.

use crate::exchange::{Upstream, send};
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
    serve::{self, Server},
    volume::{Layout, TokenVolume},
    wait::within,
    workload::Workload,
};
use http::{Request, Response, StatusCode};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

/// Under valgrind all is some 50 times slower, and the machine may be busy: reached by a real fault alone.
const STARTUP: Duration = Duration::from_secs(90);
const REQUESTS: Duration = Duration::from_secs(120);

/// Each question whether it is ready costs instructions, and not the same number of them in each run: ask seldom.
const PAUSE: Duration = Duration::from_secs(1);

/// Exit code of a sidecar that cannot bind: another process took a port before it did.
const CANNOT_BIND: i32 = 71;

/// Length of the access token in bytes; Entra's have 1200 to 2000.
const TOKEN_BYTES: usize = 1500;

/// The workload as its callers know it.
const RESOURCE: &str = "https://mcp.example.com/mcp";

/// How the sidecar is configured, and on whose behalf requests are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// One upstream, by options and the environment, with the pod's token.
    Plain,
    /// By a file that has an inbound side and a credential for callers, too: with the pod's token.
    Pod,
    /// By the same file: on behalf of a caller.
    Caller,
}

/// What the sidecar talks to: authorities, the volume with a projected token, the upstream, the workload and its callers' issuer.
pub(crate) struct Surroundings {
    ca: Ca,
    authority: Authority,
    volume: TokenVolume,
    upstream: Upstream,
    callers: CallerIssuer,
    workload: Workload,
    exchange: Server,
}

/// Where a sidecar listens.
struct Ports {
    listen: SocketAddr,
    admin: SocketAddr,
    inbound: SocketAddr,
}

impl Ports {
    fn free() -> Result<Self> {
        Ok(Self {
            listen: ports::free()?,
            admin: ports::free()?,
            inbound: ports::free()?,
        })
    }
}

impl Surroundings {
    pub(crate) async fn start() -> Result<Self> {
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

    /// Runs the sidecar for this many requests; gives the instructions of the whole process.
    pub(crate) async fn count(
        &self,
        sidecar: &Path,
        dir: &Path,
        requests: usize,
        way: Way,
    ) -> Result<u64> {
        let file = profile(dir, requests);
        let mut tries = 0;
        let (mut process, ports) = loop {
            tries += 1;
            let ports = Ports::free()?;
            let mut process = self.spawn(sidecar, &file, &ports, way)?;
            let ready = self.ready(&mut process, ports.admin);
            let ready = within(STARTUP, "the sidecar to start", ready).await;
            if ready.map_err(|error| format!("{error}; it said:\n{}", process.output()))? {
                break (process, ports);
            }
            let status = process.wait().await?;
            if status.code() != Some(CANNOT_BIND) || tries == 3 {
                return Err(format!("ended at its start ({status}):\n{}", process.output()).into());
            }
        };
        // Those of the file all make one inbound request, whoever then calls.
        let handle = match way {
            Way::Plain => String::new(),
            Way::Pod | Way::Caller => self.handle(ports.inbound).await?,
        };
        // The first request on behalf of a caller fetches the token.
        let (path, bearer) = match way {
            Way::Plain | Way::Pod => ("/orders", "wrong"),
            Way::Caller => ("/caller", &*handle),
        };
        let served = self.upstream.served();
        within(
            REQUESTS,
            "all answers",
            send(ports.listen, path, bearer, requests),
        )
        .await?
        .map_err(|error| format!("{error}; the sidecar said:\n{}", process.output()))?;
        let served = self.upstream.served() - served;
        if served != requests {
            return Err(format!("{requests} requests, but {served} reached the upstream").into());
        }
        let status = process.stop().await?;
        if !status.success() {
            return Err(format!("SIGTERM ended it with {status}:\n{}", process.output()).into());
        }
        let text = fs::read_to_string(&file)
            .map_err(|error| format!("callgrind left no {}: {error}", file.display()))?;
        total(&text).ok_or_else(|| format!("no total in {}", file.display()).into())
    }

    /// Of a caller who comes in at the inbound side, the handle that the workload gets.
    async fn handle(&self, inbound: SocketAddr) -> Result<String> {
        let token = self.callers.token("alice", RESOURCE)?;
        let request = Request::get("/hello")
            .header("authorization", format!("Bearer {token}"))
            .body(body::empty())?;
        let client = Client::new(inbound);
        within(STARTUP, "the inbound answer", client.send(request)).await??;
        let received = self.workload.received().last();
        let handle = received.as_ref().and_then(|r| r.handle());
        Ok(handle.ok_or("the workload got no handle")?.to_owned())
    }

    /// The configuration with an inbound side, and a credential for callers beside the pod's.
    fn config(&self, ports: &Ports) -> String {
        let Ports {
            listen,
            admin,
            inbound,
        } = ports;
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
        )
    }

    /// Starts the sidecar under callgrind, which writes its profile to `file`.
    fn spawn(&self, sidecar: &Path, file: &Path, ports: &Ports, way: Way) -> Result<Process> {
        let mut out = OsString::from("--callgrind-out-file=");
        out.push(file);
        let mut args = vec!["--tool=callgrind".into(), out, sidecar.into()];
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
        match way {
            Way::Plain => {
                let (listen, admin) = (ports.listen.to_string(), ports.admin.to_string());
                for (option, value) in [
                    ("--workers", "1"),
                    ("--log-level", "warn"),
                    ("--listen", &listen),
                    ("--admin", &admin),
                ] {
                    args.extend([option.into(), value.into()]);
                }
                env.insert("TOKEN_SIDECAR_SCOPE".into(), SCOPE.into());
                env.insert("TOKEN_SIDECAR_UPSTREAM".into(), self.upstream.url().into());
            }
            Way::Pod | Way::Caller => {
                let config = file.with_extension("yaml");
                fs::write(&config, self.config(ports))?;
                args.extend(["--config".into(), config.into()]);
            }
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

/// Where callgrind writes the profile of a run.
pub(crate) fn profile(dir: &Path, requests: usize) -> PathBuf {
    dir.join(format!("callgrind.{requests}"))
}

/// The instructions of the whole process in a profile of callgrind: its `totals:` line, or else `summary:`.
fn total(profile: &str) -> Option<u64> {
    let value = |name| profile.lines().find_map(|line| line.strip_prefix(name));
    let numbers = value("totals:").or_else(|| value("summary:"))?;
    numbers.split_whitespace().next()?.parse().ok()
}
