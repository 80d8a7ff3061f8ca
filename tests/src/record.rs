//! A record: a list that servers append to and tests read, wait on and assert about.

use crate::wait::{LONG, TimedOut};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::watch;

/// An append-only list, shared by its clones.
pub struct Record<T> {
    entries: Arc<Mutex<Vec<T>>>,
    len: watch::Sender<usize>,
}

impl<T> Clone for Record<T> {
    fn clone(&self) -> Self {
        Self {
            entries: Arc::clone(&self.entries),
            len: self.len.clone(),
        }
    }
}

impl<T: Clone> Default for Record<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Clone> Record<T> {
    /// An empty record.
    pub fn new() -> Self {
        Self {
            entries: Arc::default(),
            len: watch::Sender::new(0),
        }
    }

    /// Appends an entry and wakes those who wait.
    pub fn push(&self, entry: T) {
        self.push_numbered(|_| entry);
    }

    /// Appends an entry that knows its own index, and gives that index.
    pub fn push_numbered(&self, entry: impl FnOnce(usize) -> T) -> usize {
        let number = {
            let mut entries = self.lock();
            let number = entries.len();
            entries.push(entry(number));
            number
        };
        self.len
            .send_modify(|known| *known = (*known).max(number + 1));
        number
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A copy of all entries, oldest first.
    pub fn all(&self) -> Vec<T> {
        self.lock().clone()
    }

    /// A copy of the newest entry.
    pub fn last(&self) -> Option<T> {
        self.lock().last().cloned()
    }

    /// Copies of the entries from `index` on.
    pub fn since(&self, index: usize) -> Vec<T> {
        self.lock()
            .get(index..)
            .map(<[T]>::to_vec)
            .unwrap_or_default()
    }

    /// How many entries satisfy `wanted`.
    pub fn count(&self, wanted: impl Fn(&T) -> bool) -> usize {
        self.lock().iter().filter(|entry| wanted(entry)).count()
    }

    /// Forgets all entries (indices start at 0 again).
    pub fn clear(&self) {
        self.lock().clear();
        self.len.send_modify(|known| *known = 0);
    }

    /// Waits without a bound for the entry at `index`.
    pub async fn entry(&self, index: usize) -> T {
        let mut len = self.len.subscribe();
        loop {
            if let Some(entry) = self.lock().get(index) {
                return entry.clone();
            }
            // The sender lives in `self`: this cannot fail while we are here.
            if len.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until there are at least `count` entries, generously bounded.
    ///
    /// # Errors
    /// When the bound has passed; the text says how many there were.
    pub async fn wait_for(&self, count: usize) -> Result<Vec<T>, TimedOut> {
        self.wait_until(&format!("{count} entries"), |entries| {
            entries.len() >= count
        })
        .await
    }

    /// Waits until an entry satisfies `wanted`, and returns the first that does; generously bounded.
    ///
    /// # Errors
    /// When the bound has passed; the text names `what`.
    pub async fn find(&self, what: &str, wanted: impl Fn(&T) -> bool) -> Result<T, TimedOut> {
        let entries = self
            .wait_until(what, |entries| entries.iter().any(&wanted))
            .await?;
        entries
            .into_iter()
            .find(|entry| wanted(entry))
            .ok_or_else(|| TimedOut::new(what, Duration::ZERO))
    }

    /// Waits until the whole list satisfies `done`; generously bounded.
    ///
    /// # Errors
    /// When the bound has passed; the text names `what`.
    pub async fn wait_until(
        &self,
        what: &str,
        done: impl Fn(&[T]) -> bool,
    ) -> Result<Vec<T>, TimedOut> {
        let mut len = self.len.subscribe();
        let waited = tokio::time::timeout(LONG, async {
            loop {
                {
                    let entries = self.lock();
                    if done(&entries) {
                        return entries.clone();
                    }
                }
                if len.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        });
        waited
            .await
            .map_err(|_| TimedOut::new(&format!("{what} (there are {} entries)", self.len()), LONG))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<T>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_for_entries_and_gives_up_at_the_bound() {
        let record = Record::new();
        record.push(1);
        let other = record.clone();
        let (found, ()) = tokio::join!(record.find("a three", |n| *n == 3), async {
            other.push(2);
            tokio::task::yield_now().await;
            other.push(3);
        });
        assert_eq!(found.unwrap(), 3);
        assert_eq!(record.since(1), vec![2, 3]);
        let error = record.wait_for(4).await.unwrap_err();
        assert!(error.to_string().contains("there are 3 entries"), "{error}");
    }
}
