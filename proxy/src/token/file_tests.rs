//! Files in volumes that are swapped as the kubelet swaps them.

use super::*;
pub(crate) use crate::net::raw_server::TestDir;
use crate::{metrics::token::TokenMetrics, token::subject::tests::jwt};
use prometheus::Registry;
use sidecar_runtime::{readiness::Readiness, spawn};
use std::{
    fs,
    os::unix::fs::symlink,
    sync::atomic::{AtomicU32, Ordering},
};
use tokio::time::timeout;

const FAR: u64 = 100_000_000_000;

/// A projected volume: flat (`token`) or nested (`token/azure-identity-token`).
struct Volume {
    root: PathBuf,
    nested: bool,
    swaps: u32,
}

impl Volume {
    fn new(dir: &TestDir, nested: bool) -> Self {
        Self {
            root: dir.path().join("wi"),
            nested,
            swaps: 0,
        }
    }

    fn file(&self) -> PathBuf {
        if self.nested {
            self.root.join("token/azure-identity-token")
        } else {
            self.root.join("token")
        }
    }

    /// A new timestamped directory, `..data` renamed over, the old directory deleted.
    fn write(&mut self, content: &str) {
        fs::create_dir_all(&self.root).unwrap();
        self.swaps += 1;
        let name = format!("..2026_11_23_06_00_00.{}", self.swaps);
        let dir = self.root.join(&name);
        let inside = if self.nested {
            dir.join("token/azure-identity-token")
        } else {
            dir.join("token")
        };
        fs::create_dir_all(inside.parent().unwrap()).unwrap();
        fs::write(&inside, content).unwrap();
        let old = fs::read_link(self.root.join("..data")).ok();
        symlink(&name, self.root.join("..data_tmp")).unwrap();
        fs::rename(self.root.join("..data_tmp"), self.root.join("..data")).unwrap();
        if old.is_none() {
            symlink("..data/token", self.root.join("token")).unwrap();
        }
        if let Some(old) = old {
            fs::remove_dir_all(self.root.join(old)).unwrap();
        }
    }
}

struct Bench {
    file: Arc<SubjectFile>,
    source: SubjectSource,
    readiness: Readiness,
    registry: Registry,
}

impl Bench {
    fn new(path: PathBuf) -> Self {
        Self::with_clock(path, Clock::system())
    }

    fn with_clock(path: PathBuf, clock: Clock) -> Self {
        let readiness = Readiness::with_clock(clock.clone());
        let registry = Registry::new();
        let metrics = TokenMetrics::register(&registry).unwrap();
        let file = SubjectFile::new(
            "pod".into(),
            path,
            clock,
            readiness.register("subject token pod"),
            metrics.subject_token("pod"),
        );
        Self {
            source: file.source(),
            file,
            readiness,
            registry,
        }
    }

    fn current(&self) -> Option<String> {
        self.source.current().map(|t| t.expose().to_owned())
    }

    fn reason(&self) -> Option<String> {
        self.readiness.report().conditions[0].reason.clone()
    }

    fn metric(&self, series: &str) -> Option<String> {
        let text = prometheus::TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap();
        text.lines()
            .find_map(|l| l.strip_prefix(series)?.strip_prefix(' ').map(str::to_owned))
    }

    fn errors(&self, reason: &str) -> Option<String> {
        self.metric(&format!(
            r#"token_sidecar_subject_token_errors_total{{reason="{reason}",subject_token="pod"}}"#
        ))
    }

    /// Waits until `expected` is announced, at the longest for `bound`.
    async fn announced(&mut self, expected: &str, bound: Duration) {
        timeout(bound, async {
            while self.current().as_deref() != Some(expected) {
                self.source.changed().await;
            }
        })
        .await
        .expect("the new token is announced");
    }
}

/// The watch may take its time on a loaded machine, but must come well before the poll.
const BY_EVENTS: Duration = Duration::from_secs(5);

