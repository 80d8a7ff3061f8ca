//! The key under which a token that was got for a caller is kept: SHA-256 over everything that decides what is issued, to whom and for what.
//! Each field is preceded by its length, so no two requests that differ anywhere are written alike.

use super::{
    table::Key,
    token::{CallerToken, GrantDigest, TokenDigest},
};
use crate::token::params::GrantParams;
use aws_lc_rs::digest::{Context, SHA256};
use std::hash::{Hash, Hasher};

/// Makes the keys of one credential.
#[derive(Clone)]
pub struct Keys {
    /// Of the grant.
    grant: GrantDigest,
    /// Has read that digest already.
    context: Context,
}

impl Keys {
    /// For a credential that gets its tokens by `grant`: the sort of grant, endpoint, client, audiences, resources, scope, actor, further fields. Where
    /// secrets and roots lie does not decide what is issued, and is left out, as in [`GrantParams::issues_the_same`].
    pub fn new(grant: &GrantParams) -> Self {
        let mut fields = Fields(Context::new(&SHA256));
        grant.decisive().hash(&mut fields);
        let mut grant = GrantDigest::default();
        grant.copy_from_slice(fields.0.finish().as_ref());
        // A digest of a digest, so that what is read for each request is short.
        let mut fields = Fields(Context::new(&SHA256));
        fields.write(&grant);
        Self {
            grant,
            context: fields.0,
        }
    }

    /// The key of what is got for this token of a caller's; computed once for the first credential that it is exchanged for.
    pub fn of_token(&self, caller: &CallerToken) -> Key {
        caller.key_for(&self.grant, || self.of(caller.digest()))
    }

    /// The key of what is got for the token of this digest.
    pub fn of(&self, caller: &TokenDigest) -> Key {
        let mut fields = Fields(self.context.clone());
        fields.write(caller.as_bytes());
        let mut key = [0; 32];
        key.copy_from_slice(fields.0.finish().as_ref());
        key
    }
}

/// Feeds what is hashed to SHA-256, each piece behind its length. That texts and lists cannot run into each other is so twice then: `Hash` itself
/// ends the ones and counts the others.
struct Fields(Context);

impl Hasher for Fields {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        self.0
            .clone()
            .finish()
            .as_ref()
            .first_chunk()
            .map_or(0, |first| u64::from_be_bytes(*first))
    }
}

#[cfg(test)]
#[path = "key_tests.rs"]
mod tests;
