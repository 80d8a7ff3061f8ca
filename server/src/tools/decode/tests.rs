//! Tests of reading tools files: every error in one run, each naming tool and field.

use proptest::prelude::*;
use serde_json::json;

use super::*;

const TOOL: &str = r"
tools:
  - name: search
    title: Search
    description: Finds things.
    inputSchema:
      type: object
      properties: { q: { type: string }, page: { type: integer }, tag: { type: string } }
      required: [q]
    request:
      method: POST
      path: /v1/{q}/find
      query: { page: '{page}', all: true }
      headers: { X-Tag: 't-{tag}' }
      body: { tag: '{tag}', fixed: [1, '{page}'] }
    maxResultBytes: 1000
    timeout: 500ms
";

fn errors(yaml: &str) -> Vec<String> {
    decode(yaml).unwrap_err().errors().to_vec()
}

/// The errors after replacing a piece of the good file.
fn after(from: &str, to: &str) -> Vec<String> {
    assert!(TOOL.contains(from), "{from}");
    errors(&TOOL.replace(from, to))
}

#[test]
fn a_good_file() {
    let tools = decode(TOOL).unwrap();
    let tool = &tools[0];
    assert_eq!(
        (tool.name.as_str(), tool.title.as_deref()),
        ("search", Some("Search"))
    );
    assert_eq!(
        (tool.max_result_bytes, tool.timeout),
        (1000, Some(Duration::from_millis(500)))
    );
    let Value::Object(arguments) = json!({ "q": "a b", "page": 2, "tag": "x" }) else {
        panic!()
    };
    let rendered = tool.request.render(&arguments).unwrap();
    assert_eq!(rendered.target, "/v1/a%20b/find?all=true&page=2");
    assert_eq!(rendered.headers[0].1, "t-x");
    assert_eq!(rendered.body, Some(json!({ "tag": "x", "fixed": [1, 2] })));
    decode(
        &serde_json::to_string(&json!({ "tools": [{
        "name": "j", "description": "JSON is YAML", "inputSchema": { "type": "object" },
        "request": { "method": "GET", "path": "/" } }] }))
        .unwrap(),
    )
    .unwrap();
}

#[test]
fn single_errors_name_tool_field_cause_and_mend() {
    for (from, to, error) in [
        (
            "name: search",
            "nam: search",
            "tools[0]: unknown key `nam`; known are `name`, `title`, `description`, `inputSchema`, `request`, `maxResultBytes`, `timeout`",
        ),
        (
            "name: search",
            "name: a b",
            "tools[0] (a b).name: use 1 to 128 letters, digits, `_`, `-` and `.`",
        ),
        (
            "description: Finds things.",
            "description: ''",
            "tools[0] (search).description: must be a text that is not empty",
        ),
        (
            "description: Finds things.",
            "",
            "tools[0] (search).description: is missing; add it",
        ),
        (
            "      type: object\n",
            "      type: array\n",
            "tools[0] (search).inputSchema: `type` must be `object`: arguments have names",
        ),
        (
            "q: { type: string }",
            "q: { type: strin }",
            "tools[0] (search).inputSchema: is not a JSON Schema: /properties/q/type: \"strin\" is not valid under any of the schemas listed in the 'anyOf' keyword",
        ),
        (
            "method: POST",
            "method: get",
            "tools[0] (search).request.method: must be GET, POST, PUT, PATCH or DELETE",
        ),
        (
            "method: POST",
            "method: GET",
            "tools[0] (search).request.body: a GET request carries no body; put the arguments into `query`",
        ),
        (
            "/v1/{q}/find",
            "v1/{q}",
            "tools[0] (search).request.path: must start with `/`",
        ),
        (
            "/v1/{q}/find",
            "/v1/{q}?x=1",
            "tools[0] (search).request.path: must not contain `?` or `#`; write parameters under `query`, a literal one as %3F or %23",
        ),
        (
            "/v1/{q}/find",
            "//{q}",
            "tools[0] (search).request.path: must not contain `//`",
        ),
        (
            "/v1/{q}/find",
            "/../{q}",
            "tools[0] (search).request.path: segment `..` is a path step; write the path without `.` and `..`",
        ),
        (
            "/v1/{q}/find",
            "/%2e%2E/{q}",
            "tools[0] (search).request.path: segment `%2e%2E` is a path step; write the path without `.` and `..`",
        ),
        (
            "/v1/{q}/find",
            "/a%2Fb/{q}",
            "tools[0] (search).request.path: segment `a%2Fb` hides a separator or a control character behind percent-encoding; some servers would decode it",
        ),
        (
            "/v1/{q}/find",
            "/a%2/{q}",
            "tools[0] (search).request.path: segment `a%2` has a `%` without two hexadecimal digits; a literal one is %25",
        ),
        (
            "/v1/{q}/find",
            "/a b/{q}",
            "tools[0] (search).request.path: segment `a b` has a character that a path cannot hold; percent-encode it",
        ),
        (
            "/v1/{q}/find",
            "/{q",
            "tools[0] (search).request.path: `{` without its `}`; write `{{` for a brace",
        ),
        (
            "/v1/{q}/find",
            "/{q}/{page}",
            "tools[0] (search).request: path: placeholder `{page}` is not in inputSchema.required; a path needs all of its arguments",
        ),
        (
            "page: '{page}'",
            "page: '{pag}'",
            "tools[0] (search).request: placeholder `{pag}` is not in inputSchema.properties; declare it there or correct its name",
        ),
        (
            "page: '{page}'",
            "page: [1]",
            "tools[0] (search).request.query.page: must be a text, such as `{page}`, a number or a boolean",
        ),
        (
            "X-Tag",
            "Authorization",
            "tools[0] (search).request.headers.Authorization: may not be set by a tool: credentials are the sidecar's business, framing and routing the transport's",
        ),
        (
            "X-Tag",
            "'X Tag'",
            "tools[0] (search).request.headers.X Tag: is not a header field's name",
        ),
        (
            "t-{tag}",
            "ü{tag}",
            "tools[0] (search).request.headers.X-Tag: must be printable ASCII",
        ),
        (
            "maxResultBytes: 1000",
            "maxResultBytes: 1KB",
            "tools[0] (search).maxResultBytes: must be a whole number from 1 to 16777216",
        ),
        (
            "timeout: 500ms",
            "timeout: 5",
            "tools[0] (search).timeout: must be a duration with its unit, such as 500ms, 10s or 2m, of at most 10m",
        ),
        (
            "timeout: 500ms",
            "timeout: 11m",
            "tools[0] (search).timeout: must be a duration with its unit, such as 500ms, 10s or 2m, of at most 10m",
        ),
    ] {
        let found = after(from, to);
        assert!(
            found.iter().any(|e| e == error),
            "{from} -> {to}: {found:#?}"
        );
    }
}

