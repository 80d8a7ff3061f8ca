//! Readiness of this server: its tools are loaded and, if asked for, the backend answers.
//!
//! The backend is probed when `/readyz` or `/startupz` is asked, with a bound, at most once in five seconds.

use std::{sync::Arc, time::Duration};

use sidecar_runtime::readiness::{Condition, Readiness};
use tokio::{sync::Mutex, time::Instant};

use crate::backend::{Backend, BackendError};

const PROBE_LIMIT: Duration = Duration::from_secs(2);
const FRESH: Duration = Duration::from_secs(5);

/// The condition `backend` and what renews it.
#[derive(Debug, Clone)]
pub(crate) struct BackendCheck {
    backend: Backend,
    /// The condition, and when it was looked at last. Who holds the lock probes; the others wait for the outcome.
    state: Arc<Mutex<(Condition, Option<Instant>)>>,
}

impl BackendCheck {
    /// Registers the condition, pending until the first probe.
    pub(crate) fn new(backend: Backend, readiness: &Readiness) -> Self {
        Self {
            backend,
            state: Arc::new(Mutex::new((readiness.register("backend"), None))),
        }
    }

    /// Makes the condition current: probes the backend unless that was done a moment ago.
    pub(crate) async fn refresh(&self) {
        let mut state = self.state.lock().await;
        let (condition, probed) = &mut *state;
        if probed.is_some_and(|at| at.elapsed() < FRESH) {
            return;
        }
        match verdict(self.backend.probe(PROBE_LIMIT).await) {
            Ok(()) => condition.ready(),
            Err(reason) => condition.pending(reason),
        }
        *probed = Some(Instant::now());
    }
}

/// Below 500 somebody answers who could also say yes; 5xx is what a sidecar says without a token or an upstream.
fn verdict(probe: Result<http::StatusCode, BackendError>) -> Result<(), String> {
    match probe {
        Ok(status) if status.is_server_error() && status != http::StatusCode::NOT_IMPLEMENTED => {
            Err(format!("the backend answers {}", status.as_u16()))
        }
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn verdicts() {
        for status in [200, 302, 401, 404, 405, 501] {
            assert_eq!(verdict(Ok(StatusCode::from_u16(status).unwrap())), Ok(()));
        }
        let pending = Err("the backend answers 503".to_owned());
        assert_eq!(verdict(Ok(StatusCode::SERVICE_UNAVAILABLE)), pending);
        let pending = Err("the backend cannot be reached".to_owned());
        assert_eq!(verdict(Err(BackendError::Unreachable)), pending);
    }
}
