//! The request a tool makes: method, path, query, headers and body, rendered from the arguments of a call. Pure.

use http::{HeaderName, HeaderValue, Method, header};
use serde_json::{Map, Value};

use super::template::{
    ArgumentError, Problem, Template, argument_error, encode, given, header_text, scalar,
};

/// The longest path and query together, in bytes.
pub(crate) const MAX_TARGET: usize = 8 * 1024;

/// What a tool declares about its request.
#[derive(Debug, Clone)]
pub(crate) struct RequestTemplate {
    pub(crate) method: Method,
    /// The path's segments; `/` alone is one empty segment.
    pub(crate) path: Vec<Template>,
    /// Names (encoded already) and values.
    pub(crate) query: Vec<(String, Template)>,
    pub(crate) headers: Vec<(HeaderName, Template)>,
    pub(crate) body: Option<BodyTemplate>,
}

/// A JSON value with templates for strings.
#[derive(Debug, Clone)]
pub(crate) enum BodyTemplate {
    /// A number, a boolean, null.
    Literal(Value),
    /// A string. One that is nothing but a placeholder becomes the argument's value, whatever its type.
    Text(Template),
    /// An array; elements whose argument was not given are left out.
    Array(Vec<Self>),
    /// An object; members whose argument was not given are left out.
    Object(Vec<(String, Self)>),
}

/// A request as it goes to the backend, without scheme and host.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rendered {
    pub(crate) method: Method,
    /// Path and query, starting with `/`.
    pub(crate) target: String,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: Option<Value>,
}

impl RequestTemplate {
    /// Every argument that some placeholder names.
    pub(crate) fn arguments(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.path.iter().flat_map(Template::arguments).collect();
        names.extend(self.query.iter().flat_map(|(_, value)| value.arguments()));
        names.extend(self.headers.iter().flat_map(|(_, value)| value.arguments()));
        if let Some(body) = &self.body {
            body.collect_arguments(&mut names);
        }
        names
    }

    /// Puts the arguments in.
    pub(crate) fn render(&self, arguments: &Map<String, Value>) -> Result<Rendered, ArgumentError> {
        let mut target = String::new();
        for segment in &self.path {
            target.push('/');
            target.push_str(&segment.segment(arguments)?);
        }
        let mut separator = '?';
        for (name, template) in &self.query {
            for value in query_values(template, arguments)? {
                target.push(separator);
                target.push_str(name);
                target.push('=');
                target.push_str(&encode(&value));
                separator = '&';
            }
        }
        if target.len() > MAX_TARGET {
            return Err(argument_error(&self.longest(arguments), Problem::TooLong));
        }
        let mut headers = Vec::new();
        for (name, template) in &self.headers {
            let Some(text) = template.plain(arguments)? else {
                continue;
            };
            header_text(template, &text)?;
            if let Ok(value) = HeaderValue::from_str(&text) {
                headers.push((name.clone(), value));
            }
        }
        Ok(Rendered {
            method: self.method.clone(),
            target,
            headers,
            body: match &self.body {
                Some(body) => body.render(arguments)?,
                None => None,
            },
        })
    }

    /// The argument of the path or the query that takes most room.
    fn longest(&self, arguments: &Map<String, Value>) -> String {
        let of_path = self.path.iter().flat_map(Template::arguments);
        let of_query = self.query.iter().flat_map(|(_, value)| value.arguments());
        let length = |name: &&str| arguments.get(*name).map_or(0, |v| v.to_string().len());
        let longest = of_path.chain(of_query).max_by_key(length);
        longest.unwrap_or_default().to_owned()
    }
}

/// The values of one query parameter: none when an argument was not given, several for an array.
fn query_values(
    template: &Template,
    arguments: &Map<String, Value>,
) -> Result<Vec<String>, ArgumentError> {
    if let Some(name) = template.sole_argument()
        && let Some(Value::Array(values)) = given(arguments, name)
    {
        return values.iter().map(|value| scalar(name, value)).collect();
    }
    Ok(template.plain(arguments)?.into_iter().collect())
}

impl BodyTemplate {
    fn render(&self, arguments: &Map<String, Value>) -> Result<Option<Value>, ArgumentError> {
        Ok(match self {
            Self::Literal(value) => Some(value.clone()),
            Self::Text(template) => match template.sole_argument() {
                Some(name) => given(arguments, name).cloned(),
                None => template.plain(arguments)?.map(Value::String),
            },
            Self::Array(elements) => {
                let mut array = Vec::new();
                for element in elements {
                    array.extend(element.render(arguments)?);
                }
                Some(Value::Array(array))
            }
            Self::Object(members) => {
                let mut object = Map::new();
                for (name, member) in members {
                    if let Some(value) = member.render(arguments)? {
                        object.insert(name.clone(), value);
                    }
                }
                Some(Value::Object(object))
            }
        })
    }

    fn collect_arguments<'a>(&'a self, names: &mut Vec<&'a str>) {
        match self {
            Self::Literal(_) => {}
            Self::Text(template) => names.extend(template.arguments()),
            Self::Array(elements) => elements.iter().for_each(|e| e.collect_arguments(names)),
            Self::Object(members) => members.iter().for_each(|(_, m)| m.collect_arguments(names)),
        }
    }
}

