//! What a pod asks for: the label and annotations `token-sidecar.io/…`. Every one that is not known, or whose value is not right, is a problem:
//! a slip must not mean "as if it were not there".

use super::{image::image, patch::entries, problems::Problems, resources, status::MAX_TEXT, yaml};
use serde_json::{Map, Value};
use sidecar_runtime::suggest;

/// What our labels and annotations begin with.
pub(super) const PREFIX: &str = "token-sidecar.io/";
/// The annotation in which injection remembers what it did.
pub(super) const STATUS: &str = "token-sidecar.io/status";
/// The label of pods that have the sidecar, for selectors.
pub(super) const INJECTED: &str = "token-sidecar.io/injected";

/// The annotations that pods use, without prefix, and what each means.
pub const ANNOTATIONS: &[(&str, &str)] = &[
    (
        "inject",
        "`\"true\"`: inject; `\"false\"`: leave alone. Also as a label, which selectors can see.",
    ),
    ("profile", "The profile's name. Without it: `default`."),
    (
        "credentials",
        "YAML or JSON as under `credentials` of the configuration file; added to the profile's, by name.",
    ),
    (
        "routes",
        "YAML or JSON as under `routes` of the configuration file; added to the profile's.",
    ),
    ("image", "The sidecar's image."),
    (
        "resources",
        "YAML or JSON such as `{requests: {cpu: 20m}, limits: {memory: 64Mi}}`; laid over the profile's, whose requests it lowers to its limits.",
    ),
    ("log-level", "The sidecar's log level."),
    (
        "native",
        "`\"true\"`: a native sidecar; `\"false\"`: an ordinary container, for Kubernetes before 1.29.",
    ),
    ("port", "The sidecar's first listener on localhost."),
    ("admin-port", "The sidecar's port of probes and metrics."),
];

/// What a pod asks for.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Wish {
    pub(super) inject: Option<bool>,
    pub(super) profile: Option<String>,
    pub(super) credentials: Map<String, Value>,
    pub(super) routes: Vec<Value>,
    pub(super) image: Option<String>,
    pub(super) resources: Option<Map<String, Value>>,
    pub(super) log_level: Option<String>,
    pub(super) native: Option<bool>,
    pub(super) port: Option<u16>,
    pub(super) admin_port: Option<u16>,
    /// The annotations that are there, without prefix.
    pub(super) given: Vec<&'static str>,
}

impl Wish {
    /// Reads a pod's (or pod template's) `metadata`. What is wrong goes into `problems`.
    pub(super) fn read(metadata: &Value, problems: &mut Problems) -> Self {
        let mut wish = Self::default();
        let nothing = Map::new();
        for (key, value) in entries(metadata, "labels").unwrap_or(&nothing) {
            match key.strip_prefix(PREFIX) {
                Some("inject") => wish.asked(&format!("label {key}"), value, problems),
                None | Some("injected") => {}
                Some(_) => problems.push(format!("label {} is not known; labels are `{PREFIX}inject` and `{INJECTED}`, everything else is an annotation", shown(key))),
            }
        }
        for (key, value) in entries(metadata, "annotations").unwrap_or(&nothing) {
            let Some(name) = key.strip_prefix(PREFIX) else {
                continue;
            };
            if key == STATUS {
                continue;
            }
            let Some((name, _)) = ANNOTATIONS.iter().find(|(known, _)| *known == name) else {
                let hint = suggest::hint(name, ANNOTATIONS.iter().map(|(known, _)| *known));
                problems.push(format!("annotation {} is not known{hint}", shown(key)));
                continue;
            };
            wish.given.push(name);
            if *name == "inject" {
                wish.asked(&format!("annotation {key}"), value, problems);
                continue;
            }
            match value.as_str() {
                None => problems.push(format!(
                    "annotation {key} is not text; put its value in quotes"
                )),
                Some(text) => {
                    if let Err(problem) = wish.set(name, text) {
                        problems.push(format!("annotation {key}: {problem}"));
                    }
                }
            }
        }
        wish
    }

    /// A "no" wins over a "yes".
    fn asked(&mut self, place: &str, value: &Value, problems: &mut Problems) {
        match value.as_str() {
            Some("true") => self.inject = Some(self.inject.unwrap_or(true)),
            Some("false") => self.inject = Some(false),
            _ => problems.push(format!(
                "{place} is neither \"true\" nor \"false\"; write one of them, in quotes"
            )),
        }
    }

    fn set(&mut self, name: &str, text: &str) -> Result<(), String> {
        if text.len() > MAX_TEXT {
            return Err("larger than annotations may be (256 KiB); make it smaller".into());
        }
        match name {
            "profile" => self.profile = Some(word(text)?),
            "image" => self.image = Some(image(text)?),
            "log-level" => {
                sidecar_runtime::telemetry::check_level(text).map_err(|e| e.to_string())?;
                self.log_level = Some(text.to_owned());
            }
            "native" => {
                self.native = Some(match text {
                    "true" => true,
                    "false" => false,
                    _ => return Err("neither \"true\" nor \"false\"; write one of them".into()),
                });
            }
            "port" => self.port = Some(port(text)?),
            "admin-port" => self.admin_port = Some(port(text)?),
            "credentials" => match parsed(text)? {
                Value::Object(map) => self.credentials = map,
                _ => {
                    return Err(
                        "not a map; write `NAME: {entraClientAssertion: {scope: …}}`".into(),
                    );
                }
            },
            "routes" => match parsed(text)? {
                Value::Array(items) => self.routes = items,
                _ => {
                    return Err(
                        "not a list; write `[{name: …, upstream: …, credential: …}]`".into(),
                    );
                }
            },
            _ => self.resources = Some(resources::read(&parsed(text)?)?),
        }
        Ok(())
    }
}

