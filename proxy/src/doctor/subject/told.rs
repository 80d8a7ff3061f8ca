//! What a JWT says, read as leniently as can be: also of one that has expired, and with the claims that Kubernetes adds. For people and for filling in commands; nothing
//! is decided by it.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;
use std::time::Duration;
use zeroize::Zeroizing;

/// A claim is shown up to this length.
const CLAIM_MAX: usize = 300;

/// What it says. Every text is one line, and bounded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in super::super) struct Told {
    pub(super) issuer: Option<String>,
    pub(super) subject: Option<String>,
    pub(super) audiences: Vec<String>,
    pub(super) issued: Option<Duration>,
    pub(super) expires: Option<Duration>,
    pub(super) pod: Option<String>,
    pub(super) node: Option<String>,
}

impl Told {
    /// `None`: no three parts with a JSON payload between them.
    pub(super) fn read(content: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(content.trim_ascii()).ok()?;
        let mut parts = text.split('.');
        let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
        let payload = Zeroizing::new(URL_SAFE_NO_PAD.decode(payload).ok()?);
        let claims: Value = serde_json::from_slice(&payload).ok()?;
        if !claims.is_object() {
            return None;
        }
        let time = |name: &str| {
            let seconds = claims[name].as_f64()?;
            Duration::try_from_secs_f64(seconds.max(0.0)).ok()
        };
        let bound = |kind: &str| line(&claims["kubernetes.io"][kind]["name"]);
        Some(Self {
            issuer: line(&claims["iss"]),
            subject: line(&claims["sub"]),
            audiences: match &claims["aud"] {
                Value::Array(all) => all.iter().filter_map(line).collect(),
                one => line(one).into_iter().collect(),
            },
            issued: time("iat"),
            expires: time("exp"),
            pod: bound("pod"),
            node: bound("node"),
        })
    }
}

/// A claim for a person's terminal: it comes from a file that others write.
fn line(claim: &Value) -> Option<String> {
    let text = claim.as_str()?.chars();
    Some(text.filter(|c| !c.is_control()).take(CLAIM_MAX).collect())
}
