//! `callerCache`: how much a credential that gets a token for each caller may keep, and may ask at once.

use super::super::{fields::Fields, parse};
use crate::token::{caller::cache::CacheLimits, params::GrantParams};

/// Reads `callerCache` of a credential that gets its tokens by `grant`.
pub(super) fn caller_cache(
    credential: &Fields<'_>,
    grant: Option<&GrantParams>,
) -> Option<CacheLimits> {
    if credential.node("callerCache").is_some() && grant.is_some_and(|g| !g.is_for_callers()) {
        credential.error(
            "callerCache",
            "this credential has one token, the pod's own, and no cache; remove it, or let the grant use the subject token `caller`",
        );
    }
    let fields = credential.map("callerCache", "credentials.*.callerCache")?;
    let max_entries = fields.value("maxEntries", parse::count(10_000_000));
    let max_bytes = fields.value("maxBytes", parse::size_between("64KiB", "64GiB"));
    let max_exchanges = fields.value("maxExchanges", parse::count(65_536));
    Some(CacheLimits {
        max_entries: max_entries?.get(),
        max_bytes: max_bytes?,
        max_exchanges: max_exchanges?.get(),
    })
}
