//! Prints the tables that README.md and proxy/README.md hold between their markers: configuration keys, environment variables, series, keys of
//! profiles, annotations. `cargo run -q -p token-sidecar --example reference`.

use std::io::{self, Write as _};
use token_sidecar::{
    config::{self, profiles},
    metrics::reference,
};

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    for (name, table) in [
        ("keys", config::keys_markdown()),
        ("variables", config::environment_markdown()),
        ("series", reference::markdown()),
        ("profile-keys", profiles::profile_keys_markdown()),
        ("annotations", profiles::annotations_markdown()),
        ("webhook-series", reference::webhook_markdown()),
    ] {
        write!(out, "<!-- {name} -->\n{table}<!-- /{name} -->\n\n")?;
    }
    Ok(())
}
