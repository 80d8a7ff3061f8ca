//! Tokens that were verified not long ago, by the SHA-256 of their text: a caller's next request costs a digest and a look here. Bounded in number
//! and in bytes; what is used stays. It holds verified tokens only: nobody without one can push another's out.

use crate::token::caller::token::{CallerToken, TokenDigest};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::time::Instant;

/// Workers look side by side: each shard has a lock of its own.
const SHARDS: usize = 16;
/// Bytes of token text for each entry allowed, on average.
const BYTES_EACH: usize = 4096;

/// The tokens that were seen.
pub struct Seen {
    shards: [Mutex<Shard>; SHARDS],
    /// Entries in one generation of one shard.
    max: usize,
}

/// A verified token, with what its verification rests on.
#[derive(Clone)]
pub struct Entry {
    /// The token.
    pub token: Arc<CallerToken>,
    /// Which issuer's.
    pub issuer: usize,
    /// The generation of the issuer's keys.
    pub generation: u64,
}

/// Two generations: when the young one is full, it becomes the old one, and what nobody asked for since then is gone.
#[derive(Default)]
struct Shard {
    young: HashMap<TokenDigest, Entry>,
    young_bytes: usize,
    old: HashMap<TokenDigest, Entry>,
}

impl Seen {
    /// Remembers at most about `max` tokens.
    pub fn new(max: usize) -> Self {
        Self {
            shards: Default::default(),
            max: (max / SHARDS / 2).max(1),
        }
    }

    /// The entry of a token that has not expired at `now`.
    pub fn get(&self, digest: &TokenDigest, now: Instant) -> Option<Entry> {
        let mut shard = self.shard(digest);
        let entry = match shard.young.get(digest) {
            Some(entry) => entry.clone(),
            None => {
                let entry = shard.old.remove(digest)?;
                shard.add(*digest, entry.clone(), self.max);
                entry
            }
        };
        entry.token.is_valid(now).then_some(entry)
    }

    /// Remembers a token.
    pub fn insert(&self, entry: Entry) {
        let digest = *entry.token.digest();
        self.shard(&digest).add(digest, entry, self.max);
    }

    /// Forgets what has expired. Called now and then: a token is not kept for longer than it is worth anything.
    pub fn sweep(&self, now: Instant) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.old.retain(|_, e| e.token.is_valid(now));
            shard.young.retain(|_, e| e.token.is_valid(now));
            shard.young_bytes = shard.young.values().map(bytes).sum();
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.shards
            .iter()
            .map(|s| s.lock().unwrap_or_else(PoisonError::into_inner))
            .map(|s| s.young.len() + s.old.len())
            .sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, digest: &TokenDigest) -> MutexGuard<'_, Shard> {
        let [first, ..] = *digest.as_bytes();
        self.shards[usize::from(first) % SHARDS]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shard {
    fn add(&mut self, digest: TokenDigest, entry: Entry, max: usize) {
        let size = bytes(&entry);
        if self.young.len() >= max || self.young_bytes + size > max * BYTES_EACH {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += size;
        if let Some(before) = self.young.insert(digest, entry) {
            self.young_bytes -= bytes(&before);
        }
    }
}

fn bytes(entry: &Entry) -> usize {
    entry.token.subject().expose().len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::caller::token::tests::caller;
    use sidecar_runtime::clock::Clock;
    use std::time::Duration;

    fn entry(exp: u64, id: &str, clock: &Clock) -> Entry {
        Entry {
            token: caller(exp, id, clock),
            issuer: 0,
            generation: 1,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_used_stays_and_the_rest_is_bounded() {
        let clock = Clock::anchored(Duration::from_secs(1000));
        let seen = Seen::new(320);
        let used = entry(9000, "used", &clock);
        seen.insert(used.clone());
        for i in 0..5000 {
            seen.insert(entry(9000, &i.to_string(), &clock));
            assert!(seen.get(used.token.digest(), Instant::now()).is_some());
            assert!(seen.len() <= 320, "{}", seen.len());
        }
        assert!(seen.len() > 160, "{}", seen.len());
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_are_bounded_too() {
        let clock = Clock::anchored(Duration::from_secs(1000));
        let seen = Seen::new(SHARDS * 2 * 8);
        let long = "x".repeat(20_000);
        for i in 0..500 {
            seen.insert(entry(9000, &format!("{i}{long}"), &clock));
        }
        let held: usize = seen.len() * 20_000;
        let allowed = SHARDS * 2 * 8 * BYTES_EACH * 2;
        assert!(held < allowed, "{held} of {allowed}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_expired_token_is_not_found_and_is_forgotten() {
        let clock = Clock::anchored(Duration::from_secs(1000));
        let seen = Seen::new(100);
        let short = entry(1010, "a", &clock);
        seen.insert(short.clone());
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(seen.get(short.token.digest(), Instant::now()).is_none());
        seen.sweep(Instant::now());
        assert!(seen.is_empty());
        assert_eq!(Arc::strong_count(&short.token), 1);
    }
}
