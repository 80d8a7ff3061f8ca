//! Credentials that use each other's tokens: the order in which they can be got, and circles, which can never begin. Pure.

use super::{CredentialParams, TokenParams};
use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
};

/// Credentials that wait for each other: each pair is a credential and the subject token that it uses, which is the token of the next
/// pair's credential, and the last one's that of the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Circle(pub Vec<(Arc<str>, Arc<str>)>);

/// A credential, and for each other that it waits for: the subject token, and whose it is.
type Waiting<'a> = (&'a CredentialParams, Vec<(Arc<str>, Arc<str>)>);

impl fmt::Display for Circle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (credential, subject_token) in &self.0 {
            write!(f, "`{credential}` -> (subject token `{subject_token}`) ")?;
        }
        let first = self.0.first().map_or("", |(credential, _)| credential);
        write!(f, "-> `{first}`")
    }
}

impl TokenParams {
    /// The credentials, each behind those whose tokens it uses. A chained token of a credential that is not there is left out of account.
    ///
    /// # Errors
    /// [`Circle`], one of those there are.
    pub fn parents_first(&self) -> Result<Vec<&CredentialParams>, Circle> {
        let names: HashSet<&str> = self.credentials.iter().map(|c| &*c.name).collect();
        let of: HashMap<&str, &Arc<str>> = self
            .chained_tokens
            .iter()
            .filter(|c| names.contains(&*c.credential))
            .map(|c| (&*c.name, &c.credential))
            .collect();
        // The subject token and the credential that it comes from.
        let parents = |c: &CredentialParams| -> Vec<(Arc<str>, Arc<str>)> {
            let tokens = c.grant.subject_tokens();
            let chained = tokens.into_iter().filter_map(|token| {
                let parent = of.get(&**token)?;
                Some((Arc::clone(token), Arc::clone(parent)))
            });
            chained.collect()
        };
        let mut waiting: Vec<Waiting<'_>> =
            self.credentials.iter().map(|c| (c, parents(c))).collect();
        let mut ordered: Vec<&CredentialParams> = Vec::new();
        let mut placed: HashSet<Arc<str>> = HashSet::new();
        while !waiting.is_empty() {
            let before = ordered.len();
            waiting.retain(|(credential, parents)| {
                let ready = parents.iter().all(|(_, parent)| placed.contains(parent));
                if ready {
                    ordered.push(credential);
                    placed.insert(Arc::clone(&credential.name));
                }
                !ready
            });
            if ordered.len() == before {
                return Err(circle(&waiting, &placed));
            }
        }
        Ok(ordered)
    }
}

/// Among credentials that all wait for one of themselves, going from each to what it waits for comes back somewhere.
fn circle(waiting: &[Waiting<'_>], placed: &HashSet<Arc<str>>) -> Circle {
    let mut path: Vec<(Arc<str>, Arc<str>)> = Vec::new();
    let mut at = waiting.first();
    while let Some((credential, parents)) = at {
        if let Some(start) = path.iter().position(|(name, _)| *name == credential.name) {
            return Circle(path.split_off(start));
        }
        let next = parents.iter().find(|(_, parent)| !placed.contains(parent));
        let Some((token, parent)) = next else {
            break;
        };
        path.push((Arc::clone(&credential.name), Arc::clone(token)));
        at = waiting.iter().find(|(c, _)| c.name == *parent);
    }
    Circle(path)
}

#[cfg(test)]
#[path = "chain_tests.rs"]
mod tests;
