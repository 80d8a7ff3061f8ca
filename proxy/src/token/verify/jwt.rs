//! A JWT (RFC 7519) as a signed JWS in compact form (RFC 7515 section 7.1), taken apart strictly: nothing of it is to be believed until a key has
//! verified it. What it claims is judged in `claims`.

use super::{Refusal, jwk::Algorithm};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Map, Value};
use std::fmt;
use zeroize::Zeroizing;

/// A token taken apart. `Debug` shows nothing of it.
pub struct Jwt<'a> {
    /// How it says to be signed.
    pub algorithm: Algorithm,
    /// By which key.
    pub kid: Option<String>,
    /// `typ`, lower case, without `application/`.
    pub typ: Option<String>,
    /// What it claims.
    pub claims: Map<String, Value>,
    /// What is signed.
    pub message: &'a [u8],
    /// By whom.
    pub signature: Vec<u8>,
}

impl fmt::Debug for Jwt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwt")
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    /// Extensions that must be understood: none is.
    #[serde(default, deserialize_with = "present")]
    crit: bool,
    /// RFC 7797. It must stand in `crit` too; that of a sloppy issuer must not be misread.
    #[serde(default, deserialize_with = "present")]
    b64: bool,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

/// A JSON object in which no name is there twice (RFC 7515 section 4): two parsers could read two tokens.
struct Unambiguous(Map<String, Value>);

impl<'de> Deserialize<'de> for Unambiguous {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = Unambiguous;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Unambiguous, A::Error> {
                let mut map = Map::new();
                while let Some((name, value)) = entries.next_entry::<String, Value>()? {
                    if map.insert(name, value).is_some() {
                        return Err(A::Error::custom("a name is there twice"));
                    }
                }
                Ok(Unambiguous(map))
            }
        }
        deserializer.deserialize_map(Names)
    }
}

impl<'a> Jwt<'a> {
    /// Takes a token apart. Verifies nothing.
    ///
    /// # Errors
    /// [`Refusal::Malformed`]; [`Refusal::Algorithm`] for one that is never accepted (`none`, HMAC, unknown); [`Refusal::Critical`].
    pub fn parse(text: &'a str) -> Result<Self, Refusal> {
        let (message, signature) = text.rsplit_once('.').ok_or(Refusal::Malformed)?;
        let (header, payload) = message.split_once('.').ok_or(Refusal::Malformed)?;
        if payload.contains('.') {
            return Err(Refusal::Malformed);
        }
        let header: Header =
            serde_json::from_slice(&decode(header)?).map_err(|_| Refusal::Malformed)?;
        if header.crit || header.b64 {
            return Err(Refusal::Critical);
        }
        let algorithm = Algorithm::named(&header.alg).ok_or(Refusal::Algorithm)?;
        let claims: Unambiguous =
            serde_json::from_slice(&decode(payload)?).map_err(|_| Refusal::Malformed)?;
        let signature = decode(signature)?.to_vec();
        if signature.is_empty() {
            return Err(Refusal::Malformed);
        }
        Ok(Self {
            algorithm,
            kid: header.kid,
            typ: header.typ.map(|typ| media_type(&typ)),
            claims: claims.0,
            message: message.as_bytes(),
            signature,
        })
    }
}

/// `typ` is a media type whose `application/` may be left out (RFC 7515 section 4.1.9); case does not count.
pub(super) fn media_type(typ: &str) -> String {
    let typ = typ.to_ascii_lowercase();
    match typ.strip_prefix("application/") {
        Some(short) if !short.contains('/') => short.to_owned(),
        _ => typ,
    }
}

fn decode(part: &str) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map(Zeroizing::new)
        .map_err(|_| Refusal::Malformed)
}

#[cfg(test)]
#[path = "jwt_tests.rs"]
mod tests;
