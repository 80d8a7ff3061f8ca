//! On whose behalf a call is made: the handle that the sidecar has put in the place of the caller's token, relayed to the backend (which is the
//! sidecar again), and the mark by which the sidecar says that the caller must do something first, relayed back.
//!
//! A handle means something to the sidecar alone. What is no handle, a real token above all, is never relayed.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};

/// The response header that marks a call as refused until the caller has done something.
pub(crate) const MARK: HeaderName = HeaderName::from_static("token-sidecar-step-up");
const SCHEME: &str = "Bearer ";
/// 256 bits in base64url.
const HANDLE_CHARS: usize = 43;
/// 128 bits in base64url.
const MARK_CHARS: usize = 22;

/// The caller of one request. Clones are the same one.
#[derive(Clone, Default)]
pub(crate) struct Caller(Arc<Inner>);

#[derive(Default)]
struct Inner {
    handle: Option<(HeaderName, HeaderValue)>,
    mark: Mutex<Option<HeaderValue>>,
}

impl Caller {
    /// The caller of a request, whose handle is in the field `header`; without one, nothing is relayed.
    pub(crate) fn of(header: Option<&HeaderName>, headers: &HeaderMap) -> Self {
        let handle = header.and_then(|name| {
            let mut values = headers.get_all(name).iter();
            let (value, None) = (values.next()?, values.next()) else {
                return None;
            };
            let text = value.to_str().ok()?;
            let handle = if *name == AUTHORIZATION {
                text.strip_prefix(SCHEME)?
            } else {
                text
            };
            if !is_encoded(handle, HANDLE_CHARS) {
                return None;
            }
            let mut value = value.clone();
            value.set_sensitive(true);
            Some((name.clone(), value))
        });
        Self(Arc::new(Inner {
            handle,
            mark: Mutex::default(),
        }))
    }

    /// Adds the handle to a request to the backend.
    pub(crate) fn add_to(&self, headers: &mut HeaderMap) {
        if let Some((name, value)) = &self.0.handle {
            headers.insert(name.clone(), value.clone());
        }
    }

    /// Notes what an answer of the backend says: the mark, if it has one, and the call was made with a handle.
    pub(crate) fn note(&self, answer: &HeaderMap) {
        let Some(mark) = answer.get(MARK) else {
            return;
        };
        let fits = mark.to_str().is_ok_and(|text| is_encoded(text, MARK_CHARS));
        if self.0.handle.is_some() && fits {
            *self.0.mark.lock().unwrap_or_else(PoisonError::into_inner) = Some(mark.clone());
        }
    }

    /// Puts the mark on the answer to the caller's request: the sidecar in front makes a challenge of it.
    pub(crate) fn mark(&self, answer: &mut HeaderMap) {
        let mark = self.0.mark.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mark) = &*mark {
            answer.insert(MARK, mark.clone());
        }
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller")
            .field("has_handle", &self.0.handle.is_some())
            .finish_non_exhaustive()
    }
}

/// Whether a text is so many characters of base64url.
fn is_encoded(text: &str, length: usize) -> bool {
    text.len() == length
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HANDLE: &str = "abcdefghijklmnopqrstuvwxyz-_ABCDEFGHIJKLMNO";
    const REFERENCE: &str = "abcdefghijklmnopqrst-_";

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn relayed(header: Option<&'static str>, fields: &[(&'static str, &str)]) -> Vec<String> {
        let header = header.map(HeaderName::from_static);
        let mut out = HeaderMap::new();
        Caller::of(header.as_ref(), &headers(fields)).add_to(&mut out);
        out.iter()
            .map(|(name, value)| {
                assert!(value.is_sensitive());
                format!("{name}: {}", value.to_str().unwrap())
            })
            .collect()
    }

    #[test]
    fn a_handle_is_relayed_when_that_was_asked_for() {
        let bearer = format!("Bearer {HANDLE}");
        let sent = [("authorization", bearer.as_str()), ("x-handle", HANDLE)];
        assert_eq!(relayed(None, &sent), [] as [String; 0]);
        assert_eq!(
            relayed(Some("authorization"), &sent),
            [format!("authorization: {bearer}")]
        );
        assert_eq!(
            relayed(Some("x-handle"), &sent),
            [format!("x-handle: {HANDLE}")]
        );
    }

    #[test]
    fn what_is_no_handle_is_not() {
        let jwt = "Bearer eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl";
        let long = format!("Bearer {HANDLE}A");
        let dotted = format!("Bearer {}.{}", &HANDLE[..21], &HANDLE[..21]);
        for value in [jwt, &long, &dotted, HANDLE, "Bearer", "", "Basic YTpi"] {
            assert!(
                relayed(Some("authorization"), &[("authorization", value)]).is_empty(),
                "{value}"
            );
        }
        let bearer = format!("Bearer {HANDLE}");
        let twice = [
            ("authorization", bearer.as_str()),
            ("authorization", bearer.as_str()),
        ];
        assert!(relayed(Some("authorization"), &twice).is_empty());
    }

    #[test]
    fn a_mark_goes_back_for_a_call_with_a_handle() {
        let name = HeaderName::from_static("x-handle");
        let with = || Caller::of(Some(&name), &headers(&[("x-handle", HANDLE)]));
        let marked = |caller: Caller, mark: &str| {
            caller.note(&headers(&[("token-sidecar-step-up", mark)]));
            let mut out = HeaderMap::new();
            caller.clone().mark(&mut out);
            out.contains_key(MARK)
        };
        assert!(marked(with(), REFERENCE));
        assert!(!marked(with(), "no reference"));
        assert!(!marked(Caller::default(), REFERENCE));
        assert!(!format!("{:?}", with()).contains(HANDLE));
    }
}
