//! A caller's token after the inbound side has verified it: the text for the authorization server, a digest for keys, and until when it holds.
//! It verifies nothing itself, and is not the handle that the workload sees.

use super::table::Key;
use crate::token::subject::SubjectToken;
use aws_lc_rs::digest::{SHA256, digest};
use sidecar_runtime::clock::Clock;
use std::{
    fmt,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::time::Instant;

/// The SHA-256 of a token's text: stands for the token wherever one is looked up.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// Of a token's text.
    pub fn of(text: &str) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As much as logs show of other tokens.
        let [a, b, c, d, ..] = self.0;
        write!(f, "{a:02x}{b:02x}{c:02x}{d:02x}…")
    }
}

/// A verified token of a caller. Cheap to share behind an `Arc`; `Debug` shows neither its text nor whom it is about.
pub struct CallerToken {
    subject: Arc<SubjectToken>,
    digest: TokenDigest,
    expires_at: Instant,
    issuer: Arc<str>,
    first_key: OnceLock<(GrantDigest, Key)>,
}

/// SHA-256 of all that decides what a grant issues.
pub(super) type GrantDigest = [u8; 32];

impl CallerToken {
    /// From a token that has been verified. `issuer` is the configured issuer that it was verified against; `clock` turns its `exp` into an
    /// instant. Steps of the wall clock after that do not move it: a token's life is short.
    pub fn new(subject: Arc<SubjectToken>, issuer: Arc<str>, clock: &Clock) -> Self {
        Self {
            digest: TokenDigest::of(subject.expose()),
            expires_at: clock.instant_at(subject.claims().exp),
            issuer,
            first_key: OnceLock::new(),
            subject,
        }
    }

    /// The token, for an exchanger.
    pub const fn subject(&self) -> &Arc<SubjectToken> {
        &self.subject
    }

    /// The digest of its text.
    pub const fn digest(&self) -> &TokenDigest {
        &self.digest
    }

    /// What `make` gives for a grant, remembered for the first grant that asks: most callers' tokens are exchanged for one upstream alone, and
    /// again and again.
    pub(super) fn key_for(&self, grant: &GrantDigest, make: impl Fn() -> Key) -> Key {
        let (known, key) = self.first_key.get_or_init(|| (*grant, make()));
        if known == grant { *key } else { make() }
    }

    /// From here on it is worthless; no leeway is in it.
    pub const fn expires_at(&self) -> Instant {
        self.expires_at
    }

    /// Its `exp`, as time since the epoch.
    pub fn exp(&self) -> Duration {
        self.subject.claims().exp
    }

    /// Stands for whom it is about, whichever of their tokens it is: for counting people, not for telling them apart.
    pub fn person(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        match &self.subject.claims().sub {
            Some(sub) => (&self.issuer, sub).hash(&mut hasher),
            None => self.digest.hash(&mut hasher),
        }
        hasher.finish()
    }

    /// Whether it may still be exchanged or resolved at `now`.
    pub fn is_valid(&self, now: Instant) -> bool {
        now < self.expires_at
    }

    /// The configured issuer that it was verified against.
    pub const fn issuer(&self) -> &Arc<str> {
        &self.issuer
    }
}

impl fmt::Debug for CallerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallerToken")
            .field("digest", &self.digest)
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::token::subject::tests::{jwt, jwt_with};

    const ISSUER: &str = "https://issuer.example";

    /// A caller's token that expires at `exp` (seconds since the epoch) and differs from others by `id`. All are of one person.
    pub(crate) fn caller(exp: u64, id: &str, clock: &Clock) -> Arc<CallerToken> {
        of_text(&jwt(exp, id), ISSUER, clock)
    }

    /// A token of the person of that name.
    pub(crate) fn caller_named(sub: &str, exp: u64, id: &str, clock: &Clock) -> Arc<CallerToken> {
        let claims = format!(r#""exp":{exp},"sub":"{sub}","jti":"{id}""#);
        caller_of(ISSUER, &claims, clock)
    }

    /// A token of this issuer with these claims, the members of a JSON object.
    pub(crate) fn caller_of(issuer: &str, claims: &str, clock: &Clock) -> Arc<CallerToken> {
        of_text(&jwt_with(claims), issuer, clock)
    }

    fn of_text(text: &str, issuer: &str, clock: &Clock) -> Arc<CallerToken> {
        let subject = SubjectToken::parse(text.as_bytes(), clock.unix_now()).unwrap();
        Arc::new(CallerToken::new(Arc::new(subject), issuer.into(), clock))
    }

    #[tokio::test(start_paused = true)]
    async fn it_expires_when_its_exp_comes() {
        let clock = Clock::anchored(Duration::from_secs(1000));
        let token = caller(1060, "a", &clock);
        let now = Instant::now();
        assert_eq!(token.exp(), Duration::from_secs(1060));
        assert!(token.is_valid(now + Duration::from_millis(59_999)));
        assert!(!token.is_valid(now + Duration::from_secs(60)));
    }

    #[tokio::test(start_paused = true)]
    async fn two_tokens_of_one_person_differ_and_debug_shows_neither() {
        let clock = Clock::anchored(Duration::from_secs(1000));
        let (a, b) = (caller(1060, "a", &clock), caller(1060, "b", &clock));
        assert_ne!(a.digest(), b.digest());
        assert_eq!(a.digest(), caller(1060, "a", &clock).digest());
        let shown = format!("{a:?}");
        for part in a.subject().expose().split('.') {
            assert!(!shown.contains(part), "{shown}");
        }
        assert!(!shown.contains("system:serviceaccount"), "{shown}");
        // SHA-256("abc"), FIPS 180-4, example.
        assert_eq!(
            TokenDigest::of("abc").as_bytes()[..4],
            [0xba, 0x78, 0x16, 0xbf]
        );
        assert_eq!(format!("{:?}", TokenDigest::of("abc")), "ba7816bf…");
    }
}
