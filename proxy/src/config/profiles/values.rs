//! Single values of a profile: text -> what Kubernetes and the sidecar take. Pure; an error says what is wrong and what to write instead.

use crate::admission::ANNOTATIONS;
use url::Url;

/// The name of a ConfigMap or Secret (a DNS subdomain as RFC 1123 has it, in lower case).
pub(super) fn object(text: &str) -> Result<String, String> {
    const MEND: &str = "write the name, such as orders-ca";
    let label = |label: &str| {
        let end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        end(label.chars().next()) && end(label.chars().next_back()) && label.chars().all(good)
    };
    // YAML tools, Helm among them, write `on` as `true`.
    if ["true", "false", "on", "off", "yes", "no"]
        .iter()
        .any(|word| text.eq_ignore_ascii_case(word))
    {
        Err(format!("a boolean, where a name belongs; {MEND}"))
    } else if text.len() <= 253 && text.split('.').all(label) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "not a name that a ConfigMap or Secret can have (at most 253 of a-z, 0-9, `-` and `.`, each part begun and ended by a letter or digit); {MEND}"
        ))
    }
}

/// A key of a ConfigMap, which is a file's name once it is mounted.
pub(super) fn key(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !text.is_empty()
        && text.len() <= 253
        && text.chars().all(good)
        && text != "."
        && !text.starts_with("..")
    {
        Ok(text.to_owned())
    } else {
        Err("not a key that a ConfigMap can have (at most 253 of a-z, A-Z, 0-9, `-`, `_` and `.`, not begun by `..`); write one such as config.yaml".into())
    }
}

/// A container's name (a DNS label as RFC 1123 has it, in lower case).
pub(super) fn container(text: &str) -> Result<String, String> {
    if text.len() <= 63 && !text.contains('.') && object(text).is_ok() {
        Ok(text.to_owned())
    } else {
        Err("not a name that a container can have (at most 63 of a-z, 0-9 and `-`, begun and ended by a letter or digit); write it as the pod has it".into())
    }
}

/// The URL of a forward proxy.
pub(super) fn https_proxy(text: &str) -> Result<String, String> {
    let url = Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.host().is_some())
        .ok_or("not a proxy's URL; write one such as http://proxy.example.com:3128")?;
    // An empty user name leaves nothing behind in `url`.
    let authority = text.split('/').nth(2).unwrap_or_default();
    if !url.username().is_empty() || url.password().is_some() || authority.contains('@') {
        return Err(
            "has a user or a password, which would stand in every pod; use a proxy that asks for none"
                .into(),
        );
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err("has a path, query or fragment, which no proxy is asked with; write scheme, host and port alone".into());
    }
    if url.port() == Some(0) {
        return Err("names port 0, where nothing listens; write the proxy's".into());
    }
    Ok(text.to_owned())
}

/// A port that needs no privilege.
pub(super) fn port(text: &str) -> Result<u16, String> {
    text.parse()
        .ok()
        .filter(|p| *p >= 1024)
        .ok_or_else(|| "not a port from 1024 to 65535; write one in digits".into())
}

/// One of our annotations, without prefix.
pub(super) fn annotation(text: &str) -> Result<String, String> {
    let mut known = ANNOTATIONS.iter().map(|(name, _)| *name);
    if known.any(|k| k == text) {
        Ok(text.to_owned())
    } else {
        let hint = sidecar_runtime::suggest::hint(text, ANNOTATIONS.iter().map(|(name, _)| *name));
        Err(format!("not an annotation of ours{hint}"))
    }
}

/// A name of an environment variable that people use (Kubernetes lets more through).
pub(super) fn variable(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(good) {
        Ok(text.to_owned())
    } else {
        Err("not a variable's name; write one such as BACKEND_API_URL".into())
    }
}
