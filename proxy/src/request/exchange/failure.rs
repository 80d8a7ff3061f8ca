//! What a request that failed on its way is answered with: the cause, in the words of RFC 9209, and where there is one the limit that was reached.
//! Whether it may be tried once more is decided before.

use super::Exchange;
use crate::request::{
    body::{BodyError, Replayable},
    respond::Problem,
    send::SendError,
    upstream::CheckoutError,
};

impl Exchange<'_> {
    /// There was no connection to send it by.
    pub(super) fn unreachable(&self, error: CheckoutError) -> Problem {
        let params = &self.route.params.upstream;
        let origin = format!("{}:{}", params.host, params.port);
        match error {
            CheckoutError::Full => Problem::overloaded(),
            CheckoutError::Timeout => Problem::gateway_timeout(
                "connection_timeout",
                format!(
                    "no connection to {origin} within {:?}",
                    self.route.params.timeouts.connect
                ),
            ),
            CheckoutError::Handshake(error) => {
                tracing::debug!(error = %sidecar_runtime::telemetry::chain(&error), "handshake failed");
                Problem::bad_gateway(
                    "connection_terminated",
                    format!("{origin} closed the connection before HTTP began"),
                )
            }
            CheckoutError::Dial(error) => {
                let detail = sidecar_runtime::telemetry::chain(&error).to_string();
                match error.code() {
                    "destination_ip_prohibited" => Problem::address_forbidden(detail),
                    code @ "connection_timeout" => Problem::gateway_timeout(code, detail),
                    code => Problem::bad_gateway(code, detail),
                }
            }
        }
    }

    /// It was sent, or begun to be; `replay` is the handle to its body.
    pub(super) fn failed(&self, error: &SendError, replay: Option<&Replayable>) -> Problem {
        let timeouts = &self.route.params.timeouts;
        match replay.and_then(Replayable::failure) {
            Some(BodyError::TooLarge) => return Problem::body_too_large(),
            Some(BodyError::Workload) => {
                return Problem::malformed("the request body broke off or is malformed");
            }
            _ => {}
        }
        match error {
            SendError::Timeout if replay.is_none_or(Replayable::ended) => Problem::gateway_timeout(
                "http_response_timeout",
                format!("no response header within {:?}", timeouts.response_header),
            ),
            SendError::Timeout => Problem::gateway_timeout(
                "connection_write_timeout",
                format!(
                    "no byte of the request body moved within {:?}",
                    timeouts.idle
                ),
            ),
            SendError::NotSent(_) | SendError::Refused | SendError::Closed { .. } => {
                Problem::bad_gateway(
                    "connection_terminated",
                    "the upstream closed the connection before it answered; whether it acted on the request is unknown",
                )
            }
            SendError::Protocol(error) => {
                tracing::debug!(error = %sidecar_runtime::telemetry::chain(error), "bad answer");
                Problem::bad_gateway(
                    "http_protocol_error",
                    "the upstream's answer is not valid HTTP, or its header section is too large",
                )
            }
        }
    }
}
