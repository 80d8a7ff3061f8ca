//! A static secret as a credential: what is in a file is put on requests as it is, for upstreams that know nothing better. It never expires by itself; when
//! the file changes, what is in it now takes over. No authority is asked.

use super::{
    exchange::{Exchanger, IssuedToken, SubjectTokens, TokenType, error::ExchangeError},
    file,
    injection::Injection,
    mount::{self, Watch},
    params::StaticSecretParams,
    renew::Change,
    slot::{Activity, Slot},
};
use async_trait::async_trait;
use sidecar_runtime::readiness::Condition;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::mpsc::{self, UnboundedReceiver},
    time::{Instant, sleep, timeout},
};
use tracing::{info, warn};
use zeroize::Zeroizing;

/// How often the file is read while all is well, whatever the watch says; and while it is not.
const POLL: Duration = Duration::from_secs(10);
const POLL_WITHOUT: Duration = Duration::from_secs(1);
/// A swap makes several events; they are looked at together.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// As good as never.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// Reads the secret.
#[derive(Debug)]
pub struct StaticSecret(pub StaticSecretParams);

#[async_trait]
impl Exchanger for StaticSecret {
    fn takes_claims(&self) -> bool {
        false
    }

    /// White space around the secret (editors put it there) is not part of it.
    async fn exchange(
        &self,
        _tokens: &SubjectTokens,
        _claims: Option<&str>,
    ) -> Result<IssuedToken, ExchangeError> {
        let unusable = || ExchangeError::local("static_secret_unreadable");
        let content = file::read(&self.0.file).map_err(|_| unusable())?;
        let text = content.trim_ascii();
        // Visible ASCII: nothing that ends or splits a header.
        if text.is_empty() || !text.iter().all(|b| (0x21..=0x7e).contains(b)) {
            return Err(unusable());
        }
        let text = std::str::from_utf8(text).map_err(|_| unusable())?;
        Ok(IssuedToken {
            token: Zeroizing::new(text.to_owned()),
            token_type: TokenType::Bearer,
            lifetime: FAR,
            refresh_in: None,
        })
    }
}

/// Keeps a slot filled with what is in the file.
pub struct Watcher {
    /// Where it goes.
    pub slot: Arc<Slot>,
    /// Which file.
    pub params: StaticSecretParams,
    /// How the secret is read.
    pub exchanger: Arc<dyn Exchanger>,
    /// How it is put on requests.
    pub injection: Arc<Injection>,
    /// Shown in /readyz.
    pub condition: Condition,
}

/// What the last look found.
#[derive(PartialEq, Eq)]
enum Seen {
    Nothing,
    Secret(Zeroizing<Vec<u8>>),
    Fault(&'static str),
}

impl Watcher {
    /// Watches and polls, as long as it is polled itself. When it is dropped, whoever waits is told that the credential is gone.
    pub async fn run(mut self, mut changes: UnboundedReceiver<Change>) {
        let _gone = Gone(Arc::clone(&self.slot));
        let (sender, mut events) = mpsc::channel(1);
        let mut watch: Option<Watch> = None;
        let mut seen = Seen::Nothing;
        loop {
            // First the watch, then the look: what changes in between is seen by one of them.
            let root = mount::root_of(&self.params.file);
            if !watch.as_ref().is_some_and(|w| w.covers(&root)) {
                drop(watch.take());
                // Without one, polling sees it.
                watch = Watch::arm(&root, sender.clone()).ok().flatten();
            }
            self.look(&mut seen).await;
            let pause = match seen {
                Seen::Secret(_) if watch.is_some() => POLL,
                _ => POLL_WITHOUT,
            };
            tokio::select! {
                event = timeout(pause, events.recv()) => if event.is_ok() {
                    sleep(DEBOUNCE).await;
                    events.try_recv().ok();
                },
                // Rejected, or never there: perhaps the file has changed.
                () = self.slot.demanded() => {}
                Some(change) = changes.recv() => self.change(change),
            }
        }
    }

    /// It is in force from now on. Another file is another watcher's.
    fn change(&mut self, change: Change) {
        if let Change::Shown(shown) = change {
            self.condition = shown.condition;
            if self.slot.load(Instant::now()).is_some() {
                self.condition.ready();
            }
        }
    }