#[tokio::test]
async fn rotations_are_seen_by_events_in_both_layouts_again_and_again() {
    for nested in [false, true] {
        let dir = TestDir::new();
        let mut volume = Volume::new(&dir, nested);
        volume.write(&jwt(FAR, "0"));
        let mut bench = Bench::new(volume.file());
        let task = spawn("file", Arc::clone(&bench.file).run());
        bench.announced(&jwt(FAR, "0"), BY_EVENTS).await;
        for n in 1..6 {
            let next = jwt(FAR, &n.to_string());
            volume.write(&next);
            bench.announced(&next, BY_EVENTS).await;
        }
        assert_eq!(
            bench
                .metric(r#"token_sidecar_subject_token_rotations_total{subject_token="pod"}"#)
                .as_deref(),
            Some("6")
        );
        // The token's own `iat`.
        let issued = r#"token_sidecar_subject_token_issued_timestamp_seconds{subject_token="pod"}"#;
        assert_eq!(bench.metric(issued).as_deref(), Some("1"));
        task.abort();
    }
}

#[tokio::test]
async fn the_mount_may_come_late_and_be_made_again() {
    let dir = TestDir::new();
    let mut volume = Volume::new(&dir, true);
    let mut bench = Bench::new(volume.file());
    let task = spawn("file", Arc::clone(&bench.file).run());
    tokio::task::yield_now().await;
    bench.file.check();
    assert!(bench.reason().unwrap().contains("does not exist"));
    assert_eq!(bench.errors("missing").as_deref(), Some("1"));
    volume.write(&jwt(FAR, "a"));
    bench.announced(&jwt(FAR, "a"), BY_EVENTS).await;
    assert_eq!(bench.reason(), None);
    // Gone, and there again under the same name: the last good token stays in between.
    fs::remove_dir_all(&volume.root).unwrap();
    bench.file.check();
    assert_eq!(bench.current(), Some(jwt(FAR, "a")));
    volume.write(&jwt(FAR, "b"));
    bench.announced(&jwt(FAR, "b"), POLL * 2).await;
    volume.write(&jwt(FAR, "c"));
    bench.announced(&jwt(FAR, "c"), BY_EVENTS).await;
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn without_a_watch_polling_sees_a_rotation_within_15_seconds() {
    let dir = TestDir::new();
    let mut volume = Volume::new(&dir, true);
    volume.write(&jwt(FAR, "a"));
    let bench = Bench::with_clock(volume.file(), Clock::anchored(Duration::from_secs(1)));
    let armed = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&armed);
    let task = spawn(
        "file",
        Arc::clone(&bench.file).run_with(move |_, _| {
            count.fetch_add(1, Ordering::Relaxed);
            Err(notify::Error::io(io::Error::from_raw_os_error(24)))
        }),
    );
    sleep(Duration::from_secs(1)).await;
    assert_eq!(bench.current(), Some(jwt(FAR, "a")));
    for n in 0..20 {
        let next = jwt(FAR, &n.to_string());
        volume.write(&next);
        sleep(Duration::from_secs(15)).await;
        assert_eq!(bench.current(), Some(next));
    }
    // Tried again, but not each time.
    let armed = armed.load(Ordering::Relaxed);
    assert!((3..=7).contains(&armed), "{armed} tries in 5 min");
    task.abort();
}

#[test]
fn the_last_good_token_stays_when_the_file_turns_bad_and_each_content_is_counted_once() {
    let dir = TestDir::new();
    let path = dir.path().join("token");
    let bench = Bench::with_clock(path.clone(), Clock::anchored(Duration::from_secs(1000)));
    let good = jwt(FAR, "a");
    fs::write(&path, format!("{good}\n")).unwrap();
    bench.file.check();
    assert_eq!(bench.current(), Some(good.clone()));
    let huge = "x".repeat(MAX_BYTES + 1);
    let expired = jwt(999, "old");
    for (content, reason) in [
        ("", "empty"),
        ("garbage", "not_a_jwt"),
        (huge.as_str(), "too_large"),
        (expired.as_str(), "expired"),
    ] {
        fs::write(&path, content).unwrap();
        for _ in 0..3 {
            bench.file.check();
        }
        assert_eq!(bench.current(), Some(good.clone()), "{reason}");
        assert_eq!(bench.errors(reason).as_deref(), Some("1"), "{reason}");
        assert_eq!(bench.reason(), None, "{reason}");
    }
    fs::remove_file(&path).unwrap();
    bench.file.check();
    bench.file.check();
    assert_eq!(bench.errors("missing").as_deref(), Some("1"));
    fs::create_dir(&path).unwrap();
    bench.file.check();
    assert_eq!(bench.errors("unreadable").as_deref(), Some("1"));
    assert_eq!(bench.current(), Some(good));
    fs::remove_dir(&path).unwrap();
    fs::write(&path, jwt(FAR, "b")).unwrap();
    bench.file.check();
    assert_eq!(bench.current(), Some(jwt(FAR, "b")));
}

#[test]
fn without_a_good_token_the_condition_says_what_is_wrong() {
    let dir = TestDir::new();
    let path = dir.path().join("token");
    let bench = Bench::new(path.clone());
    fs::write(&path, "garbage").unwrap();
    bench.file.check();
    let reason = bench.reason().unwrap();
    assert!(
        reason.contains("not a JWT") && !reason.contains("garbage"),
        "{reason}"
    );
    // A pipe would block whoever opens it.
    fs::remove_file(&path).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    bench.file.check();
    assert_eq!(bench.errors("unreadable").as_deref(), Some("1"));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_expires_in_place_turns_the_condition_and_is_counted_once() {
    let dir = TestDir::new();
    let path = dir.path().join("token");
    fs::write(&path, jwt(1100, "a")).unwrap();
    let bench = Bench::with_clock(path, Clock::anchored(Duration::from_secs(1000)));
    bench.file.check();
    assert_eq!(bench.reason(), None);
    sleep(Duration::from_secs(101)).await;
    bench.file.check();
    bench.file.check();
    assert!(bench.reason().unwrap().contains("expired"));
    assert_eq!(bench.errors("expired").as_deref(), Some("1"));
}

#[test]
fn read_now_never_gives_a_stale_token() {
    let dir = TestDir::new();
    let mut volume = Volume::new(&dir, true);
    volume.write(&jwt(FAR, "a"));
    let bench = Bench::new(volume.file());
    for n in 0..50 {
        let next = jwt(FAR, &n.to_string());
        volume.write(&next);
        assert_eq!(bench.source.read_now().unwrap().expose(), next);
    }
}
