//! YAML as Kubernetes reads it: what scalars, anchors, merge keys and tags mean, where documents end, what is refused.

use super::*;
use serde_json::json;

#[test]
fn scalars_mean_what_kubectl_takes_them_for() {
    for (text, meant) in [
        ("0644", json!(420)),
        ("0o644", json!(420)),
        ("0x1F", json!(31)),
        ("-7", json!(-7)),
        ("+7", json!(7)),
        ("yes", json!(true)),
        ("off", json!(false)),
        ("~", json!(null)),
        ("1.5", json!(1.5)),
        ("1e3", json!(1000.0)),
        ("1.2.3", json!("1.2.3")),
        ("10m", json!("10m")),
        ("089", json!(89)),
        ("-c", json!("-c")),
        ("18446744073709551615", json!(u64::MAX)),
    ] {
        assert_eq!(resolve(text), meant, "{text}");
    }
    assert_eq!(
        value("a: \"0644\"\nb: !!str 1\nc: 'no'").unwrap(),
        json!({"a": "0644", "b": "1", "c": "no"})
    );
}

#[test]
fn documents_know_their_bounds() {
    let text = "# c\na: 1\n---\nb: 2\n...\n---\n# nothing\n---\nc: {d: [1, x]}\n";
    let documents = documents(text).unwrap();
    let parts: Vec<&str> = documents.iter().map(|d| &text[d.at.clone()]).collect();
    assert_eq!(
        parts,
        [
            "# c\na: 1\n",
            "---\nb: 2\n...\n",
            "---\n# nothing\n",
            "---\nc: {d: [1, x]}\n"
        ]
    );
    assert_eq!(
        documents[3].root.as_ref().unwrap().value(),
        json!({"c": {"d": [1, "x"]}})
    );
    assert_eq!(documents[3].line, 9);
}

#[test]
fn aliases_are_resolved_and_cannot_grow_without_bound() {
    assert_eq!(
        value("a: &x {b: 1}\nc: *x").unwrap(),
        json!({"a": {"b": 1}, "c": {"b": 1}})
    );
    let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for i in 1..9 {
        let many = vec![format!("*a{}", i - 1); 10].join(",");
        bomb.push_str(&format!("a{i}: &a{i} [{many}]\n"));
    }
    assert!(value(&bomb).unwrap_err().message.contains("a million"));
}

#[test]
fn merge_keys_merge_and_the_first_counts() {
    let text = "a: &a {x: 1, v: 1}\nb: &b {v: 2, z: 2}\nc:\n  <<: [*a, *b]\n  x: 3\nd: {<<: *b}\ne: {\"<<\": 1}\n";
    let value = value(text).unwrap();
    assert_eq!(value["c"], json!({"x": 3, "v": 1, "z": 2}));
    assert_eq!(value["d"], value["b"]);
    // In quotes it is a key like any other.
    assert_eq!(value["e"], json!({"<<": 1}));
}

#[test]
fn tags_of_yamls_own_say_what_a_value_is() {
    assert_eq!(
        value("{a: !!str 1, b: !!int \"5\", c: !!float 2, d: !!bool 'yes', e: !!null '', f: ! 7, g: !<tag:yaml.org,2002:str> no}").unwrap(),
        json!({"a": "1", "b": 5, "c": 2, "d": true, "e": null, "f": "7", "g": "no"})
    );
    assert_eq!(
        value("a: !!seq [1]\nb: !!map\n  c: 1").unwrap(),
        json!({"a": [1], "b": {"c": 1}})
    );
}

#[test]
fn a_block_scalar_ends_where_its_value_does() {
    for (text, rest) in [
        ("a: |\n  x\n\n\nb: 1\n", "\n\n\nb: 1\n"),
        ("a: |+\n  x\n\n\nb: 1\n", "\nb: 1\n"),
        ("a: |+\n\n\nb: 1\n", "\nb: 1\n"),
        ("a: >-\n  x\n  y\n\nb: 1\n", "\n\nb: 1\n"),
        ("a: |+\n  x", ""),
    ] {
        let documents = documents(text).unwrap();
        let Kind::Map { entries, .. } = &documents[0].root.as_ref().unwrap().kind else {
            panic!("no map");
        };
        let end = entries[0].node.end(text);
        assert_eq!(&text[end..], rest, "{text:?}");
    }
}

#[test]
fn what_is_not_supported_gives_its_place() {
    let error = |text: &str| {
        let e = value(text).unwrap_err();
        format!("{}:{}: {}", e.line, e.column, e.message)
    };
    let merged = "`<<` merges maps, and this is none; write `<<: *name` of an anchored map, or a list of such";
    assert_eq!(error("a:\n  <<: text"), format!("2:7: {merged}"));
    assert_eq!(error("a:\n  <<: [{b: 1}, c]"), format!("2:17: {merged}"));
    assert_eq!(
        error("a: &a {b: 1}\nc:\n  b: 2\n  <<: *a"),
        "4:7: `<<` merges the key b, which stands before it, and tools differ on which of the two counts; put `<<` first"
    );
    assert_eq!(
        error("<<: {a: 1}\n<<: {b: 1}"),
        "2:1: a key that is given twice in the same map; remove one"
    );
    assert_eq!(
        error("a: 1\na: 2"),
        "2:1: a key that is given twice in the same map; remove one"
    );
    let tag = |tag: &str| {
        format!(
            "the tag {tag} is not known, or the value is not of its kind; write the value without it (there are !!str, !!int, !!float, !!bool, !!null, !!map and !!seq)"
        )
    };
    assert_eq!(error("a: !x 1"), format!("1:7: {}", tag("!x")));
    assert_eq!(
        error("a: !!binary aGk="),
        format!("1:13: {}", tag("!!binary"))
    );
    assert_eq!(error("a: !!int x"), format!("1:10: {}", tag("!!int")));
    assert_eq!(error("a: !!map [1]"), format!("1:10: {}", tag("!!map")));
    assert_eq!(error("a: !set {b}"), format!("1:9: {}", tag("!set")));
    assert_eq!(error("? [a]\n: 1"), "1:5: a key must be text");
    assert_eq!(error("a: [1"), "1:4: not YAML: unclosed bracket '['");
    assert_eq!(error("a: 1\n---\nb: 1"), "3:1: a second document; give one");
}
