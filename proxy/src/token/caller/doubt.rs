//! Whether refusals on behalf of callers may have their cause in the credential. `invalid_request` and `invalid_grant` are what a caller's bad token
//! gets, and what a wrong audience, scope or client gets for every caller; one refusal does not tell which, several people's without a success do.
//! Pure. It decides nothing: callers are answered the same.

use super::breaker::Who;
use crate::token::exchange::error::{CallerFault, ExchangeError, Fault};

/// So many people must have been refused, and nobody served in between.
const PEOPLE: usize = 3;

/// What was heard since a token was issued last.
#[derive(Debug, Default)]
pub struct Doubt {
    refused: [Option<Who>; PEOPLE],
    cause: Option<&'static str>,
}

impl Doubt {
    /// What came of an exchange for `who`.
    pub fn hear<T>(&mut self, who: Who, result: &Result<T, ExchangeError>) {
        let Err(error) = result else {
            *self = Self::default();
            return;
        };
        match error.fault() {
            // It says itself that it is.
            Fault::Pod => self.cause = Some(error.code()),
            Fault::Caller(CallerFault::Token) => {
                if !self.refused.contains(&Some(who))
                    && let Some(free) = self.refused.iter_mut().find(|r| r.is_none())
                {
                    *free = Some(who);
                }
                if self.refused.iter().all(Option::is_some) {
                    self.cause = Some(error.code());
                }
            }
            Fault::Caller(_) | Fault::Authority => {}
        }
    }

    /// The code of the refusals that are in doubt.
    pub const fn cause(&self) -> Option<&'static str> {
        self.cause
    }
}