#[test]
fn every_error_is_reported_in_one_run() {
    let yaml = "
other: 1
tools:
  - { name: a, description: d, inputSchema: { type: object }, request: { method: GETT, path: x } }
  - { name: a, description: d, inputSchema: { type: object }, request: { method: GET, path: / }, timeout: 1h }
  - 5
";
    assert_eq!(
        errors(yaml),
        [
            "unknown key `other`; known are `tools`",
            "tools[0] (a).request.method: must be GET, POST, PUT, PATCH or DELETE",
            "tools[0] (a).request.path: must start with `/`",
            "tools[1] (a).timeout: must be a duration with its unit, such as 500ms, 10s or 2m, of at most 10m",
            "tools[1] (a): name: `a` is declared twice; names must differ",
            "tools[2]: must be an object with `name`, `title`, `description`, `inputSchema`, `request`, `maxResultBytes`, `timeout`",
        ]
    );
}

#[test]
fn what_is_no_tools_file_at_all() {
    assert!(errors("tools: [")[0].starts_with("not valid YAML: "));
    assert!(errors("tools: []\ntools: []\n")[0].starts_with("not valid YAML: "));
    assert_eq!(errors("5"), ["must be an object with `tools`"]);
    assert_eq!(errors("{}"), ["tools: is missing; add it"]);
    assert_eq!(errors("tools: x"), ["tools: must be a list"]);
    assert_eq!(
        errors("tools: []"),
        ["tools: declares no tool; add one or leave TOOLS_FILE unset for the built-in one"]
    );
}

#[test]
fn schemas_load_nothing_from_elsewhere() {
    for reference in ["http://127.0.0.1:1/s.json", "file:///etc/passwd"] {
        let found = after(
            "q: { type: string }",
            &format!("q: {{ $ref: '{reference}' }}"),
        );
        assert!(
            found[0].contains("inputSchema: is not a JSON Schema"),
            "{found:?}"
        );
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in "[ a-z:{}\\[\\]\n'\"/%.0-9-]{0,120}") {
        drop(decode(&text));
        drop(decode(&TOOL.replace("/v1/{q}/find", &format!("'{}'", text.replace('\'', "")))));
    }
}
