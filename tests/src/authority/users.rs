//! Tokens of users, as a client gets them for an API by signing somebody in: what a caller sends, and what is exchanged on their behalf.

use super::Authority;
use serde_json::json;
use std::time::Duration;

/// A signed-in user's access token.
#[derive(Debug, Clone)]
pub struct UserToken {
    /// Whose it is: `oid` and `sub`.
    pub user: String,
    /// `aud`: the API that it was made for, by its client id.
    pub audience: String,
    /// `scp`.
    pub scopes: String,
    /// Whether they signed in with a second factor.
    pub strong: bool,
    /// How long it lives; zero: it has expired already.
    pub lifetime: Duration,
}

impl Default for UserToken {
    fn default() -> Self {
        Self {
            user: "44444444-4444-4444-8444-444444444444".into(),
            audience: super::options::CLIENT.into(),
            scopes: "access_as_user".into(),
            strong: false,
            lifetime: Duration::from_secs(3600),
        }
    }
}

impl Authority {
    /// Signs a user in.
    pub fn user_token(&self, token: &UserToken) -> String {
        let tenant = self.shared.options().tenant.clone();
        let factors: &[&str] = if token.strong {
            &["pwd", "mfa"]
        } else {
            &["pwd"]
        };
        let claims = json!({
            "aud": token.audience,
            "oid": token.user,
            "sub": token.user,
            "tid": tenant,
            "scp": token.scopes,
            "amr": factors,
            "idtyp": "user",
            "ver": "2.0",
        });
        self.shared.access.issue(claims, token.lifetime)
    }

    /// From now on this user's tokens that were issued until now are refused by the token endpoint (AADSTS50173).
    pub fn revoke_sessions(&self, user: &str) {
        self.configure(|o| {
            o.users.revoked.insert(user.to_owned());
        });
    }
}
