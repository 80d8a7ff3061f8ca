//! One subject token file: read, checked, and announced when it changes. Polling is the source of truth, a watch on the mount root makes it
//! quick, and the renewer has it read once more before each exchange.

use super::{
    mount::{self, Watch},
    subject::{MAX_BYTES, SubjectError, SubjectToken},
};
use crate::metrics::token::SubjectTokenMetrics;
use aws_lc_rs::digest;
use sidecar_runtime::{clock::Clock, readiness::Condition};
use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout},
};
use tracing::{info, warn};
use zeroize::Zeroizing;

/// How often the file is read while all is well, whatever the watch says.
const POLL: Duration = Duration::from_secs(10);
/// How often while there is no usable token, or no directory to watch: volumes and files may come late.
const POLL_WITHOUT: Duration = Duration::from_secs(1);
/// A swap makes several events; they are looked at together.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// How long a watch that cannot be set up is left alone.
const REARM: Duration = Duration::from_secs(60);
/// A reader that loses the race against a swap finds the new file at its next try.
const RACES: usize = 5;

/// A subject token file.
pub struct SubjectFile {
    name: Arc<str>,
    path: PathBuf,
    clock: Clock,
    condition: Condition,
    metrics: SubjectTokenMetrics,
    current: watch::Sender<Option<Arc<SubjectToken>>>,
    seen: Mutex<Seen>,
}

/// What the last look found.
#[derive(Default)]
struct Seen {
    content: Option<Content>,
    error: Option<SubjectError>,
    expiry_told: bool,
}

#[derive(PartialEq, Eq, Clone, Copy)]
enum Content {
    Digest([u8; 32]),
    Nothing(SubjectError),
}

/// What a renewer needs of a subject token: its current value, news of it, and a way to look right now.
#[derive(Clone)]
pub struct SubjectSource {
    name: Arc<str>,
    receiver: watch::Receiver<Option<Arc<SubjectToken>>>,
    file: Option<Arc<SubjectFile>>,
    credential: Option<Arc<str>>,
}

impl SubjectSource {
    /// A source that is fed by hand.
    pub const fn fed(name: Arc<str>, receiver: watch::Receiver<Option<Arc<SubjectToken>>>) -> Self {
        Self {
            name,
            receiver,
            file: None,
            credential: None,
        }
    }

    /// A source that the renewer of `credential` feeds with the tokens issued to it.
    pub const fn of_credential(
        name: Arc<str>,
        credential: Arc<str>,
        receiver: watch::Receiver<Option<Arc<SubjectToken>>>,
    ) -> Self {
        Self {
            name,
            receiver,
            file: None,
            credential: Some(credential),
        }
    }

    /// The credential whose issued token this is, if it is one.
    pub const fn credential(&self) -> Option<&Arc<str>> {
        self.credential.as_ref()
    }

    /// The subject token's name.
    pub const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Looks at the file now, so that a missed event never costs a stale assertion, and gives what is there: the last good token, perhaps expired.
    pub fn read_now(&self) -> Option<Arc<SubjectToken>> {
        if let Some(file) = &self.file {
            file.check();
        }
        self.current()
    }

    /// The last good token.
    pub fn current(&self) -> Option<Arc<SubjectToken>> {
        self.receiver.borrow().clone()
    }

