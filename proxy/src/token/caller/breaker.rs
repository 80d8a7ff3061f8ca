//! A breaker for one authority, shared by all credentials that ask it on behalf of callers: when it fails for several callers in a row, or asks for
//! fewer calls, nobody asks it for a while; then one asks first. Pure: the caller's clock, no sleeping, no I/O.
//!
//! What is a caller's own fault never counts here: one caller must not be able to shut out the others.

use crate::token::schedule::RETRY_AFTER_CAP;
use std::time::Duration;
use tokio::time::Instant;

/// So many different callers must have seen it fail, none having seen it work in between.
pub const CALLERS: usize = 5;
/// How long it is left alone the first time, and at most, unless it says how long itself.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

/// A caller, as far as counting goes: a person, who may have many tokens.
pub type Who = u64;

/// The state of one authority.
#[derive(Debug)]
pub struct Breaker {
    state: State,
    /// How often in a row it was opened.
    opened: u32,
    /// Numbers the probes, so that what an old one says is not taken for the news of the last.
    probes: u64,
    /// Who asked first last and saw it fail: it may be their own doing.
    failed_probe: Option<Who>,
}

#[derive(Debug)]
enum State {
    /// Everybody asks. Those who saw it fail since it last worked.
    Closed([Option<Who>; CALLERS]),
    /// Nobody asks before then.
    Open { until: Instant },
    /// One asks.
    Probing,
}

/// The right to ask once. What came of it must be told with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a probe that is never told of keeps all others out"]
pub enum Pass {
    /// One of many.
    Free,
    /// The one who asks first after a pause.
    Probe(u64),
}

/// What came of asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// It answered as an authority in good health does, be it with a refusal.
    Works,
    /// It did not answer, or failed.
    Fails,
    /// It wants to be asked less; for how long nobody should ask, when it said so.
    Throttles(Option<Duration>),
    /// It was not asked in the end.
    Nothing,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            state: State::Closed([None; CALLERS]),
            opened: 0,
            probes: 0,
            failed_probe: None,
        }
    }
}

impl Breaker {
    /// Whether `who` asks now. Whose probe failed last lets others go first for a while: nobody whose own requests make the authority fail can
    /// keep it shut for all.
    ///
    /// # Errors
    /// How long not to: until the pause is over, or until the one who asks first knows more.
    pub fn admit(&mut self, who: Who, now: Instant) -> Result<Pass, Duration> {
        match self.state {
            State::Closed(_) => Ok(Pass::Free),
            State::Open { until } if now < until => Err(until - now),
            State::Open { until } if self.failed_probe == Some(who) && now < until + FIRST => {
                Err(until + FIRST - now)
            }
            State::Open { .. } => {
                self.probes += 1;
                self.state = State::Probing;
                Ok(Pass::Probe(self.probes))
            }
            State::Probing => Err(FIRST),
        }
    }

    /// What came of a pass. `who` asked; `seed` spreads the returns of different pods.
    pub fn tell(&mut self, pass: Pass, told: Told, who: Who, now: Instant, seed: u64) {
        let probing = matches!(self.state, State::Probing);
        // Only the last probe decides; what left before the pause tells nothing about what comes after it.
        let decides = match pass {
            Pass::Probe(number) => probing && number == self.probes,
            Pass::Free => matches!(self.state, State::Closed(_)),
        };
        match told {
            Told::Throttles(asked) if decides || asked.is_some() => {
                self.failed_probe = (decides && probing).then_some(who);
                self.open(asked, now, seed);
            }
            Told::Works if decides => {
                self.state = State::Closed([None; CALLERS]);
                self.opened = 0;
                self.failed_probe = None;
            }
            Told::Fails if decides && probing => {
                self.failed_probe = Some(who);
                self.open(None, now, seed);
            }
            Told::Fails if decides => self.count(who, now, seed),
            // The next one may ask first.
            Told::Nothing if decides && probing => self.state = State::Open { until: now },
            _ => {}
        }
    }

    /// How long nobody asks, if nobody does at `now`.
    pub fn shut(&self, now: Instant) -> Option<Duration> {
        match self.state {
            State::Open { until } if now < until => Some(until - now),
            State::Probing => Some(FIRST),
            _ => None,
        }
    }

    fn count(&mut self, who: Who, now: Instant, seed: u64) {
        let State::Closed(failed) = &mut self.state else {
            return;
        };
        if failed.contains(&Some(who)) {
            return;
        }
        match failed.iter_mut().find(|f| f.is_none()) {
            Some(free) => *free = Some(who),
            None => return,
        }
        if failed.iter().all(Option::is_some) {
            self.open(None, now, seed);
        }
    }

    fn open(&mut self, asked: Option<Duration>, now: Instant, seed: u64) {
        let own = FIRST
            .saturating_mul(1_u32.checked_shl(self.opened).unwrap_or(u32::MAX))
            .min(LONGEST);
        let pause = asked.map_or(own, |asked| asked.min(RETRY_AFTER_CAP).max(FIRST));
        // Up to a tenth on top: the pods that were turned away together must not return together.
        let pause = pause + pause.mul_f64((seed % 1000) as f64 / 10_000.0);
        let mut until = now + pause;
        if let State::Open { until: earlier } = self.state {
            // What it asked for before holds.
            until = until.max(earlier);
        } else {
            self.opened = self.opened.saturating_add(1);
        }
        self.state = State::Open { until };
    }
}

#[cfg(test)]
#[path = "breaker_tests.rs"]
mod tests;
