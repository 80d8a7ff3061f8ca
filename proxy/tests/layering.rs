//! The repository's shape, held by reading its sources and asking cargo: imports point one way, the environment is read in one place, files
//! say what they are and stay small, and no program links what it must not be able to use.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

/// The modules of `proxy/src`, lowest first; a module may use those of lower rank, and itself.
const RANKS: &[(&str, u8)] = &[
    ("metrics", 0),
    ("net", 1),
    ("token", 2),
    ("request", 3),
    ("admission", 3),
    ("config", 4),
    ("app", 5),
    ("doctor", 5),
    ("cli", 6),
    ("main", 7),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .unwrap()
}

/// Every `.rs` file under `dir` with its path relative to it.
fn sources(dir: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(current) = pending.pop() {
        for entry in std::fs::read_dir(&current).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
                found.insert(name, std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    assert!(!found.is_empty(), "{} has no sources", dir.display());
    found
}

/// The text without comments and without what is between quotes, line ends kept. Good enough for Rust that rustfmt has seen.
fn code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skip = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |i| i + 2)
        } else if let Some(raw) = raw_string(rest) {
            raw
        } else if c == '"' {
            quoted(rest)
        } else if rest.starts_with("'\"'") {
            3
        } else if rest.starts_with("'\\\"'") || rest.starts_with("'\\''") {
            4
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        out.extend(rest[..skip].chars().filter(|c| *c == '\n'));
        rest = &rest[skip..];
    }
    out
}

/// The length of the raw string that `text` begins with.
fn raw_string(text: &str) -> Option<usize> {
    let after = text.strip_prefix("br").or_else(|| text.strip_prefix('r'))?;
    let hashes = after.bytes().take_while(|b| *b == b'#').count();
    let body = after[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let start = text.len() - body.len();
    Some(
        body.find(&end)
            .map_or(text.len(), |i| start + i + end.len()),
    )
}

/// The length of the string that `text` begins with.
fn quoted(text: &str) -> usize {
    let mut escaped = false;
    for (i, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return i + 1,
            _ => {}
        }
    }
    text.len()
}

/// The code of a file without its inline test module, which comes last.
fn without_tests(code: &str) -> &str {
    code.find("#[cfg(test)]\nmod tests {")
        .map_or(code, |i| &code[..i])
}

fn is_test_file(name: &str) -> bool {
    name.split('/')
        .any(|part| part.trim_end_matches(".rs").ends_with("tests"))
}

/// The top modules that a file of module `own` names: after `crate::` (trees in braces included), or after `super::` from the crate's second level.
fn imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        collect(code[at + "crate::".len()..].trim_start(), &mut found);
    }
    found
}

/// The first segments of a path, or of each branch of a tree in braces.
fn collect(path: &str, found: &mut BTreeSet<String>) {
    let Some(tree) = path.strip_prefix('{') else {
        let end = path
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(path.len());
        found.insert(path[..end].to_owned());
        return;
    };
    let mut depth = 0usize;
    let mut at_start = true;
    for (i, c) in tree.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return,
            '}' => depth -= 1,
            ',' if depth == 0 => at_start = true,
            c if at_start && depth == 0 && !c.is_whitespace() => {
                at_start = false;
                collect(&tree[i..], found);
            }
            _ => {}
        }
    }
}

fn rank(module: &str) -> Option<u8> {
    RANKS.iter().find(|(m, _)| *m == module).map(|(_, r)| *r)
}

/// What is wrong with the direction of a file's imports.
fn misdirected(name: &str, text: &str) -> Vec<String> {
    let own = name.split(['/', '.']).next().unwrap();
    let own = own.strip_suffix("_tests").unwrap_or(own);
    if own == "lib" {
        return Vec::new();
    }
    let Some(own_rank) = rank(own) else {
        return vec![format!("{name}: `{own}` has no rank; add it to RANKS")];
    };
    let mut wrong = Vec::new();
    for import in imports(&code(text)) {
        match rank(&import) {
            _ if import == own => {}
            None => wrong.push(format!(
                "{name}: uses `crate::{import}`, which has no rank; name the module it comes from"
            )),
            Some(r) if r >= own_rank => wrong.push(format!(
                "{name}: `{own}` uses `{import}`, which is not below it"
            )),
            Some(_) => {}
        }
    }
    wrong
}

