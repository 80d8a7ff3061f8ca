//! The commands that mend what the doctor finds, with the values at hand filled in. `<…>` stands where only the reader knows. Text alone; nothing here is ever run.
//!
//! Values come from configurations, tokens and certificates: each is quoted for a shell.

pub(super) mod entra;
pub(super) mod every;
pub(super) mod google;
pub(super) mod kubernetes;
pub(super) mod network;
pub(super) mod oauth;

use super::facts::Facts;
use std::borrow::Cow;

/// For a shell: in single quotes unless it is plainly harmless.
pub(super) fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/@".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    let line: String = text.chars().filter(|c| !c.is_control()).collect();
    format!("'{}'", line.replace('\'', r"'\''"))
}

/// A value, or the placeholder that stands for it.
fn or<'a>(value: Option<&str>, placeholder: &'a str) -> Cow<'a, str> {
    value.map_or(Cow::Borrowed(placeholder), |v| Cow::Owned(quoted(v)))
}

/// A value that stands within other quotes: kept only when it is plainly harmless there.
fn embedded<'a>(value: Option<&'a str>, placeholder: &'a str) -> &'a str {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/@".contains(c);
    value
        .filter(|v| !v.is_empty() && v.chars().all(plain))
        .unwrap_or(placeholder)
}

impl Facts {
    fn namespace(&self) -> Cow<'_, str> {
        or(
            self.account().map(|(namespace, _)| namespace),
            "<namespace>",
        )
    }

    fn service_account_name(&self) -> Cow<'_, str> {
        or(self.account().map(|(_, name)| name), "<service account>")
    }

    fn pod(&self) -> Cow<'_, str> {
        or(self.pod.as_deref(), "<pod>")
    }

    fn node(&self) -> Cow<'_, str> {
        or(self.node.as_deref(), "<node>")
    }

    fn client_id(&self) -> Cow<'_, str> {
        or(self.client_id.as_deref(), "<client id>")
    }

    fn host(&self) -> Cow<'_, str> {
        or(self.host.as_deref(), "<host>")
    }

    fn port(&self) -> u16 {
        self.port.unwrap_or(443)
    }
}

/// What mends an exchange that ended with this code. Empty for codes that the words alone explain.
pub(super) fn exchange(code: &str, facts: &Facts) -> Vec<String> {
    match code {
        "http_4xx"
        | "unauthorized_client"
        | "access_denied"
        | "invalid_client"
        | "invalid_request"
            if facts.binding =>
        {
            [
                kubernetes::binding(facts),
                kubernetes::audience(entra::BINDING_AUDIENCE, facts),
            ]
            .concat()
        }
        code if code.starts_with("aadsts_") => entra::refused(code, facts),
        code if code.starts_with("google_") => google::refused(code, facts),
        code if code.starts_with("client_") || code == "static_secret_unreadable" => {
            kubernetes::secret_file(facts)
        }
        "timeout" => network::unreachable("connection_timeout", facts),
        code if facts.provider.is_some() && google::knows(code) => google::refused(code, facts),
        code => match entra::numbered(code).filter(|_| facts.tenant_id.is_some()) {
            // Entra, without a number.
            Some(number) => entra::refused(number, facts),
            None => oauth::refused(code, facts),
        },
    }
}

#[cfg(test)]
pub(super) mod tests;
