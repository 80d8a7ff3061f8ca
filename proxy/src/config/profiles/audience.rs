//! The audience of a token of a profile's own, where the profile says none: the default is Entra's, and no other authority's.

use super::{
    super::{Config, fields::Fields, fields::shown},
    brought::child,
};
use crate::admission::profile::{Profile, TokenSource};

/// The subject token that the audience is of.
const POD: &str = "pod";

/// Reports the first credential that hands such a token to somebody else. `read`: what became of the profile's credentials.
pub(super) fn check(profile: &Fields<'_>, params: &Profile, read: &Config) {
    let TokenSource::Projected { audience, .. } = &params.token else {
        return;
    };
    let projected = profile.node("token").and_then(|t| child(t, "projected"));
    if projected.and_then(|p| child(p, "audience")).is_some() {
        return;
    }
    let credentials = read.token.credentials.iter();
    let mut others = credentials.filter_map(|c| {
        let its_own = c.grant.subject_tokens().iter().any(|name| ***name == *POD);
        let host = c.grant.authority()?.host_str()?;
        (its_own && c.grant.tenant().is_none()).then_some((&c.name, host))
    });
    if let Some((name, host)) = others.next() {
        let message = format!(
            "missing; its default, {audience}, is Entra's, but the credential `{}` shows the token to {host}: write the audience that is wanted there, such as \
             the issuer's URL, or the default itself if it is that",
            shown(name)
        );
        profile.context.problems.error(
            profile.at("token"),
            profile.join("token.projected.audience"),
            message,
        );
    }
}
