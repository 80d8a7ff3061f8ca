//! When to ask for a token next: pure functions, no clock, no state, no I/O. `renew` feeds them and sleeps.
//!
//! Each answer is a range first (what would be right) and a point in it second (so that pods do not all ask at one instant).

use super::exchange::error::Class;
use std::time::Duration;

/// Two exchanges of one credential are never planned closer than that.
pub const FLOOR: Duration = Duration::from_millis(500);
/// `Retry-After` is obeyed up to here.
pub const RETRY_AFTER_CAP: Duration = Duration::from_secs(300);
/// Without a word from the authority, tokens that live longer than that are renewed at half their life.
const LONG_LIFE: Duration = Duration::from_secs(2 * 60 * 60);
/// For so long after its start a "no matching federated identity" may be propagation and is retried steadily.
const PROPAGATION: Duration = Duration::from_secs(15 * 60);
const TRANSIENT_CAP: Duration = Duration::from_secs(60);
const PERMANENT_CAP: Duration = Duration::from_secs(300);

/// A failed exchange, as far as the schedule cares.
#[derive(Debug, Clone, Copy)]
pub struct Failure {
    /// What sort of failure.
    pub class: Class,
    /// What the authority asked for.
    pub retry_after: Option<Duration>,
    /// How many failures in a row, this one included.
    pub count: u32,
    /// How much longer the old token lives, if there is one.
    pub remaining: Option<Duration>,
    /// For how long the credential has been trying altogether.
    pub since_start: Duration,
}

/// How long after a token was issued to renew it: at `refresh_in`, else at 75 % of its life (50 % when it lives longer than 2 h), +-10 %
/// by `seed`; before expiry whenever [`FLOOR`] allows.
pub fn renew_after(lifetime: Duration, refresh_in: Option<Duration>, seed: u64) -> Duration {
    let base = match refresh_in {
        Some(at) if !at.is_zero() && at < lifetime => at,
        _ if lifetime > LONG_LIFE => lifetime / 2,
        _ => lifetime.mul_f64(0.75),
    };
    Range {
        low: base.mul_f64(0.9),
        high: base.mul_f64(1.1),
    }
    .before(lifetime, FLOOR)
    .pick(unit(seed))
    .max(FLOOR)
}

/// How long after a failure to try again. Never sooner than [`FLOOR`] and than `Retry-After` (up to its cap); before the old token expires
/// whenever those two allow.
pub fn retry_after(failure: &Failure, seed: u64) -> Duration {
    let asked = failure.retry_after.map(|d| d.min(RETRY_AFTER_CAP));
    let at_least = asked.unwrap_or_default().max(FLOOR);
    let range = match (failure.class, asked) {
        // Some spread on top: the pods that were throttled together must not return together.
        (_, Some(asked)) => Range {
            low: at_least,
            high: asked.mul_f64(1.1) + Duration::from_secs(1),
        },
        (Class::Propagation, None) if failure.since_start < PROPAGATION => Range {
            low: Duration::from_secs(30),
            high: Duration::from_secs(60),
        },
        (Class::Permanent | Class::Propagation, None) => {
            let high = doubled(Duration::from_secs(30), failure.count, PERMANENT_CAP);
            Range {
                low: high / 2,
                high,
            }
        }
        (Class::Throttled, None) => {
            let high = doubled(Duration::from_secs(10), failure.count, PERMANENT_CAP);
            Range {
                low: high / 2,
                high,
            }
        }
        (Class::Transient, None) => Range {
            low: FLOOR,
            high: doubled(Duration::from_secs(1), failure.count, TRANSIENT_CAP),
        },
    };
    match failure.remaining {
        Some(remaining) => range.before(remaining, at_least),
        None => range,
    }
    .pick(unit(seed))
    .max(at_least)
}

