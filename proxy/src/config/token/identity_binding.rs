//! AKS identity bindings: the `AZURE_KUBERNETES_*` variables -> where the cluster's token proxy is, and which credentials ask it.

use super::super::{
    env,
    error::Place,
    fields::{Context, Fields},
    parse,
};
use crate::net::token_proxy::{Roots, TokenProxyParams};
use std::cell::OnceCell;

/// The values of `identityBinding`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// The token proxy is asked when the environment has one.
    Auto,
    /// It is asked, and must be there.
    Always,
    /// The authority is asked, whatever the environment says.
    Never,
}

/// What the environment says, read when a credential first wants to know, so that it is reported once.
pub(super) struct IdentityBinding<'a> {
    context: &'a Context<'a>,
    /// Outer `None`: it is wrong, and that was reported.
    environment: OnceCell<Option<Option<TokenProxyParams>>>,
}

impl<'a> IdentityBinding<'a> {
    pub(super) const fn new(context: &'a Context<'a>) -> Self {
        Self {
            context,
            environment: OnceCell::new(),
        }
    }

    /// For the credential of these fields: the token proxy to ask, if any. `None`: reported.
    pub(super) fn of(&self, fields: &Fields<'_>) -> Option<Option<TokenProxyParams>> {
        let mode = fields.value("identityBinding", |text| match text {
            "auto" => Ok(Mode::Auto),
            "always" => Ok(Mode::Always),
            "never" => Ok(Mode::Never),
            _ => Err("none of `auto`, `always` and `never`; write one of them".into()),
        })?;
        if mode == Mode::Never {
            return Some(None);
        }
        let found = self.environment.get_or_init(|| self.read()).clone()?;
        if found.is_none() && mode == Mode::Always {
            let message = format!(
                "`always`, but {} is not set; {}",
                env::TOKEN_PROXY,
                env::BINDING_MEND
            );
            fields.error("identityBinding", message);
            return None;
        }
        Some(found)
    }

    fn read(&self) -> Option<Option<TokenProxyParams>> {
        let variable = |name| self.context.variable(name);
        let error = |name, message: String| {
            self.context.problems.error(Place::Given(name), "", message);
        };
        let Some(url) = variable(env::TOKEN_PROXY) else {
            let sides = [
                env::TOKEN_PROXY_SNI,
                env::TOKEN_PROXY_CA_FILE,
                env::TOKEN_PROXY_CA_DATA,
            ];
            let Some(side) = sides.into_iter().find(|s| variable(s).is_some()) else {
                return Some(None);
            };
            let message = format!(
                "set without {}, which it is about; set both or neither: {}",
                env::TOKEN_PROXY,
                env::BINDING_MEND
            );
            error(side, message);
            return None;
        };
        let url = match parse::token_proxy(&url) {
            Ok(url) => Some(url),
            Err(message) => {
                error(env::TOKEN_PROXY, message);
                None
            }
        };
        let server_name = match variable(env::TOKEN_PROXY_SNI) {
            None => Some(None),
            Some(name) => match parse::host(&name) {
                Ok(name) => Some(Some(name)),
                Err(message) => {
                    error(env::TOKEN_PROXY_SNI, message);
                    None
                }
            },
        };
        let roots = match (
            variable(env::TOKEN_PROXY_CA_FILE),
            variable(env::TOKEN_PROXY_CA_DATA),
        ) {
            (None, None) => Roots::System,
            (Some(file), None) => Roots::File(file.into()),
            (None, Some(pem)) => Roots::Pem(pem),
            (Some(_), Some(_)) => {
                let message = format!(
                    "stands beside {}; set one of them",
                    env::TOKEN_PROXY_CA_FILE
                );
                error(env::TOKEN_PROXY_CA_DATA, message);
                return None;
            }
        };
        Some(Some(TokenProxyParams {
            url: url?,
            server_name: server_name?,
            roots,
        }))
    }
}