    /// Takes over what is new. The last good secret stays when the file is bad, and comes back when an upstream rejected it: there is no other.
    async fn look(&self, seen: &mut Seen) {
        let read = self
            .exchanger
            .exchange(&SubjectTokens::default(), None)
            .await
            .and_then(|issued| self.injection.value(&issued));
        let now = Instant::now();
        match read {
            Ok(value) => {
                let content = Seen::Secret(Zeroizing::new(value.as_bytes().to_vec()));
                let fresh = *seen != content;
                if fresh || self.slot.load(now).is_none() {
                    self.slot.take_rejected();
                    self.slot.store(value, now + FAR);
                    self.condition.ready();
                }
                if fresh {
                    info!(credential = %self.slot.name(), "static secret taken over from its file");
                }
                *seen = content;
            }
            Err(error) => {
                let kept = self.slot.load(now).is_some();
                if !kept {
                    self.slot.publish(Activity::Blocked {
                        reason: error.code().into(),
                    });
                    self.condition.pending(error.to_string());
                }
                let fault = Seen::Fault(error.code());
                if *seen != fault {
                    warn!(credential = %self.slot.name(), path = %self.params.file.display(), kept_last_good = kept, "{error}");
                    *seen = fault;
                }
            }
        }
    }
}

struct Gone(Arc<Slot>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.publish(Activity::Stopped);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::{file::tests::TestDir, slot::Rejection};
    use http::HeaderName;
    use sidecar_runtime::{readiness::Readiness, spawn};
    use std::{fs, path::Path};

    fn start(file: &Path) -> (Arc<Slot>, Readiness) {
        let slot = Slot::new("vault".into());
        let readiness = Readiness::new();
        let params = StaticSecretParams { file: file.into() };
        let watcher = Watcher {
            slot: Arc::clone(&slot),
            exchanger: Arc::new(StaticSecret(params.clone())),
            params,
            injection: Arc::new(Injection {
                header: HeaderName::from_static("x-vault-token"),
                prefix: String::new(),
                token_type: TokenType::Bearer,
            }),
            condition: readiness.register("credential vault"),
        };
        drop(spawn(
            "static_secret",
            watcher.run(mpsc::unbounded_channel().1),
        ));
        (slot, readiness)
    }

    async fn until(slot: &Slot, value: &str) {
        let shown = || slot.load(Instant::now()).map(|t| t.header == value);
        timeout(Duration::from_secs(20), async {
            while shown() != Some(true) {
                sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("the secret is taken over");
    }

    #[tokio::test]
    async fn the_files_content_is_taken_over_whenever_it_changes_and_the_last_good_one_stays() {
        let dir = TestDir::new();
        let file = dir.path().join("secret");
        let (slot, readiness) = start(&file);
        let missing = slot
            .wait(Instant::now() + Duration::from_secs(20))
            .await
            .unwrap_err();
        assert_eq!(&*missing.reason, "static_secret_unreadable");
        assert!(!readiness.report().ready);
        fs::write(&file, " hvs.one\n").unwrap();
        until(&slot, "hvs.one").await;
        assert!(slot.load(Instant::now()).unwrap().header.is_sensitive());
        assert!(readiness.report().ready);
        fs::write(&file, "hvs.two").unwrap();
        until(&slot, "hvs.two").await;
        for bad in ["", " \n", "two words", "a\u{e9}"] {
            fs::write(&file, bad).unwrap();
            sleep(Duration::from_millis(200)).await;
            assert_eq!(slot.load(Instant::now()).unwrap().header, "hvs.two");
        }
        fs::write(&file, "hvs.three").unwrap();
        until(&slot, "hvs.three").await;
    }

    #[tokio::test]
    async fn a_rejected_secret_is_read_anew_once_and_then_stays() {
        let dir = TestDir::new();
        let file = dir.path().join("secret");
        fs::write(&file, "one").unwrap();
        let (slot, _readiness) = start(&file);
        let wait = || Instant::now() + Duration::from_secs(20);
        let first = slot.wait(wait()).await.unwrap();
        assert_eq!(slot.reject(first.serial, None), Rejection::Replacing);
        let again = slot.replaced(first.serial, wait()).await.unwrap();
        assert_eq!(again.header, "one");
        assert_eq!(slot.reject(again.serial, None), Rejection::HeldOff);
        assert_eq!(slot.load(Instant::now()).unwrap().serial, again.serial);
    }
}
