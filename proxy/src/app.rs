//! The only file that knows both flows: build, bind, run, reload, stop.

use crate::config::{Config, ConfigErrors};

/// Reads the configuration anew, for a reload.
pub type Reload = Box<dyn Fn() -> Result<Config, ConfigErrors> + Send>;

/// Why the sidecar ended other than as asked.
#[derive(Debug, thiserror::Error)]
#[error("not wired up yet")]
pub struct AppError;

impl AppError {
    /// The process's exit code: 70 a fault in the sidecar, 71 the system refused something (an address, a thread), 128 plus the signal's
    /// number when a second signal cut requests short.
    pub fn exit_code(&self) -> u8 {
        70
    }
}

/// Runs the sidecar until it is told to stop.
///
/// # Errors
/// See [`AppError`].
pub fn run(_config: Config, _reload: Reload) -> Result<(), AppError> {
    Err(AppError)
}
