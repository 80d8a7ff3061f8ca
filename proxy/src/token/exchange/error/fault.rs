//! Whose fault a refusal is: what an answer to the caller, the cache of negative answers and the breaker depend on. Judged by what the reply says,
//! not by who asked: for a credential that uses no caller's token the same words are about the pod's own.

use super::{AuthoritySays, Class};

/// Who must do something about a failed exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The caller, whose token (`subject_token`, `assertion`) was handed in: they are challenged, and the same token is not sent again.
    Caller(CallerFault),
    /// The operator of this pod: the client's own credential, its configuration or its registration. No caller can mend it.
    Pod,
    /// The authority, or what lies between: it is asked again later, and less.
    Authority,
}

/// What the caller must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallerFault {
    /// Get another token: this one is malformed, expired, revoked, or was made for somebody else (`invalid_token`, RFC 6750 section 3.1).
    Token,
    /// Sign in again, or more strongly; [`super::ExchangeError::claims`] says how, when the authority did.
    Interaction,
    /// Consent to what this client asks for, or have an administrator do it.
    Consent,
    /// Nothing that they could: a policy refuses them.
    Denied,
}

use CallerFault::{Consent, Denied, Interaction, Token};

/// Judges a refusal. A busy authority is at fault whatever words it finds; then the most specific word counts: Entra's number, its suberror, the
/// OAuth error.
pub(super) fn of(says: &AuthoritySays, class: Class) -> Fault {
    if says.status == 429 || says.status >= 500 || says.status == 408 {
        return Fault::Authority;
    }
    let error = says.error.as_deref();
    // Claims are a way out, also of what is otherwise a plain refusal (AADSTS53003).
    if says.claims.is_some() && error == Some("interaction_required") {
        return Fault::Caller(Interaction);
    }
    let of_caller = says
        .aadsts
        .and_then(by_aadsts)
        .or_else(|| says.suberror.as_deref().and_then(by_suberror))
        .or_else(|| error.and_then(|e| by_oauth(e, says.aadsts.is_some())));
    match (of_caller, class) {
        (Some(what), _) => Fault::Caller(what),
        // 700024 passes too, but it is the client assertion that is stale.
        (None, Class::Transient | Class::Throttled) if says.aadsts != Some(700_024) => {
            Fault::Authority
        }
        (None, _) => Fault::Pod,
    }
}

/// Entra's numbers that are about the user or the assertion of an on-behalf-of request.
const fn by_aadsts(number: u64) -> Option<CallerFault> {
    Some(match number {
        // Signature; audience; not active yet, expired; revoked; session gone; user unknown.
        50013 | 500_131..=500_133 | 50173 | 50132 | 50133 | 50089 | 70008 | 700_082 | 50034 => {
            Token
        }
        // More factors; enrolment; sign-in frequency; external challenge; password; device; terms of use.
        50074 | 50076 | 50079 | 50072 | 50158 | 50055 | 50005 | 53000 | 53001 | 53002 | 53004
        | 70043 | 50058 => Interaction,
        65001 | 65004 | 90094 => Consent,
        // Conditional Access; not assigned; disabled; locked.
        53003 | 530_035 | 50105 | 50057 | 50053 | 50020 => Denied,
        _ => return None,
    })
}

/// What MSAL documents of `suberror`.
fn by_suberror(suberror: &str) -> Option<CallerFault> {
    Some(match suberror {
        "bad_token" | "token_expired" => Token,
        "basic_action" | "additional_action" | "user_password_expired" => Interaction,
        "consent_required" => Consent,
        "message_only"
        | "protection_policy_required"
        | "client_mismatch"
        | "device_authentication_failed" => Denied,
        _ => return None,
    })
}

