//! How a text was written, where values do not say it: what taking the sidecar out gives back in another style (a block scalar, an alias, a comment
//! inside of what was replaced), line by line. It goes into the status annotation, and counts for that very text alone.

use super::diff;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// More than this is not remembered: annotations are for all of an object 256 KiB.
const MAX_BYTES: usize = 16 << 10;

/// The lines of a text that were others.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Style {
    /// A digest of the text that they are about.
    of: String,
    /// The first line, from 0; how many; and what was there.
    lines: Vec<(usize, usize, String)>,
}

impl Style {
    /// What makes `to` of `from`. `None`: it is too much to remember.
    pub(super) fn between(from: &str, to: &str) -> Option<Value> {
        let style = Self {
            of: digest(from),
            lines: diff::changes(from, to),
        };
        let bytes: usize = style.lines.iter().map(|(.., text)| text.len() + 16).sum();
        if bytes > MAX_BYTES {
            return None;
        }
        serde_json::to_value(style).ok()
    }

    /// The text as it was. `None`: it is not the one that was remembered.
    pub(super) fn apply(style: &Value, text: &str) -> Option<String> {
        let style: Self = serde_json::from_value(style.clone()).ok()?;
        if style.of != digest(text) {
            return None;
        }
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let (mut out, mut done) = (String::with_capacity(text.len()), 0);
        for (at, count, was) in style.lines {
            out.extend(lines.get(done..at)?.iter().copied());
            out.push_str(&was);
            done = at.checked_add(count)?;
        }
        out.extend(lines.get(done..)?.iter().copied());
        Some(out)
    }
}

/// The first half of a SHA-256, in hexadecimal.
fn digest(text: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    let half = digest.as_ref().iter().take(16);
    half.map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn another_text_or_too_much_is_none() {
        let style = Style::between("a\nb\n", "a\n c\n").unwrap();
        assert_eq!(Style::apply(&style, "a\nb\n").unwrap(), "a\n c\n");
        assert_eq!(Style::apply(&style, "a\nb"), None);
        assert_eq!(Style::apply(&Value::Null, "a"), None);
        assert!(Style::between("", &"x\n".repeat(MAX_BYTES)).is_none());
        // Whatever somebody wrote there, it is no panic.
        let mut odd = style;
        for lines in [
            "[[5, 1, \"\"]]",
            "[[1, 9, \"\"]]",
            "[[1, 1, \"\"], [0, 1, \"\"]]",
            "[[18446744073709551615, 1, \"\"]]",
        ] {
            odd["lines"] = serde_json::from_str(lines).unwrap();
            assert_eq!(Style::apply(&odd, "a\nb\n"), None, "{lines}");
        }
    }

    proptest! {
        #[test]
        fn applying_it_gives_the_text(from in "([ab]\n){0,8}[ab]?", to in "([abc]\n){0,8}[ab]?") {
            let style = Style::between(&from, &to).unwrap();
            prop_assert_eq!(Style::apply(&style, &from), Some(to));
        }
    }
}