    /// Waits for another token; forever when there will be none.
    pub async fn changed(&mut self) {
        if self.receiver.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

impl SubjectFile {
    /// For the file at `path`, which need not exist. Reads nothing yet.
    pub fn new(
        name: Arc<str>,
        path: PathBuf,
        clock: Clock,
        condition: Condition,
        metrics: SubjectTokenMetrics,
    ) -> Arc<Self> {
        Arc::new(Self {
            name,
            path,
            clock,
            condition,
            metrics,
            current: watch::Sender::new(None),
            seen: Mutex::default(),
        })
    }

    /// A view of this file for a renewer.
    pub fn source(self: &Arc<Self>) -> SubjectSource {
        SubjectSource {
            name: Arc::clone(&self.name),
            receiver: self.current.subscribe(),
            file: Some(Arc::clone(self)),
            credential: None,
        }
    }

    /// Watches and polls, for as long as it is polled itself.
    pub async fn run(self: Arc<Self>) {
        self.run_with(Watch::arm).await;
    }

    async fn run_with(
        self: Arc<Self>,
        arm: impl Fn(&Path, mpsc::Sender<()>) -> notify::Result<Option<Watch>>,
    ) {
        let (sender, mut events) = mpsc::channel(1);
        let mut watch: Option<Watch> = None;
        let mut failed_at: Option<Instant> = None;
        let mut warned = false;
        loop {
            // First the watch, then the look: what changes in between is seen by one of them.
            let root = mount::root_of(&self.path);
            let due = failed_at.is_none_or(|at| at.elapsed() >= REARM);
            if due && !watch.as_ref().is_some_and(|w| w.covers(&root)) {
                // The old one ends first: instances are scarce.
                drop(watch.take());
                failed_at = None;
                match arm(&root, sender.clone()) {
                    Ok(armed) => {
                        if warned && armed.is_some() {
                            info!(subject_token = %self.name, root = %root.display(), "watching the mount again");
                            warned = false;
                        }
                        watch = armed;
                    }
                    Err(error) => {
                        failed_at = Some(Instant::now());
                        if !warned {
                            warned = true;
                            warn!(subject_token = %self.name, root = %root.display(), %error,
                                "cannot watch the mount, rotations are seen by polling within {} s; raise fs.inotify.max_user_instances on the node", POLL.as_secs());
                        }
                    }
                }
            }
            self.check();
            let somewhere = watch.is_some() || failed_at.is_some();
            let pause = if somewhere && self.current.borrow().is_some() {
                POLL
            } else {
                POLL_WITHOUT
            };
            if timeout(pause, events.recv()).await.is_ok() {
                sleep(DEBOUNCE).await;
                // Events of the same swap; later ones find room again.
                events.try_recv().ok();
            }
        }
    }

    /// Looks at the file. What is new is announced, counted and logged once; the last good token stays when the new content is bad.
    pub fn check(&self) {
        let read = read(&self.path);
        let content = match &read {
            Ok(bytes) => Content::Digest(sha256(bytes)),
            Err(error) => Content::Nothing(*error),
        };
        let now = self.clock.unix_now();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let same = seen.content == Some(content);
        // An "expired" may come from a clock that was wrong and has been set since.
        if same && seen.error != Some(SubjectError::Expired) {
            self.tell_expiry(&mut seen, now);
            return;
        }
        match read.and_then(|bytes| SubjectToken::parse(&bytes, now)) {
            Ok(token) => {
                info!(subject_token = %self.name, fingerprint = %token.fingerprint(), exp = token.claims().exp.as_secs(),
                    iss = token.claims().iss.as_deref().map(one_line), sub = token.claims().sub.as_deref().map(one_line),
                    "subject token rotated");
                self.metrics
                    .rotated(token.claims().issued_at(now), token.claims().exp);
                self.condition
                    .ready_until(self.clock.instant_at(token.claims().exp));
                *seen = Seen {
                    content: Some(content),
                    ..Seen::default()
                };
                drop(seen);
                self.current.send_replace(Some(Arc::new(token)));
            }
            Err(error) => {
                if same {
                    return;
                }
                seen.content = Some(content);
                seen.error = Some(error);
                self.metrics.failed(error.reason());
                let kept = self.current.borrow().is_some();
                warn!(subject_token = %self.name, path = %self.path.display(), reason = error.reason(), kept_last_good = kept,
                    "subject token file is not usable: {error}");
                if !kept {
                    self.condition
                        .pending(format!("{}: {error}", self.path.display()));
                }
            }
        }
    }

    /// A good token that grew old in place is a fault of its writer, told once.
    fn tell_expiry(&self, seen: &mut Seen, now: Duration) {
        let expired = self
            .current
            .borrow()
            .as_ref()
            .is_some_and(|token| token.claims().exp <= now);
        if expired && !seen.expiry_told {
            seen.expiry_told = true;
            self.metrics.failed(SubjectError::Expired.reason());
            self.condition.pending(format!(
                "{}: {}",
                self.path.display(),
                SubjectError::Expired
            ));
            warn!(subject_token = %self.name, path = %self.path.display(), "subject token has expired in place: {}", SubjectError::Expired);
        }
    }
}

/// A claim for the log: it comes from a file that others write.
fn one_line(claim: &str) -> String {
    claim
        .chars()
        .filter(|c| !c.is_control())
        .take(200)
        .collect()
}

/// The content of a token file, and one byte more than a token may have, so that "too large" shows. A file that is being swapped is looked at again.
///
/// # Errors
/// [`SubjectError::Missing`] or [`SubjectError::Unreadable`].
pub fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, SubjectError> {
    let mut tries = 0;
    loop {
        tries += 1;
        match read_once(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound && tries < RACES => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(SubjectError::Missing),
            Err(_) => return Err(SubjectError::Unreadable),
            Ok(bytes) => return Ok(bytes),
        }
    }
}

fn read_once(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    // Opening a pipe or a device would wait.
    if !path.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_BYTES + 2));
    File::open(path)?
        .take(MAX_BYTES as u64 + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut sum = [0; 32];
    sum.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    sum
}

#[cfg(test)]
#[path = "file_tests.rs"]
pub(crate) mod tests;
