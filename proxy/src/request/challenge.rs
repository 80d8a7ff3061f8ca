//! Reads `WWW-Authenticate` of an upstream's 401 as far as a credential needs it: a claims challenge (continuous access evaluation), decoded.
//! It does not decide anything.

use base64::{
    Engine,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::{HeaderMap, header};

/// Larger claims are nobody's.
const MAX_CLAIMS: usize = 8 * 1024;

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::URL_SAFE, LENIENT);

/// The decoded `claims` (a JSON object) of a Bearer challenge with `error="insufficient_claims"`. Some resources name another error beside `claims`;
/// the parameter counts then too. `None`: no such challenge, or one that cannot be read.
pub fn claims(headers: &HeaderMap) -> Option<String> {
    headers
        .get_all(header::WWW_AUTHENTICATE)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .find_map(claims_of)
}

fn claims_of(value: &str) -> Option<String> {
    let mut bearer = false;
    for Parameter {
        scheme,
        name,
        value,
    } in parameters(value)
    {
        if let Some(scheme) = scheme {
            bearer = scheme.eq_ignore_ascii_case("bearer");
        }
        if bearer && name.eq_ignore_ascii_case("claims") && value.len() <= MAX_CLAIMS {
            let bytes = STANDARD
                .decode(&value)
                .or_else(|_| URL_SAFE.decode(&value))
                .ok()?;
            let text = String::from_utf8(bytes).ok()?;
            return serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&text)
                .is_ok()
                .then_some(text);
        }
    }
    None
}

struct Parameter<'a> {
    /// A scheme that begins before this parameter.
    scheme: Option<&'a str>,
    name: &'a str,
    value: String,
}

/// The parameters of one or several challenges in one field (RFC 9110 section 11.6.1).
fn parameters(field: &str) -> impl Iterator<Item = Parameter<'_>> {
    let mut rest = field;
    std::iter::from_fn(move || {
        let mut scheme = None;
        loop {
            rest = rest.trim_start_matches([' ', '\t', ',']);
            if rest.is_empty() {
                return None;
            }
            let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            let value = after.trim_start_matches([' ', '\t']).strip_prefix('=');
            let Some(value) = value else {
                // A word without a value begins a challenge.
                scheme = Some(word);
                rest = after;
                continue;
            };
            let value = value.trim_start_matches([' ', '\t']);
            let (value, after) = if let Some(quoted) = value.strip_prefix('"') {
                unquote(quoted)
            } else {
                token(value)
            };
            rest = after;
            if word.is_empty() {
                continue;
            }
            return Some(Parameter {
                scheme,
                name: word,
                value,
            });
        }
    })
}

fn token(text: &str) -> (String, &str) {
    let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
    (text[..end].to_owned(), &text[end..])
}

fn unquote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => {
                value.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return (value, &text[at + 1..]),
            _ => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Option<String> {
        let mut m = HeaderMap::new();
        m.append(header::WWW_AUTHENTICATE, value.parse().unwrap());
        claims(&m)
    }

    #[test]
    fn reads_claims_wherever_they_stand() {
        let want = Some(r#"{"access_token": {"foo": "bar"}}"#.to_owned());
        assert_eq!(
            read(
                r#"Bearer realm="", authorization_uri="https://l/a", error="insufficient_claims", claims="eyJhY2Nlc3NfdG9rZW4iOiB7ImZvbyI6ICJiYXIifX0=""#
            ),
            want
        );
        assert_eq!(
            read(
                r#"Bearer claims="eyJhY2Nlc3NfdG9rZW4iOiB7ImZvbyI6ICJiYXIifX0", error="insufficient_claims""#
            ),
            want,
            "without padding"
        );
        assert_eq!(
            read(r#"bearer claims=eyJhY2Nlc3NfdG9rZW4iOiB7ImZvbyI6ICJiYXIifX0="#),
            want,
            "unquoted"
        );
        assert_eq!(
            read(
                r#"Basic realm="a, b", Bearer claims="eyJhY2Nlc3NfdG9rZW4iOiB7ImZvbyI6ICJiYXIifX0=""#
            ),
            want,
            "second challenge"
        );
    }

    #[test]
    fn what_is_no_claims_challenge_is_none() {
        for v in [
            r#"Bearer error="invalid_token""#,
            "Bearer",
            r#"Bearer claims="not base64 at all""#,
            r#"Bearer claims="bm90IGpzb24=""#,
            r#"PoP claims="eyJhIjoxfQ==""#,
            r#"Bearer claims=""#,
            r#"Bearer claims="eyJhIjoxfQ=="#,
            "===",
            ",,,",
        ] {
            let read = read(v);
            assert!(read.is_none() || v.contains("eyJhIjoxfQ"), "{v}: {read:?}");
        }
        assert_eq!(read(r#"PoP claims="eyJhIjoxfQ==""#), None);
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "[ -~]{0,80}") {
            let _ = read(&text);
        }
    }
}
