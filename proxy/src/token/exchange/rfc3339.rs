//! Reads timestamps as JSON APIs write them (RFC 3339 section 5.6). Pure; only moments since 1970.

use std::time::Duration;

/// The moment, since the epoch. `None` for what is no such timestamp, and for years before 1970.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let (date, time) = text.split_at_checked(10)?;
    let time = time.strip_prefix(['T', 't', ' '])?;
    let (year, month, day) = match date.split('-').collect::<Vec<_>>()[..] {
        [y, m, d] => (number(y, 4)?, number(m, 2)?, number(d, 2)?),
        _ => return None,
    };
    let split = time.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = time.split_at_checked(split)?;
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let (hour, minute, second) = match clock.split(':').collect::<Vec<_>>()[..] {
        [h, m, s] => (number(h, 2)?, number(m, 2)?, number(s, 2)?),
        _ => return None,
    };
    // A leap second has no place in time since the epoch; it counts as the second that follows.
    let in_range = (1..=days_in(year, month)?).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60
        && !fraction.is_empty();
    if !in_range {
        return None;
    }
    let seconds = days_since_epoch(year, month, day)? * 86_400 + hour * 3600 + minute * 60 + second;
    let seconds = u64::try_from(seconds.checked_sub(offset(zone)?)?).ok()?;
    Some(Duration::new(seconds, nanoseconds(fraction)?))
}

/// Seconds east of UTC.
fn offset(zone: &str) -> Option<i64> {
    let (sign, rest) = match zone.split_at_checked(1)? {
        ("Z" | "z", "") => return Some(0),
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    let (hours, minutes) = (number(hours, 2)?, number(minutes, 2)?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

/// Exactly so many digits.
fn number(text: &str, digits: usize) -> Option<i64> {
    let good = text.len() == digits && text.bytes().all(|b| b.is_ascii_digit());
    good.then(|| text.parse().ok()).flatten()
}

/// Digits after the point; more than nine say nothing here.
fn nanoseconds(fraction: &str) -> Option<u32> {
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits = fraction.get(..9).unwrap_or(fraction);
    format!("{digits:0<9}").parse().ok()
}

const fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

const fn days_in(year: i64, month: i64) -> Option<i64> {
    Some(match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => return None,
    })
}

/// Whole years, then whole months, then days.
fn days_since_epoch(year: i64, month: i64, day: i64) -> Option<i64> {
    if year < 1970 {
        return None;
    }
    // Leap years before `year`, since 1970 (of which 477 lie before it).
    let before = year - 1;
    let leaps = before / 4 - before / 100 + before / 400 - 477;
    let months: i64 = (1..month).filter_map(|m| days_in(year, m)).sum();
    Some((year - 1970) * 365 + leaps + months + day - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_read_with_zone_and_fraction() {
        for (text, seconds, nanos) in [
            ("1970-01-01T00:00:00Z", 0, 0),
            ("2021-11-17T23:25:07Z", 1_637_191_507, 0),
            ("2024-02-29T00:00:00Z", 1_709_164_800, 0),
            ("2024-12-31T23:59:59Z", 1_735_689_599, 0),
            ("2100-03-01T00:00:00Z", 4_107_542_400, 0),
            ("2024-02-29t00:00:00z", 1_709_164_800, 0),
            ("2021-11-18T00:55:07+01:30", 1_637_191_507, 0),
            ("2021-11-17T15:25:07-08:00", 1_637_191_507, 0),
            ("2021-11-17T23:25:07.5Z", 1_637_191_507, 500_000_000),
            ("2021-11-17T23:25:07.123456789Z", 1_637_191_507, 123_456_789),
            (
                "2021-11-17T23:25:07.1234567891Z",
                1_637_191_507,
                123_456_789,
            ),
            ("2016-12-31T23:59:60Z", 1_483_228_800, 0),
        ] {
            assert_eq!(parse(text), Some(Duration::new(seconds, nanos)), "{text}");
        }
    }

    #[test]
    fn what_is_no_timestamp_is_not_guessed_at() {
        for text in [
            "",
            "soon",
            "1637191507",
            "2021-11-17",
            "2021-11-17T23:25:07",
            "2021-11-17T23:25Z",
            "2021-13-17T23:25:07Z",
            "2021-02-29T00:00:00Z",
            "2100-02-29T00:00:00Z",
            "2021-00-17T23:25:07Z",
            "2021-11-00T23:25:07Z",
            "2021-11-17T24:25:07Z",
            "2021-11-17T23:60:07Z",
            "2021-11-17T23:25:61Z",
            "2021-11-17T23:25:07.Z",
            "2021-11-17T23:25:07.xZ",
            "2021-11-17T23:25:07+1:00",
            "2021-11-17T23:25:07+0100",
            "2021-11-17T23:25:07Z ",
            "+021-11-17T23:25:07Z",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00+01:00",
            "2021-11-17T23:25:0ïZ",
            "é",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
