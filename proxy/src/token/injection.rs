//! How an issued token is put on requests: under which header name, behind which prefix. The value is built once, when the token is issued; the
//! request flow clones a reference to it. What a token is for is not decided here.

use super::exchange::{IssuedToken, TokenType, error::ExchangeError};
use http::{HeaderName, HeaderValue, header::AUTHORIZATION};
use zeroize::Zeroizing;

/// Where a credential's token goes on a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Injection {
    /// The field's name.
    pub header: HeaderName,
    /// What stands before the token, its space included: visible ASCII and spaces, perhaps nothing.
    pub prefix: String,
    /// What the authority must issue for it.
    pub token_type: TokenType,
}

impl Default for Injection {
    /// `Authorization: Bearer …` (RFC 6750 section 2.1).
    fn default() -> Self {
        Self {
            header: AUTHORIZATION,
            prefix: "Bearer ".to_owned(),
            token_type: TokenType::Bearer,
        }
    }
}

impl Injection {
    /// The field's value, marked sensitive.
    ///
    /// # Errors
    /// When the token is of a type that cannot be sent this way, or (which the checks of replies and configurations exclude) has characters
    /// that no header may carry.
    pub fn value(&self, issued: &IssuedToken) -> Result<HeaderValue, ExchangeError> {
        if issued.token_type != self.token_type {
            return Err(ExchangeError::local("token_type"));
        }
        let text = Zeroizing::new(format!("{}{}", self.prefix, *issued.token));
        let mut value = HeaderValue::from_str(&text).map_err(|_| ExchangeError::local("header"))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn issued(token: &str, token_type: TokenType) -> IssuedToken {
        IssuedToken {
            token: Zeroizing::new(token.to_owned()),
            token_type,
            lifetime: Duration::from_secs(60),
            refresh_in: None,
        }
    }

    #[test]
    fn the_value_is_prefixed_and_sensitive() {
        let value = Injection::default()
            .value(&issued("abc", TokenType::Bearer))
            .unwrap();
        assert_eq!(value, "Bearer abc");
        assert!(value.is_sensitive());
        let vault = Injection {
            header: HeaderName::from_static("x-vault-token"),
            prefix: String::new(),
            token_type: TokenType::Bearer,
        };
        assert_eq!(
            vault.value(&issued("abc", TokenType::Bearer)).unwrap(),
            "abc"
        );
    }

    #[test]
    fn a_token_of_another_type_is_never_sent() {
        for other in [TokenType::DPoP, TokenType::NotAccess] {
            let error = Injection::default()
                .value(&issued("abc", other))
                .unwrap_err();
            assert_eq!(error.code(), "token_type");
            assert!(!format!("{error:?}").contains("abc"));
        }
    }
}
