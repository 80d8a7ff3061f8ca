//! Prints the tables that README.md, proxy/README.md and charts/README.md hold between their markers: configuration keys, environment variables, series, keys of
//! profiles, annotations, codes. `cargo run -q -p token-sidecar --example reference`. With `commands`: each command that the doctor can print, one a line.

use std::io::{self, Write as _};
use token_sidecar::{
    config::{self, profiles},
    doctor,
    metrics::reference,
};

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    if std::env::args().nth(1).as_deref() == Some("commands") {
        for command in doctor::every_command() {
            writeln!(out, "{command}")?;
        }
        return Ok(());
    }
    for (name, table) in [
        ("keys", config::keys_markdown()),
        ("variables", config::environment_markdown()),
        ("series", reference::markdown()),
        ("profile-keys", profiles::profile_keys_markdown()),
        ("annotations", profiles::annotations_markdown()),
        ("webhook-series", reference::webhook_markdown()),
        ("codes", doctor::reference::codes_markdown()),
    ] {
        write!(out, "<!-- {name} -->\n{table}<!-- /{name} -->\n\n")?;
    }
    Ok(())
}
