//! Durations and sizes with their units: `250ms`, `30s`, `5m`, `64KiB`. A bare number is refused, since nobody can see what it counts.

use std::time::Duration;

/// The longest duration taken: a day. Timers beyond that are slips.
const MAX_DURATION: Duration = Duration::from_secs(24 * 3600);

/// A duration: digits and `ms`, `s`, `m` or `h`; parts may follow one another (`1m30s`).
///
/// # Errors
/// A text that says what is wrong and how durations are written.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let advice = "write a number and a unit, such as 250ms, 30s, 5m or 1h";
    let mut rest = text;
    let mut total = Duration::ZERO;
    let mut last_unit = u64::MAX;
    while !rest.is_empty() || last_unit == u64::MAX {
        let (number, after) =
            leading_number(rest).ok_or_else(|| format!("not a duration; {advice}"))?;
        let end = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let millis = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "" => return Err(format!("a duration needs a unit; {advice}")),
            _ => return Err(format!("not a unit of time; {advice}")),
        };
        if millis >= last_unit {
            return Err(format!(
                "units must go from large to small, each once; {advice}"
            ));
        }
        last_unit = millis;
        total = number
            .checked_mul(millis)
            .and_then(|ms| total.checked_add(Duration::from_millis(ms)))
            .filter(|d| *d <= MAX_DURATION)
            .ok_or("longer than 24h; choose a shorter one")?;
        rest = after;
    }
    Ok(total)
}

/// A size in bytes: digits and `B`, `KiB`, `MiB` or `GiB`.
///
/// # Errors
/// A text that says what is wrong and how sizes are written.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let advice = "write a number and a unit, such as 512B, 64KiB, 1MiB or 2GiB";
    let (number, unit) = leading_number(text).ok_or_else(|| format!("not a size; {advice}"))?;
    let factor: u64 = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "" => return Err(format!("a size needs a unit; {advice}")),
        _ => return Err(format!("not a unit of size; {advice}")),
    };
    number
        .checked_mul(factor)
        .filter(|n| *n <= 1 << 50)
        .ok_or_else(|| "larger than anything there is; choose a smaller one".to_owned())
}

/// The leading digits as a number, and what follows them.
fn leading_number(text: &str) -> Option<(u64, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    Some((digits.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let ms = |n| Ok(Duration::from_millis(n));
        assert_eq!(duration("250ms"), ms(250));
        assert_eq!(duration("0s"), ms(0));
        assert_eq!(duration("30s"), ms(30_000));
        assert_eq!(duration("1m30s"), ms(90_000));
        assert_eq!(duration("24h"), ms(86_400_000));
        for (text, message) in [
            (
                "30",
                "a duration needs a unit; write a number and a unit, such as 250ms, 30s, 5m or 1h",
            ),
            (
                "1m30",
                "a duration needs a unit; write a number and a unit, such as 250ms, 30s, 5m or 1h",
            ),
            (
                "",
                "not a duration; write a number and a unit, such as 250ms, 30s, 5m or 1h",
            ),
            (
                "s",
                "not a duration; write a number and a unit, such as 250ms, 30s, 5m or 1h",
            ),
            (
                "-1s",
                "not a duration; write a number and a unit, such as 250ms, 30s, 5m or 1h",
            ),
            (
                "1.5s",
                "not a unit of time; write a number and a unit, such as 250ms, 30s, 5m or 1h",
            ),
            (
                "1 s",
                "not a unit of time; write a number and a unit, such as 250ms, 30s, 5m or 1h",
            ),
            (
                "1d",
                "not a unit of time; write a number and a unit, such as 250ms, 30s, 5m or 1h",
            ),
            (
                "1s1m",
                "units must go from large to small, each once; write a number and a unit, such as 250ms, 30s, 5m or 1h",
            ),
            ("25h", "longer than 24h; choose a shorter one"),
            (
                "18446744073709551615h",
                "longer than 24h; choose a shorter one",
            ),
        ] {
            assert_eq!(duration(text), Err(message.to_owned()), "{text}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(size("0B"), Ok(0));
        assert_eq!(size("64KiB"), Ok(65536));
        assert_eq!(size("1MiB"), Ok(1 << 20));
        for (text, message) in [
            (
                "64",
                "a size needs a unit; write a number and a unit, such as 512B, 64KiB, 1MiB or 2GiB",
            ),
            (
                "64KB",
                "not a unit of size; write a number and a unit, such as 512B, 64KiB, 1MiB or 2GiB",
            ),
            (
                "big",
                "not a size; write a number and a unit, such as 512B, 64KiB, 1MiB or 2GiB",
            ),
            (
                "99999999999999999999B",
                "not a size; write a number and a unit, such as 512B, 64KiB, 1MiB or 2GiB",
            ),
            (
                "9999999999GiB",
                "larger than anything there is; choose a smaller one",
            ),
        ] {
            assert_eq!(size(text), Err(message.to_owned()), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "[0-9]{0,21}[a-zA-Zµ .-]{0,4}[0-9]{0,3}[a-z]{0,2}") {
            drop((duration(&text), size(&text)));
        }
    }
}
