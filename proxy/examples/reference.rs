//! Prints the tables of configuration keys, environment variables and series that README.md holds between its markers:
//! `cargo run -q -p token-sidecar --example reference`.

use std::io::{self, Write as _};
use token_sidecar::{config, metrics};

fn main() -> io::Result<()> {
    let (keys, variables) = (config::keys_markdown(), config::environment_markdown());
    let series = metrics::reference::markdown();
    write!(
        io::stdout().lock(),
        "<!-- keys -->\n{keys}<!-- /keys -->\n\n<!-- variables -->\n{variables}<!-- /variables -->\n\n<!-- series -->\n{series}<!-- /series -->\n"
    )
}
