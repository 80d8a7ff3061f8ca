//! Manifests as they are found (`tests/samples/manifests`): each goes in, in again and out, by several profiles, and comes back to the byte.

use super::{inject_with, unified, uninject, yaml};
use crate::admission::{profile::Profile, tests};
use std::{collections::BTreeMap, path::Path};

/// Every manifest, by its name.
pub(super) fn manifests() -> BTreeMap<String, String> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/samples/manifests");
    std::fs::read_dir(dir)
        .unwrap()
        .map(|file| {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect()
}

fn profiles() -> [Profile; 3] {
    [
        tests::projected(),
        tests::profile(),
        Profile {
            native: false,
            ..tests::profile()
        },
    ]
}

#[test]
fn every_one_comes_back_to_the_byte() {
    let all = manifests();
    assert!(all.len() > 30, "{}", all.len());
    for (name, text) in &all {
        for profile in profiles() {
            // Jobs and their like have no ordinary sidecar.
            if !profile.native && ["job.yaml", "cronjob.yaml"].contains(&name.as_str()) {
                continue;
            }
            let once = inject_with(text, profile.clone())
                .unwrap_or_else(|e| panic!("{name}: {}", e.join("\n")));
            assert_ne!(&once.text, text, "{name}");
            for said in ["anew", "keep the file"] {
                let found = once.notes.iter().find(|n| n.contains(said));
                assert_eq!(found, None, "{name}:\n{}", once.text);
            }
            let twice = inject_with(&once.text, profile).unwrap();
            assert_eq!(
                unified(&once.text, &twice.text, name),
                "",
                "in again is not the same"
            );
            let back = uninject(&once.text);
            assert_eq!(unified(text, &back, name), "", "from:\n{}", once.text);
            assert_eq!(&back, text, "{name}");
        }
    }
}

#[test]
fn what_is_not_rewritten_stays_as_it_is_written() {
    for (name, text) in manifests() {
        // Here the workload loses a token, too.
        if name == "served-by-aks.yaml" {
            continue;
        }
        let done = inject_with(&text, tests::projected()).unwrap();
        let diff = unified(&text, &done.text, &name);
        let gone: Vec<&str> = diff
            .lines()
            .skip(2)
            .filter_map(|l| l.strip_prefix('-'))
            .collect();
        // What is empty gets something in it.
        let filled = ["null", "~", "[]", "[ ]"];
        let gone = gone
            .iter()
            .filter(|l| !filled.iter().any(|f| l.ends_with(f)));
        // A line or two for each URL; in flow style and JSON that is more of the text.
        let most = text.matches("BACKEND_API_URL").count() * 4;
        assert!(gone.count() <= most, "{name}: {diff}");
        let comments = |text: &str| {
            text.lines()
                .filter(|l| l.trim_start().starts_with('#'))
                .count()
        };
        assert!(
            comments(&done.text) >= comments(&text),
            "{name}: a comment is lost: {diff}"
        );
    }
}

#[test]
fn the_meaning_is_that_of_the_value_injected() {
    for (name, text) in manifests() {
        let done = inject_with(&text, tests::projected()).unwrap();
        // Written anew in block style and injected there: another way to the same values.
        let plain = |text: &str| -> Vec<_> {
            let documents = yaml::documents(text).unwrap();
            documents
                .iter()
                .filter_map(|d| Some(d.root.as_ref()?.value()))
                .collect()
        };
        let anew: String = plain(&text)
            .iter()
            .map(|v| super::emit::document("---\n", v))
            .collect();
        let mut expected = plain(&inject_with(&anew, tests::projected()).unwrap().text);
        let mut found = plain(&done.text);
        // How the text was written is no part of what it means.
        for value in expected.iter_mut().chain(&mut found) {
            super::each(value, |object| {
                for pod in super::pods(object) {
                    let path = format!("{pod}/metadata/annotations");
                    let annotations = object.pointer_mut(&path);
                    if let Some(status) = annotations.and_then(|a| a.get_mut(super::STATUS)) {
                        let mut read = super::Status::parse(status.as_str().unwrap()).unwrap();
                        read.style = None;
                        *status = read.text().into();
                    }
                }
            });
        }
        assert_eq!(found, expected, "{name}");
    }
}

/// Somebody works on a manifest that has the sidecar: then the text is what can be had of the values.
#[test]
fn a_manifest_that_was_changed_means_the_same_without_the_sidecar() {
    for name in [
        "rewritten-block-scalars.yaml",
        "value-from.yaml",
        "anchors.yaml",
    ] {
        let text = manifests().remove(name).unwrap();
        let once = inject_with(&text, tests::projected()).unwrap().text;
        let changed = |text: &str| text.replacen("name: orders", "name: orders-2", 1);
        assert_ne!(changed(&once), once, "{name}");
        let action = super::Action::Uninject;
        let back = super::apply(&changed(&once), "m.yaml", action).unwrap();
        assert!(
            back.notes
                .iter()
                .any(|n| n.contains("come back in another style")),
            "{:?}",
            back.notes
        );
        assert_eq!(
            yaml::value(&back.text).unwrap(),
            yaml::value(&changed(&text)).unwrap(),
            "{name}"
        );
    }
}
