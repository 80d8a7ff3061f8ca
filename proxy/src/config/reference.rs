//! The reference of keys and of environment variables, as Markdown tables: what the README shows, and a test compares.

use super::{
    env,
    keys::{KEYS, Key, Presence},
};

/// Every key of the configuration file.
pub fn reference() -> &'static [Key] {
    KEYS
}

/// The keys as a Markdown table.
pub fn keys_markdown() -> String {
    let mut out = String::from("| key | value | default | |\n| --- | --- | --- | --- |\n");
    for key in KEYS {
        let default = match key.presence {
            Presence::Required => "required".to_owned(),
            Presence::Optional => String::new(),
            Presence::Default(text) => format!("`{text}`"),
            Presence::Variable(variable) => format!("`${variable}`"),
            Presence::VariableOr(variable, text) => format!("`${variable}`, else `{text}`"),
        };
        out.push_str(&format!(
            "| `{}` | {} | {default} | {} |\n",
            key.path, key.kind, key.help
        ));
    }
    out
}

/// The environment variables as a Markdown table.
pub fn environment_markdown() -> String {
    let mut out = String::from("| variable | |\n| --- | --- |\n");
    for variable in env::VARIABLES {
        out.push_str(&format!("| `{}` | {} |\n", variable.name, variable.help));
    }
    out
}
