//! The tables of README.md, proxy/README.md and charts/README.md (keys, environment variables, series, annotations, codes) say what the code does. `cargo run -q -p
//! token-sidecar --example reference` prints them.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use std::path::Path;
use token_sidecar::{config, doctor::reference, metrics};

/// What stands between the markers `<!-- NAME -->` and `<!-- /NAME -->`, each of which must be there once.
fn between<'t>(text: &'t str, name: &str) -> Result<&'t str, String> {
    let (open, close) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    match (text.matches(&open).count(), text.matches(&close).count()) {
        (1, 1) => text
            .split_once(&open)
            .and_then(|(_, rest)| rest.split_once(&close))
            .map(|(table, _)| table)
            .ok_or_else(|| format!("the markers of `{name}` are the wrong way round")),
        _ => Err(format!(
            "`<!-- {name} -->` and `<!-- /{name} -->` must be there once, each on a line of its own"
        )),
    }
}

/// The first difference between the table that stands there and the one the code gives.
fn difference(text: &str, name: &str, expected: &str) -> Option<String> {
    let found = match between(text, name) {
        Ok(found) => found.trim(),
        Err(e) => return Some(e),
    };
    if found == expected.trim() {
        return None;
    }
    let (mut ours, mut theirs) = (expected.trim().lines(), found.lines());
    loop {
        match (ours.next(), theirs.next()) {
            (a, b) if a == b && a.is_some() => {}
            (a, b) => return Some(format!("table `{name}`: expected {a:?}, found {b:?}")),
        }
    }
}

/// What is wrong with a README's tables.
fn wrong(readme: &str, tables: &[(&str, String)]) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(readme);
    let text = std::fs::read_to_string(path).unwrap();
    tables
        .iter()
        .filter_map(|(name, expected)| difference(&text, name, expected))
        .collect()
}

#[test]
fn the_readmes_tables_are_the_codes() {
    let mut wrong = wrong(
        "../README.md",
        &[
            ("keys", config::keys_markdown()),
            ("variables", config::environment_markdown()),
            ("series", metrics::reference::markdown()),
        ],
    );
    wrong.extend(self::wrong(
        "README.md",
        &[
            ("profile-keys", config::profiles::profile_keys_markdown()),
            ("annotations", config::profiles::annotations_markdown()),
            ("webhook-series", metrics::reference::webhook_markdown()),
        ],
    ));
    wrong.extend(self::wrong(
        "../charts/README.md",
        &[("codes", reference::codes_markdown())],
    ));
    assert!(
        wrong.is_empty(),
        "{}\nPaste what `cargo run -q -p token-sidecar --example reference` prints.",
        wrong.join("\n")
    );
}

/// Whatever code somebody reads, at three in the morning, is in the guide.
#[test]
fn the_guide_names_every_code_and_no_other() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/README.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let named: std::collections::BTreeSet<&str> = guide
        .split_once("### Codes\n")
        .and_then(|(_, rest)| rest.split_once("\n## "))
        .map(|(section, _)| section)
        .unwrap()
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split(" | ").next())
        .flat_map(|cell| cell.split('`'))
        .collect();
    let missing: Vec<_> = reference::codes()
        .into_iter()
        .filter(|code| !named.contains(code))
        .collect();
    assert!(missing.is_empty(), "not in the guide's Codes: {missing:?}");
    let unsaid: Vec<_> = named
        .iter()
        .filter(|word| word.contains(|c: char| c.is_alphanumeric()))
        .filter(|word| !reference::codes().contains(word))
        .collect();
    assert!(unsaid.is_empty(), "nobody says these: {unsaid:?}");
}

#[test]
fn the_comparison_can_fail() {
    let table = |rows: &str| format!("x\n<!-- keys -->\n{rows}\n<!-- /keys -->\ny");
    assert_eq!(difference(&table("a\nb"), "keys", "a\nb\n"), None);
    assert_eq!(
        difference(&table("a\nc"), "keys", "a\nb\n"),
        Some("table `keys`: expected Some(\"b\"), found Some(\"c\")".into())
    );
    assert_eq!(
        difference(&table("a"), "keys", "a\nb\n"),
        Some("table `keys`: expected Some(\"b\"), found None".into())
    );
    assert_eq!(
        difference(&table("a\nb\nc"), "keys", "a\nb"),
        Some("table `keys`: expected None, found Some(\"c\")".into())
    );
    assert!(difference("none", "keys", "a").is_some());
}
