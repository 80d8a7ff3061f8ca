//! What stands in a file where a token should be: the ways in which files really are wrong, told from their content without showing it.

use super::told::Told;

/// `None` when there is no more to say than that it is no token.
pub(super) fn content(bytes: &[u8]) -> Option<&'static str> {
    const BOM: &[u8] = b"\xef\xbb\xbf";
    let text = bytes.trim_ascii();
    let begins = |with: &[u8]| {
        text.get(..with.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(with))
    };
    let parts = text.split(|b| *b == b'.').count();
    Some(match text {
        _ if begins(BOM) => {
            "it begins with a byte order mark: write the file without one (as the kubelet does)"
        }
        _ if text.starts_with(b"\xff\xfe") || text.starts_with(b"\xfe\xff") => {
            "it is UTF-16: write the file as plain ASCII"
        }
        _ if begins(b"Bearer ") => "it begins with `Bearer `: only the token belongs into the file",
        _ if begins(b"-----BEGIN") => "it is PEM, a key or a certificate: another file is meant",
        _ if begins(b"{") => {
            "it is JSON, perhaps a whole token reply: only the token belongs into the file"
        }
        _ if begins(b"<") => "it is HTML or XML, perhaps an error page that was saved",
        _ if text.contains(&b'\n') => {
            "it has several lines: one token belongs into the file, on one line"
        }
        _ if parts == 5 => {
            "it is an encrypted JWT (five parts), which no authority takes as an assertion"
        }
        _ => return of_claims(&Told::read(text)?),
    })
}

/// It is a JWT, and yet not one that can be used.
fn of_claims(told: &Told) -> Option<&'static str> {
    match (told.expires, told.issuer.as_deref()) {
        (None, Some("kubernetes/serviceaccount")) => Some(
            "it is a token of the old kind, out of a Secret: it has no audience and never expires; mount a projected serviceAccountToken instead",
        ),
        (None, _) => Some("it is a JWT without `exp`"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

    #[test]
    fn each_kind_of_wrong_is_told() {
        let jwt = |payload: &str| format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload));
        let legacy = jwt(r#"{"iss":"kubernetes/serviceaccount","sub":"x"}"#);
        for (bytes, part) in [
            (b"\xef\xbb\xbfeyJ.a.b".as_slice(), "byte order mark"),
            (b"\xff\xfee\0", "UTF-16"),
            (b"bearer eyJ.a.b", "`Bearer `"),
            (b"-----BEGIN PRIVATE KEY-----", "PEM"),
            (b" {\"access_token\":1}", "JSON"),
            (b"<html>", "HTML"),
            (b"a.b.c\nd.e.f", "several lines"),
            (b"a.b.c.d.e", "encrypted"),
            (legacy.as_bytes(), "old kind"),
            (jwt("{}").as_bytes(), "without `exp`"),
        ] {
            let told = content(bytes).unwrap();
            assert!(told.contains(part), "{told}");
        }
        assert_eq!(content(b"garbage"), None);
        assert_eq!(content(jwt(r#"{"exp":1}"#).as_bytes()), None);
    }
}
