//! An image's name, as a kubelet takes it (the grammar of github.com/distribution/reference). Asks no registry.

/// The name, if it is one.
///
/// # Errors
/// What is wrong with it, and what to write.
pub fn image(text: &str) -> Result<String, String> {
    const MEND: &str = "write one such as registry.example.com/token-sidecar:0.1.0";
    let wrong = |what: &str| Err(format!("{what}; {MEND}"));
    if text.is_empty() {
        return wrong("empty");
    }
    if text.contains("://") {
        return wrong("a URL, where an image's name belongs, which has no scheme");
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    // A `:` before the last `/` is of a port.
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (rest, None),
    };
    let path = match name.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => path,
        _ => name,
    };
    let good_tag = |tag: &str| {
        tag.len() <= 128
            && tag.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && (tag.chars()).all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
    };
    let good_digest = |digest: &str| {
        let hex = digest.split_once(':').map_or("", |(_, hex)| hex);
        hex.len() >= 32 && hex.chars().all(|c| c.is_ascii_hexdigit())
    };
    if name.chars().any(|c| !c.is_ascii_graphic()) {
        return wrong("has spaces or other than visible ASCII");
    }
    if path.chars().any(|c| c.is_ascii_uppercase()) {
        return wrong(
            "has upper-case letters, which an image's name has in its registry's host and its tag alone",
        );
    }
    let part = |part: &str| {
        let end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        let mut chars = part.chars();
        end(chars.next())
            && (part.len() == 1 || end(chars.next_back()))
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
    };
    if !path.split('/').all(part) {
        return wrong("not an image's name");
    }
    if !tag.is_none_or(good_tag) {
        return wrong("has a tag that is none");
    }
    if !digest.is_none_or(good_digest) {
        return wrong("has a digest that is none, such as sha256: and 64 hex digits");
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_what_no_kubelet_takes() {
        let digest = format!("sha256:{}", "a1".repeat(32));
        for good in [
            "i",
            "r/i:1",
            "busybox",
            "library/busybox:1.37",
            "registry.example/token-sidecar:0.1.0",
            "localhost/i",
            "localhost:5000/a/b_c/d-e.f:v1.0_x",
            "Registry.Example:443/i:Tag",
            "a--b/c__d",
            &format!("ghcr.io/a/b@{digest}"),
            &format!("ghcr.io/a/b:1@{digest}"),
        ] {
            assert_eq!(image(good).as_deref(), Ok(good));
        }
        for (odd, says) in [
            ("", "empty"),
            ("https://ghcr.io/a/b", "a URL, where"),
            ("ghcr.io/A/b:1", "has upper-case letters"),
            ("Token-Sidecar", "has upper-case letters"),
            ("ghcr.io/a b", "has spaces"),
            ("ghcr.io/a:1:2", "not an image's name"),
            ("ghcr.io/a/", "not an image's name"),
            ("/a", "not an image's name"),
            ("ghcr.io/a//b", "not an image's name"),
            ("-a", "not an image's name"),
            ("a:", "has a tag that is none"),
            ("a:{{tag}}", "has a tag that is none"),
            ("a:-1", "has a tag that is none"),
            ("a@sha256:12", "has a digest that is none"),
            ("a@latest", "has a digest that is none"),
        ] {
            let told = image(odd).unwrap_err();
            assert!(
                told.starts_with(says)
                    && told
                        .ends_with("; write one such as registry.example.com/token-sidecar:0.1.0"),
                "{odd}: {told}"
            );
        }
    }
}
