//! The W3C trace context of a call: the only thing of a caller's headers that reaches the backend, and only when valid.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const LONGEST_STATE: usize = 512;

/// A `traceparent` and its `tracestate`, if the caller gave them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TraceContext {
    parent: Option<HeaderValue>,
    state: Option<HeaderValue>,
}

impl TraceContext {
    /// From a request's `_meta` (MCP reserves the bare keys), else from its HTTP headers. What is malformed is dropped.
    pub(crate) fn of(meta: Option<&Map<String, Value>>, headers: Option<&HeaderMap>) -> Self {
        let of_meta = |key: &str| meta.and_then(|meta| meta.get(key)).and_then(Value::as_str);
        if let Some(parent) = of_meta("traceparent") {
            return Self::parse(parent, of_meta("tracestate"));
        }
        let of_headers = |name: &HeaderName| {
            let mut values = headers?.get_all(name).iter();
            let first = values.next()?;
            // A list in several lines would have to be joined; nobody sends one, so it is dropped.
            if values.next().is_some() {
                None
            } else {
                first.to_str().ok()
            }
        };
        match of_headers(&TRACEPARENT) {
            Some(parent) => Self::parse(parent, of_headers(&TRACESTATE)),
            None => Self::default(),
        }
    }

    /// Adds the headers to a request.
    pub(crate) fn add_to(&self, headers: &mut HeaderMap) {
        if let Some(parent) = &self.parent {
            headers.insert(TRACEPARENT, parent.clone());
        }
        if let Some(state) = &self.state {
            headers.insert(TRACESTATE, state.clone());
        }
    }

    /// The trace's id, for logs.
    pub(crate) fn trace_id(&self) -> Option<&str> {
        self.parent.as_ref()?.to_str().ok()?.get(3..35)
    }

    fn parse(parent: &str, state: Option<&str>) -> Self {
        if !is_traceparent(parent) {
            return Self::default();
        }
        let is_state = |state: &&str| {
            !state.is_empty()
                && state.len() <= LONGEST_STATE
                && state.bytes().all(|b| (0x20..=0x7e).contains(&b))
        };
        Self {
            parent: HeaderValue::from_str(parent).ok(),
            state: state
                .filter(is_state)
                .and_then(|state| HeaderValue::from_str(state).ok()),
        }
    }
}

/// Version 00's form (W3C Trace Context, section 3.2): four groups of lower-case hexadecimal digits, ids not all zero.
fn is_traceparent(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    let [version, trace, span, flags] = groups.as_slice() else {
        return false;
    };
    let hex = |group: &str, length: usize| {
        group.len() == length
            && group
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let zero = |group: &str| group.bytes().all(|b| b == b'0');
    hex(version, 2)
        && *version != "ff"
        && hex(trace, 32)
        && hex(span, 16)
        && hex(flags, 2)
        && !zero(trace)
        && !zero(span)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const OTHER: &str = "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

    fn sent(meta: Value, headers: &[(&'static str, &'static str)]) -> Vec<(String, String)> {
        let mut of_caller = HeaderMap::new();
        for (name, value) in headers {
            of_caller.append(*name, HeaderValue::from_static(value));
        }
        let mut sent = HeaderMap::new();
        TraceContext::of(meta.as_object(), Some(&of_caller)).add_to(&mut sent);
        let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
        sent.iter()
            .map(|(name, value)| (name.to_string(), text(value)))
            .collect()
    }

    #[test]
    fn meta_comes_before_headers() {
        let parent = ("traceparent".to_owned(), PARENT.to_owned());
        let state = ("tracestate".to_owned(), "a=b".to_owned());
        let headers = [("traceparent", OTHER), ("tracestate", "x=y")];
        let meta = json!({ "traceparent": PARENT, "tracestate": "a=b" });
        assert_eq!(sent(meta, &headers), [parent.clone(), state]);
        assert_eq!(
            sent(json!({ "traceparent": PARENT }), &headers),
            vec![parent.clone()]
        );
        assert_eq!(sent(Value::Null, &[("traceparent", PARENT)]), [parent]);
        assert_eq!(sent(Value::Null, &[]), []);
    }

    #[test]
    fn malformed_context_is_dropped() {
        for bad in [
            "",
            "x",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nauthorization: x",
        ] {
            assert_eq!(
                sent(json!({ "traceparent": bad, "tracestate": "a=b" }), &[]),
                [],
                "{bad}"
            );
        }
        let long = "x".repeat(LONGEST_STATE + 1);
        for bad in ["a=b\r\nx: y", "", "ü", &long] {
            let meta = json!({ "traceparent": PARENT, "tracestate": bad });
            assert_eq!(sent(meta, &[]).len(), 1, "{bad}");
        }
        assert_eq!(sent(Value::Null, &[("tracestate", "a=b")]), []);
        assert_eq!(
            sent(
                Value::Null,
                &[("traceparent", PARENT), ("traceparent", OTHER)]
            ),
            []
        );
    }

    #[test]
    fn the_trace_id_is_for_logs() {
        let context = TraceContext::of(json!({ "traceparent": PARENT }).as_object(), None);
        assert_eq!(context.trace_id(), Some("0af7651916cd43dd8448eb211c80319c"));
    }
}