/// `first`, doubled with every failure after the first, at most `cap`.
fn doubled(first: Duration, count: u32, cap: Duration) -> Duration {
    first
        .saturating_mul(
            1_u32
                .checked_shl(count.saturating_sub(1))
                .unwrap_or(u32::MAX),
        )
        .min(cap)
}

#[derive(Clone, Copy)]
struct Range {
    low: Duration,
    high: Duration,
}

impl Range {
    /// Moved to end a tenth before `end`, if the range reaches farther and `at_least` leaves room. The range is kept wide on purpose: a mere
    /// cut at the end would gather all pods there.
    fn before(self, end: Duration, at_least: Duration) -> Self {
        let latest = end.mul_f64(0.9);
        if self.high <= latest || end <= at_least {
            return self;
        }
        let high = latest.max(at_least);
        Self {
            low: self.low.min(high.mul_f64(0.8)).max(at_least.min(high)),
            high,
        }
    }

    fn pick(self, unit: f64) -> Duration {
        self.low + self.high.saturating_sub(self.low).mul_f64(unit)
    }
}

/// Spreads a seed over [0, 1) (SplitMix64's finaliser).
fn unit(seed: u64) -> f64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    // 53 bits fit a double exactly.
    (z >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn secs(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    fn failure(class: Class, count: u32) -> Failure {
        Failure {
            class,
            retry_after: None,
            count,
            remaining: None,
            since_start: Duration::ZERO,
        }
    }

    fn within(d: Duration, low: f64, high: f64) {
        assert!(
            (low..=high).contains(&d.as_secs_f64()),
            "{d:?} not in {low}..{high}"
        );
    }

    #[test]
    fn renewal_is_at_refresh_in_else_by_the_share_of_life() {
        for seed in 0..200 {
            within(
                renew_after(secs(86_400), Some(secs(43_200)), seed),
                38_880.0,
                47_520.0,
            );
            within(renew_after(secs(3600), Some(secs(600)), seed), 540.0, 660.0);
            within(renew_after(secs(3600), None, seed), 2430.0, 2970.0);
            within(renew_after(secs(7200), None, seed), 4860.0, 5940.0);
            within(renew_after(secs(7201), None, seed), 3240.0, 3961.0);
            // A refresh_in that makes no sense is as good as none.
            within(
                renew_after(secs(3600), Some(secs(3600)), seed),
                2430.0,
                2970.0,
            );
            within(
                renew_after(secs(3600), Some(Duration::ZERO), seed),
                2430.0,
                2970.0,
            );
            // Short lives: before expiry, not below the floor.
            within(renew_after(secs(1), None, seed), 0.5, 0.9);
            assert_eq!(renew_after(Duration::ZERO, None, seed), FLOOR);
        }
    }

    #[test]
    fn transient_failures_back_off_with_full_jitter() {
        for seed in 0..200 {
            within(retry_after(&failure(Class::Transient, 1), seed), 0.5, 1.0);
            within(retry_after(&failure(Class::Transient, 5), seed), 0.5, 16.0);
            within(
                retry_after(&failure(Class::Transient, 4_000_000_000), seed),
                0.5,
                60.0,
            );
        }
        let spread: Vec<_> = (0..200)
            .map(|seed| retry_after(&failure(Class::Transient, 7), seed))
            .collect();
        assert!(spread.iter().any(|d| *d < secs(8)) && spread.iter().any(|d| *d > secs(50)));
    }

    #[test]
    fn permanent_failures_back_off_to_minutes() {
        for seed in 0..200 {
            within(retry_after(&failure(Class::Permanent, 1), seed), 15.0, 30.0);
            within(
                retry_after(&failure(Class::Permanent, 9), seed),
                150.0,
                300.0,
            );
        }
    }

    #[test]
    fn propagation_is_retried_steadily_at_first_and_permanent_later() {
        for seed in 0..200 {
            let mut f = failure(Class::Propagation, 9);
            within(retry_after(&f, seed), 30.0, 60.0);
            f.since_start = secs(3600);
            within(retry_after(&f, seed), 150.0, 300.0);
        }
    }

    #[test]
    fn the_last_tries_come_before_the_old_token_expires() {
        for seed in 0..200 {
            let mut f = failure(Class::Permanent, 9);
            f.remaining = Some(secs(100));
            within(retry_after(&f, seed), 72.0, 90.0);
            f.remaining = Some(secs(1));
            within(retry_after(&f, seed), 0.5, 0.9);
        }
    }

    #[test]
    fn retry_after_is_obeyed_and_capped() {
        for seed in 0..200 {
            for class in [Class::Throttled, Class::Transient, Class::Permanent] {
                let mut f = failure(class, 1);
                f.retry_after = Some(secs(20));
                within(retry_after(&f, seed), 20.0, 23.0);
                f.retry_after = Some(secs(86_400));
                within(retry_after(&f, seed), 300.0, 331.0);
                f.retry_after = Some(Duration::ZERO);
                within(retry_after(&f, seed), 0.5, 1.0);
                // The authority's word binds even past expiry.
                f.retry_after = Some(secs(20));
                f.remaining = Some(secs(5));
                within(retry_after(&f, seed), 20.0, 23.0);
            }
        }
    }

    fn class() -> impl Strategy<Value = Class> {
        prop_oneof![
            Just(Class::Transient),
            Just(Class::Permanent),
            Just(Class::Propagation),
            Just(Class::Throttled)
        ]
    }

    proptest! {
        #[test]
        fn a_renewal_never_spins_and_never_comes_after_expiry_while_it_could_come_before(
            life in 0_u64..10_000_000_000, refresh in proptest::option::of(0_u64..10_000_000_000), seed: u64,
        ) {
            let lifetime = Duration::from_millis(life);
            let at = renew_after(lifetime, refresh.map(Duration::from_millis), seed);
            prop_assert!(at >= FLOOR);
            if lifetime > FLOOR {
                prop_assert!(at < lifetime, "{:?} of {:?}", at, lifetime);
            }
        }

        #[test]
        fn a_retry_never_spins_never_comes_too_soon_and_not_after_expiry_while_it_could_come_before(
            class in class(), asked in proptest::option::of(0_u64..1_000_000), count in 1_u32..,
            remaining in proptest::option::of(prop_oneof![0_u64..2_000, 0_u64..400_000, 0_u64..100_000_000]), since in 0_u64..100_000_000, seed: u64,
        ) {
            let f = Failure {
                class,
                retry_after: asked.map(Duration::from_millis),
                count,
                remaining: remaining.map(Duration::from_millis),
                since_start: Duration::from_millis(since),
            };
            let at = retry_after(&f, seed);
            let at_least = f.retry_after.unwrap_or_default().min(RETRY_AFTER_CAP).max(FLOOR);
            prop_assert!(at >= at_least);
            prop_assert!(at <= secs(331));
            if let Some(remaining) = f.remaining.filter(|r| *r > at_least) {
                prop_assert!(at < remaining, "{:?} of {:?}", at, remaining);
            }
        }

        #[test]
        fn pods_do_not_renew_at_one_instant(
            life in 60_u64..200_000, refresh in proptest::option::of(30_u64..200_000), start: u64,
        ) {
            let lifetime = secs(life);
            let mut at: Vec<_> = (0..500_u64)
                .map(|pod| renew_after(lifetime, refresh.map(secs), start.wrapping_add(pod)).as_secs_f64())
                .collect();
            at.sort_by(f64::total_cmp);
            let (first, last) = (at[0], at[499]);
            prop_assert!(last - first > 0.08 * last, "{first}..{last}");
            // No twentieth of the range holds more than a quarter of the pods.
            let width = (last - first) / 20.0;
            for bucket in 0..20 {
                let low = first + width * f64::from(bucket);
                let held = at.iter().filter(|t| **t >= low && **t < low + width).count();
                prop_assert!(held < 125, "{held} pods in one twentieth");
            }
        }
    }
}