/// Header fields that a tool may not set: credentials, what frames or routes a message, what this server sets itself.
pub(crate) fn is_forbidden_header(name: &HeaderName) -> bool {
    const FORBIDDEN: [HeaderName; 15] = [
        header::AUTHORIZATION,
        header::PROXY_AUTHORIZATION,
        header::PROXY_AUTHENTICATE,
        header::COOKIE,
        header::HOST,
        header::CONNECTION,
        header::TRANSFER_ENCODING,
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::ACCEPT_ENCODING,
        header::TE,
        header::TRAILER,
        header::UPGRADE,
        header::EXPECT,
        header::FORWARDED,
    ];
    FORBIDDEN.contains(name)
        || matches!(
            name.as_str(),
            "keep-alive" | "proxy-connection" | "traceparent" | "tracestate"
        )
        || name.as_str().starts_with("x-forwarded-")
}

#[cfg(test)]
mod tests {
    use http::Uri;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn template(text: &str) -> Template {
        Template::parse(text).unwrap()
    }

    fn sample() -> RequestTemplate {
        RequestTemplate {
            method: Method::POST,
            path: vec![template("users"), template("{id}"), template("notes")],
            query: vec![
                ("fields".into(), template("{fields}")),
                ("page".into(), template("p{page}")),
                ("all".into(), template("true")),
            ],
            headers: vec![(HeaderName::from_static("x-note"), template("n-{note}"))],
            body: Some(BodyTemplate::Object(vec![
                ("text".into(), BodyTemplate::Text(template("{note}"))),
                ("size".into(), BodyTemplate::Text(template("{size}"))),
                (
                    "tags".into(),
                    BodyTemplate::Array(vec![
                        BodyTemplate::Text(template("{size}")),
                        BodyTemplate::Literal(json!(1)),
                        BodyTemplate::Text(template("v{page}")),
                    ]),
                ),
            ])),
        }
    }

    fn render(arguments: Value) -> Result<Rendered, ArgumentError> {
        let Value::Object(arguments) = arguments else {
            panic!("not an object")
        };
        sample().render(&arguments)
    }

    #[test]
    fn everything_is_filled_in() {
        let rendered = render(json!({
            "id": "a/b", "fields": ["x", "y z"], "page": 3, "note": "hi", "size": { "w": 2 },
        }))
        .unwrap();
        assert_eq!(rendered.method, Method::POST);
        assert_eq!(
            rendered.target,
            "/users/a%2Fb/notes?fields=x&fields=y%20z&page=p3&all=true"
        );
        let note = HeaderName::from_static("x-note");
        assert_eq!(rendered.headers, [(note, HeaderValue::from_static("n-hi"))]);
        let body = json!({ "text": "hi", "size": { "w": 2 }, "tags": [{ "w": 2 }, 1, "v3"] });
        assert_eq!(rendered.body, Some(body));
    }

    #[test]
    fn optional_arguments_are_left_out() {
        let rendered = render(json!({ "id": 7 })).unwrap();
        assert_eq!(rendered.target, "/users/7/notes?all=true");
        assert_eq!(rendered.headers, []);
        assert_eq!(rendered.body, Some(json!({ "tags": [1] })));
    }

    #[test]
    fn overlong_targets_name_the_argument() {
        let error = render(json!({ "id": 7, "page": "x".repeat(MAX_TARGET) })).unwrap_err();
        assert_eq!(error, argument_error("page", Problem::TooLong));
    }

    #[test]
    fn headers_cannot_be_broken_out_of() {
        for note in [
            "a\r\nauthorization: x",
            "a\nb",
            "a ",
            "\u{fc}",
            "a\0",
            "\u{7f}",
        ] {
            let error = render(json!({ "id": 7, "note": note })).unwrap_err();
            assert_eq!(
                error,
                argument_error("note", Problem::NotHeaderText),
                "{note:?}"
            );
        }
    }

    #[test]
    fn credentials_and_framing_are_not_a_tools_business() {
        for name in [
            "authorization",
            "Host",
            "Connection",
            "TE",
            "X-Forwarded-For",
            "cookie",
            "traceparent",
        ] {
            assert!(is_forbidden_header(&name.parse().unwrap()), "{name}");
        }
        assert!(!is_forbidden_header(&HeaderName::from_static(
            "x-api-version"
        )));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            "[./\\\\%?#&=@:\r\n a-c]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(2, 8, 4, |inner| {
            prop::collection::vec(inner, 0..4).prop_map(Value::from)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn no_argument_reaches_beyond_its_place(
            id in any_json(), fields in any_json(), page in any_json(), note in any_json(), size in any_json(),
        ) {
            let arguments = json!({ "id": id, "fields": fields, "page": page, "note": note, "size": size });
            let Ok(rendered) = render(arguments) else { return Ok(()) };
            // As a request line would carry it: one URI of ours, with the host that we gave.
            let uri: Uri = format!("http://127.0.0.1:8080{}", rendered.target).parse().unwrap();
            prop_assert_eq!(uri.authority().unwrap().as_str(), "127.0.0.1:8080");
            let (path, query) = rendered.target.split_once('?').unwrap();
            prop_assert_eq!(uri.path(), path);
            prop_assert_eq!(uri.query(), Some(query));
            let segments: Vec<&str> = path.split('/').collect();
            prop_assert_eq!(segments.len(), 4);
            prop_assert_eq!((segments[0], segments[1], segments[3]), ("", "users", "notes"));
            prop_assert!(!["", ".", ".."].contains(&segments[2]));
            for pair in query.split('&') {
                let (name, value) = pair.split_once('=').unwrap();
                prop_assert!(["fields", "page", "all"].contains(&name), "{}", name);
                prop_assert!(value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~%".contains(&b)));
            }
            prop_assert!(query.ends_with("all=true"));
            prop_assert!(rendered.headers.len() <= 1);
            for (name, value) in &rendered.headers {
                prop_assert_eq!(name.as_str(), "x-note");
                prop_assert!(value.to_str().unwrap().starts_with("n-"));
            }
        }
    }
}