#[test]
fn imports_point_one_way() {
    let wrong: Vec<String> = sources(&root().join("proxy/src"))
        .iter()
        .flat_map(|(n, t)| misdirected(n, t))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_check_of_imports_can_fail() {
    assert_eq!(
        misdirected("net/dial.rs", "use crate::token::slot::Slot;"),
        ["net/dial.rs: `net` uses `token`, which is not below it"]
    );
    assert_eq!(
        misdirected(
            "request.rs",
            "use crate::{\n    metrics::request,\n    config::{Config, env},\n};"
        ),
        ["request.rs: `request` uses `config`, which is not below it"]
    );
    assert_eq!(
        misdirected("request/a.rs", "fn f() -> crate::app::X {}"),
        ["request/a.rs: `request` uses `app`, which is not below it"]
    );
    assert_eq!(
        misdirected("new.rs", ""),
        ["new.rs: `new` has no rank; add it to RANKS"]
    );
    assert_eq!(
        misdirected("request/a.rs", "use crate::admission::X;"),
        ["request/a.rs: `request` uses `admission`, which is not below it"]
    );
    assert_eq!(
        misdirected(
            "token.rs",
            "use crate::{net::tls, token::slot}; // crate::app\nconst A: &str = \"crate::app\";"
        ),
        [""; 0]
    );
}

#[test]
fn super_paths_stay_inside_their_module() {
    let mut wrong = Vec::new();
    for (name, text) in sources(&root().join("proxy/src")) {
        // A file `a/b.rs` reaches the crate's root with `super::super::`, `a.rs` with `super::`; one more for an inline module of tests.
        // A file `x_tests.rs` is the module `tests` of `x.rs`, and so one deeper than its place says.
        let depth = name.matches('/').count() + 1 + usize::from(name.ends_with("_tests.rs"));
        let code = code(&text);
        let body = without_tests(&code);
        if body.contains(&"super::".repeat(depth)) || code.contains(&"super::".repeat(depth + 1)) {
            wrong.push(name);
        }
    }
    assert!(
        wrong.is_empty(),
        "these reach the crate's root with `super::`; write `crate::`, which the layering test reads: {wrong:?}"
    );
}

#[test]
fn the_environment_is_read_in_one_place() {
    let root = root();
    let mut readers = Vec::new();
    for dir in ["proxy/src", "proxy/runtime/src", "server/src"] {
        for (name, text) in sources(&root.join(dir)) {
            let code = code(&text);
            if ["env::var", "env::vars", "env::var_os", "env::vars_os"]
                .iter()
                .any(|f| code.contains(f))
            {
                readers.push(format!("{dir}/{name}"));
            }
        }
    }
    let unexpected: Vec<_> = readers
        .iter()
        .filter(|r| {
            ![
                "proxy/src/cli.rs",
                "server/src/main.rs",
                "server/src/env.rs",
            ]
            .contains(&r.as_str())
        })
        .collect();
    assert!(
        unexpected.is_empty(),
        "hand them a closure instead: {unexpected:?}"
    );
    assert!(
        readers.contains(&"proxy/src/cli.rs".to_owned()),
        "nobody reads the environment any more: {readers:?}"
    );
}

#[test]
fn main_and_cli_know_no_http() {
    let sources = sources(&root().join("proxy/src"));
    for name in ["main.rs", "cli.rs"] {
        let code = code(&sources[name]);
        for word in ["hyper", "http::", "http_body", "rustls", "reqwest"] {
            assert!(!code.contains(word), "{name} mentions {word}");
        }
    }
    assert!(
        sources["main.rs"].lines().count() <= 120,
        "main.rs is longer than 120 lines"
    );
}

#[test]
fn every_file_says_what_it_is_and_is_small() {
    let root = root();
    let mut wrong = Vec::new();
    for dir in [
        "proxy/src",
        "proxy/tests",
        "proxy/benches",
        "proxy/examples",
        "proxy/allocator/src",
        "proxy/runtime/src",
        "server/src",
        "tests/src",
        "tests/it",
    ] {
        for (name, text) in sources(&root.join(dir)) {
            if !text.starts_with("//! ") {
                wrong.push(format!(
                    "{dir}/{name} does not begin with `//!` and what it is"
                ));
            }
            let lines = body_lines(&text);
            if lines > 500 && !is_test_file(&name) && !["proxy/tests", "tests/it"].contains(&dir) {
                wrong.push(format!(
                    "{dir}/{name} has {lines} lines without its tests; split it at 500"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// How long a file is without its inline test module.
fn body_lines(text: &str) -> usize {
    without_tests(text).lines().count()
}

#[test]
fn the_readers_of_code_read_code() {
    assert_eq!(code("a // b\nc /* d\n */ e"), "a \nc \n e");
    assert_eq!(
        code(r####"x("a\"b", r#"c"d"#, '"', 'e')"####),
        "x(, , , 'e')"
    );
    assert_eq!(body_lines("a\nb\n#[cfg(test)]\nmod tests {\n x\n}\n"), 2);
    assert!(
        is_test_file("config/tests/refusals.rs")
            && is_test_file("request/guard_tests.rs")
            && !is_test_file("request/guard.rs")
    );
}

/// The packages that `package` links when it is built as a program (normal dependencies, this workspace's features).
fn linked(package: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--locked",
            "-p",
            package,
            "-e",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let names: BTreeSet<String> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter_map(|l| l.split(' ').next().map(str::to_owned))
        .collect();
    assert!(
        names.contains("tokio"),
        "cargo tree said nothing usable: {names:?}"
    );
    names
}

#[test]
fn the_server_cannot_speak_tls_and_knows_no_identity() {
    let linked = linked("mcp-server");
    let forbidden: Vec<_> = linked
        .iter()
        .filter(|n| {
            n.starts_with("azure_")
                || n.starts_with("typespec")
                || [
                    "rustls",
                    "tokio-rustls",
                    "native-tls",
                    "openssl",
                    "openssl-sys",
                    "aws-lc-rs",
                    "aws-lc-sys",
                    "ring",
                    "webpki",
                    "boring",
                    "reqwest",
                    "oauth2",
                    "token-sidecar",
                    "harness",
                ]
                .contains(&n.as_str())
                || n.starts_with("rustls-")
        })
        .collect();
    assert!(forbidden.is_empty(), "mcp-server links {forbidden:?}");
}

#[test]
fn the_sidecar_links_one_tls_one_http_and_no_test_code() {
    let linked = linked("token-sidecar");
    for needed in ["rustls", "aws-lc-rs", "azure_identity", "hyper"] {
        assert!(
            linked.contains(needed),
            "token-sidecar no longer links {needed}: is this check still looking at the right thing?"
        );
    }
    for forbidden in [
        "harness",
        "mcp-server",
        "rmcp",
        "rcgen",
        "jsonwebtoken",
        "proptest",
        "ring",
        "native-tls",
        "openssl",
        "reqwest",
        "ureq",
        "curl",
        "isahc",
    ] {
        assert!(
            !linked.contains(forbidden),
            "token-sidecar links {forbidden}"
        );
    }
}

#[test]
fn every_package_takes_the_workspaces_lints() {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--offline",
            "--locked",
            "--no-deps",
            "--format-version",
            "1",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() >= 4);
    for package in packages {
        let manifest = std::fs::read_to_string(package["manifest_path"].as_str().unwrap()).unwrap();
        let own_lints = !manifest.contains("[lints]\nworkspace = true");
        assert_eq!(
            own_lints,
            package["name"] == "sidecar-allocator",
            "{} has lints of its own, or has lost them",
            package["name"]
        );
        assert_eq!(
            package["publish"],
            Value::Array(vec![]),
            "{} could be published",
            package["name"]
        );
    }
}

/// The workspace's lints forbid `unsafe`; the one crate without them has one call in one file.
#[test]
fn one_call_is_unsafe() {
    let allocator = sources(&root().join("proxy/allocator/src"));
    let blocks: Vec<_> = allocator
        .iter()
        .map(|(name, text)| (name.as_str(), code(text).matches("unsafe {").count()))
        .collect();
    assert_eq!(blocks, [("lib.rs", 1)]);
}