/// RFC 6749 section 5.2, OpenID Connect Core section 3.1.2.6, RFC 9470 section 3.
fn by_oauth(error: &str, coded: bool) -> Option<CallerFault> {
    Some(match error {
        "invalid_grant" | "invalid_token" => Token,
        // What RFC 8693 section 2.2.2 wants for a subject token that is not accepted. Entra's own has a number, and is about the request.
        "invalid_request" if !coded => Token,
        "interaction_required" | "login_required" | "insufficient_user_authentication" => {
            Interaction
        }
        "consent_required" => Consent,
        "access_denied" => Denied,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::exchange::error::ExchangeError;

    fn fault(says: AuthoritySays) -> Fault {
        ExchangeError::refused(&says).fault()
    }

    fn coded(status: u16, error: &str, aadsts: u64) -> AuthoritySays {
        AuthoritySays {
            status,
            error: Some(error.into()),
            aadsts: (aadsts != 0).then_some(aadsts),
            ..AuthoritySays::default()
        }
    }

    #[test]
    fn entras_numbers_are_the_callers_the_pods_or_its_own() {
        let caller = Fault::Caller;
        for (status, error, aadsts, expected) in [
            (400, "invalid_grant", 50013, caller(Token)),
            (400, "invalid_grant", 500_131, caller(Token)),
            (400, "invalid_grant", 500_133, caller(Token)),
            (400, "invalid_grant", 50173, caller(Token)),
            (400, "invalid_grant", 65001, caller(Consent)),
            (400, "interaction_required", 50079, caller(Interaction)),
            (400, "invalid_grant", 50076, caller(Interaction)),
            (400, "invalid_grant", 53003, caller(Denied)),
            (400, "invalid_grant", 50105, caller(Denied)),
            (400, "invalid_grant", 47_114_711, caller(Token)),
            (401, "invalid_client", 700_213, Fault::Pod),
            (400, "invalid_request", 70021, Fault::Pod),
            (401, "invalid_client", 700_024, Fault::Pod),
            (400, "unauthorized_client", 700_016, Fault::Pod),
            (400, "invalid_resource", 500_011, Fault::Pod),
            (400, "invalid_request", 90002, Fault::Pod),
            (401, "invalid_client", 7_000_215, Fault::Pod),
            (503, "temporarily_unavailable", 90033, Fault::Authority),
            (400, "temporarily_unavailable", 90055, Fault::Authority),
            // The status outweighs the words.
            (500, "invalid_grant", 50013, Fault::Authority),
            (429, "invalid_grant", 65001, Fault::Authority),
        ] {
            assert_eq!(
                fault(coded(status, error, aadsts)),
                expected,
                "{status} {error} {aadsts}"
            );
        }
    }

    #[test]
    fn other_authorities_are_read_by_their_oauth_error() {
        for (status, error, expected) in [
            (400, "invalid_grant", Fault::Caller(Token)),
            (400, "invalid_request", Fault::Caller(Token)),
            (400, "interaction_required", Fault::Caller(Interaction)),
            (400, "consent_required", Fault::Caller(Consent)),
            (403, "access_denied", Fault::Caller(Denied)),
            (401, "invalid_client", Fault::Pod),
            (400, "invalid_target", Fault::Pod),
            (400, "invalid_scope", Fault::Pod),
            (400, "unsupported_grant_type", Fault::Pod),
            (400, "slow_down", Fault::Authority),
            (502, "", Fault::Authority),
        ] {
            assert_eq!(fault(coded(status, error, 0)), expected, "{status} {error}");
        }
    }

    #[test]
    fn claims_open_a_way_out_and_a_suberror_is_more_specific_than_the_error() {
        let mut says = coded(400, "interaction_required", 53003);
        assert_eq!(
            fault(coded(400, "interaction_required", 53003)),
            Fault::Caller(Denied)
        );
        says.claims = Some(r#"{"access_token":{}}"#.into());
        assert_eq!(fault(says), Fault::Caller(Interaction));
        for (suberror, expected) in [
            ("bad_token", Token),
            ("consent_required", Consent),
            ("basic_action", Interaction),
            ("message_only", Denied),
            ("something_new", Token),
        ] {
            let says = AuthoritySays {
                suberror: Some(suberror.into()),
                ..coded(400, "invalid_grant", 0)
            };
            assert_eq!(fault(says), Fault::Caller(expected), "{suberror}");
        }
    }

    #[test]
    fn what_never_reached_the_authority_or_came_back_odd_is_no_callers_fault() {
        assert_eq!(ExchangeError::timeout().fault(), Fault::Authority);
        assert_eq!(
            ExchangeError::odd_reply("reply_not_json", "").fault(),
            Fault::Authority
        );
        assert_eq!(ExchangeError::dead_on_arrival().fault(), Fault::Authority);
        assert_eq!(
            ExchangeError::local("client_secret_unreadable").fault(),
            Fault::Pod
        );
    }
}
