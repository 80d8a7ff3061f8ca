//! Wall-clock time and its relation to tokio's monotonic time; the only place that reads the system's wall clock.
//!
//! Tests anchor the clock: wall time then follows tokio's `Instant`, so that pausing tokio pauses both.

use std::time::{Duration, UNIX_EPOCH};

use tokio::time::Instant;

/// As far as conversions reach: anything farther away is as good as "never" (tokio's timers end near there too).
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// A source of wall-clock time. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Clock {
    anchor: Option<(Duration, Instant)>,
}

impl Clock {
    /// The system's clock. It is read anew at each call, so steps of the wall clock are noticed.
    #[must_use]
    pub const fn system() -> Self {
        Self { anchor: None }
    }

    /// A clock that shows `unix` (time since the epoch) now and from then on follows tokio's clock. For tests.
    #[must_use]
    pub fn anchored(unix: Duration) -> Self {
        Self {
            anchor: Some((unix, Instant::now())),
        }
    }

    /// The time since 1970-01-01T00:00:00Z. A system clock set before that year shows zero.
    #[must_use]
    pub fn unix_now(&self) -> Duration {
        match self.anchor {
            Some((unix, at)) => unix.saturating_add(at.elapsed()),
            None => system_now(),
        }
    }

    /// The instant at which this clock will show (or has shown) `unix`; at most 30 years away in either direction.
    #[must_use]
    pub fn instant_at(&self, unix: Duration) -> Instant {
        let (wall, now) = (self.unix_now(), Instant::now());
        match unix.checked_sub(wall) {
            Some(ahead) => now.checked_add(ahead.min(FAR)).unwrap_or(now),
            None => {
                let behind = wall.saturating_sub(unix);
                now.checked_sub(behind.min(FAR)).unwrap_or(now)
            }
        }
    }

    /// What this clock shows (or will show) at `instant`, as time since the epoch; zero for what lies before it.
    #[must_use]
    pub fn unix_at(&self, instant: Instant) -> Duration {
        let (wall, now) = (self.unix_now(), Instant::now());
        match instant.checked_duration_since(now) {
            Some(ahead) => wall.saturating_add(ahead),
            None => wall.saturating_sub(now.saturating_duration_since(instant)),
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the system's wall clock"
)]
fn system_now() -> Duration {
    std::time::SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// `unix` (time since the epoch) as RFC 3339 in UTC with milliseconds: `2026-11-22T07:08:09.123Z`.
#[must_use]
pub fn rfc3339(unix: Duration) -> String {
    let (days, second) = (unix.as_secs() / 86_400, unix.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let millis = unix.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Year, month, day of the proleptic Gregorian calendar, `days` after 1970-01-01.
///
/// Counted in years that begin in March, so that the leap day is a year's last; an era is 400 years.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_TO_EPOCH: u64 = 719_468; // from 0000-03-01 to 1970-01-01
    const DAYS_PER_ERA: u64 = 146_097;
    let days = days.saturating_add(DAYS_TO_EPOCH);
    let (era, of_era) = (days / DAYS_PER_ERA, days % DAYS_PER_ERA);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_anchored_clock_follows_tokio() {
        let clock = Clock::anchored(Duration::from_secs(1000));
        assert_eq!(clock.unix_now(), Duration::from_secs(1000));
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(clock.unix_now(), Duration::from_secs(1030));
        let at = clock.instant_at(Duration::from_secs(1100));
        assert_eq!(at - Instant::now(), Duration::from_secs(70));
        assert_eq!(clock.unix_at(at), Duration::from_secs(1100));
        let past = clock.instant_at(Duration::from_secs(1020));
        assert_eq!(Instant::now() - past, Duration::from_secs(10));
        assert_eq!(clock.unix_at(past), Duration::from_secs(1020));
    }

    #[tokio::test(start_paused = true)]
    async fn conversions_saturate() {
        let clock = Clock::anchored(Duration::from_secs(100));
        assert_eq!(clock.instant_at(Duration::MAX) - Instant::now(), FAR);
        assert_eq!(
            clock.unix_at(Instant::now() - Duration::from_secs(500)),
            Duration::ZERO
        );
        assert!(clock.instant_at(Duration::ZERO) < Instant::now());
    }

    #[test]
    fn the_system_clock_is_after_this_line_was_written() {
        assert!(Clock::system().unix_now() > Duration::from_secs(1_700_000_000));
    }

    #[test]
    fn timestamps_are_rfc_3339() {
        for (unix_ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_799_999, "2000-02-29T23:59:59.999Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_709_210_096_007, "2024-02-29T12:34:56.007Z"),
            (1_767_225_599_000, "2025-12-31T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(Duration::from_millis(unix_ms)), text);
        }
    }
}