fn parsed(text: &str) -> Result<Value, String> {
    yaml::value(text).map_err(|e| {
        let mend = match e.message.starts_with("not YAML: ") {
            true => "; correct it there, or write JSON",
            false => "",
        };
        format!("line {}, column {}: {}{mend}", e.line, e.column, e.message)
    })
}

fn word(text: &str) -> Result<String, String> {
    if text.is_empty() {
        Err("empty; write one, or remove the annotation".into())
    } else if !text.is_empty() && text.len() <= 512 && text.chars().all(|c| c.is_ascii_graphic()) {
        Ok(text.to_owned())
    } else {
        Err("not a single word of visible ASCII; remove spaces".into())
    }
}

fn port(text: &str) -> Result<u16, String> {
    text.parse()
        .ok()
        .filter(|p| *p >= 1024)
        .ok_or_else(|| "not a port from 1024 to 65535; write one in digits".into())
}

/// Text of the user's for a message.
pub(super) fn shown(text: &str) -> String {
    shown_chars(text).collect()
}

/// As [`shown`], char by char.
pub(super) fn shown_chars(text: &str) -> impl Iterator<Item = char> {
    let more = text.chars().nth(96).map(|_| '…');
    let start = text.chars().take(96).flat_map(char::escape_debug);
    start.chain(more)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(metadata: &Value) -> Result<Wish, Vec<String>> {
        let mut problems = Problems::default();
        let wish = Wish::read(metadata, &mut problems);
        if problems.is_empty() {
            Ok(wish)
        } else {
            Err(problems.into_lines())
        }
    }

    #[test]
    fn every_annotation_is_read() {
        let wish = read(&json!({
            "labels": {"app": "web", "token-sidecar.io/inject": "true"},
            "annotations": {
                "token-sidecar.io/profile": "arm",
                "token-sidecar.io/credentials": "arm: {entraClientAssertion: {scope: x/.default}}",
                "token-sidecar.io/routes": "[{\"name\": \"a\"}]",
                "token-sidecar.io/image": "r/i:1",
                "token-sidecar.io/resources": "limits: {memory: 64Mi}",
                "token-sidecar.io/log-level": "debug",
                "token-sidecar.io/native": "false",
                "token-sidecar.io/port": "8180",
                "token-sidecar.io/admin-port": "9190",
            }
        }))
        .unwrap();
        let expected = Wish {
            inject: Some(true),
            profile: Some("arm".into()),
            credentials: json!({"arm": {"entraClientAssertion": {"scope": "x/.default"}}})
                .as_object()
                .unwrap()
                .clone(),
            routes: vec![json!({"name": "a"})],
            image: Some("r/i:1".into()),
            resources: json!({"limits": {"memory": "64Mi"}}).as_object().cloned(),
            log_level: Some("debug".into()),
            native: Some(false),
            port: Some(8180),
            admin_port: Some(9190),
            given: vec![
                "admin-port",
                "credentials",
                "image",
                "log-level",
                "native",
                "port",
                "profile",
                "resources",
                "routes",
            ],
        };
        assert_eq!(wish, expected);
        assert_eq!(
            ANNOTATIONS.len(),
            wish.given.len() + 1,
            "an annotation that this test does not know"
        );
    }

    #[test]
    fn a_no_wins() {
        for (label, annotation, asked) in [
            (json!("true"), json!("false"), Some(false)),
            (json!("false"), json!("true"), Some(false)),
            (json!("true"), json!("true"), Some(true)),
        ] {
            let metadata = json!({"labels": {"token-sidecar.io/inject": label}, "annotations": {"token-sidecar.io/inject": annotation}});
            assert_eq!(read(&metadata).unwrap().inject, asked);
        }
        assert_eq!(
            read(&json!({"labels": null, "name": "x"})).unwrap().inject,
            None
        );
    }

    #[test]
    fn slips_are_named() {
        let problems = read(&json!({
            "labels": {"token-sidecar.io/inject": true, "token-sidecar.io/profile": "x"},
            "annotations": {
                "token-sidecar.io/profil": "x",
                "token-sidecar.io/log_level": "x",
                "token-sidecar.io/zzz": "x",
                "token-sidecar.io/native": "yes",
                "token-sidecar.io/port": "80",
                "token-sidecar.io/image": 7,
                "token-sidecar.io/routes": "a: [",
                "token-sidecar.io/log-level": "loud",
                "other.io/inject": "x",
            }
        }))
        .unwrap_err();
        let expected = [
            "label token-sidecar.io/inject is neither \"true\" nor \"false\"; write one of them, in quotes",
            "label token-sidecar.io/profile is not known; labels are `token-sidecar.io/inject` and `token-sidecar.io/injected`, everything else is an annotation",
            "annotation token-sidecar.io/image is not text; put its value in quotes",
            "annotation token-sidecar.io/log-level: `loud` is not a log level; use trace, debug, info, warn, error or off, alone or as target=level, separated by commas, such as `token_sidecar=debug,info`",
            "annotation token-sidecar.io/log_level is not known; did you mean `log-level`?",
            "annotation token-sidecar.io/native: neither \"true\" nor \"false\"; write one of them",
            "annotation token-sidecar.io/port: not a port from 1024 to 65535; write one in digits",
            "annotation token-sidecar.io/profil is not known; did you mean `profile`?",
            "annotation token-sidecar.io/routes: line 1, column 4: not YAML: unclosed bracket '['; correct it there, or write JSON",
            "annotation token-sidecar.io/zzz is not known; known here: inject, profile, credentials, routes, image, resources, log-level, native, port, admin-port",
        ];
        assert_eq!(problems, expected);
    }
}
