//! File paths as text, compared segment by segment: `/azure/wizard` is not below `/azure/wi`. Opens nothing.

use std::collections::{HashMap, HashSet};

/// Whether a path is another or below it.
pub(super) fn below(path: &str, parent: &str) -> bool {
    segments(path).starts_with(&segments(parent))
}

/// What a path is made of; `//` and `/./` are `/`, and `..` takes back what is before it, as it does for container runtimes.
fn segments(path: &str) -> Vec<&str> {
    let mut segments = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            _ => segments.push(segment),
        }
    }
    segments
}

/// Paths that others may be below. A question costs the length of the path that is asked about, however many there are.
#[derive(Debug, Default)]
pub(super) struct Roots<'p> {
    /// From a place, by a segment, to the next; the root's is 0.
    steps: HashMap<(usize, &'p str), usize>,
    ends: HashSet<usize>,
}

impl<'p> Roots<'p> {
    /// Of these paths; one that is not absolute is none.
    pub(super) fn new(paths: impl Iterator<Item = &'p str>) -> Self {
        let mut roots = Self::default();
        for path in paths.filter(|p| p.starts_with('/')) {
            let mut place = 0;
            for segment in segments(path) {
                let next = roots.steps.len() + 1;
                place = *roots.steps.entry((place, segment)).or_insert(next);
            }
            roots.ends.insert(place);
        }
        roots
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Whether `path` is one of them or below one.
    pub(super) fn has(&self, path: &str) -> bool {
        if !path.starts_with('/') {
            return false;
        }
        let mut place = 0;
        if self.ends.contains(&place) {
            return true;
        }
        for segment in segments(path) {
            match self.steps.get(&(place, segment)) {
                Some(next) => place = *next,
                None => return false,
            }
            if self.ends.contains(&place) {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_end_at_their_borders() {
        let wi = "/var/run/secrets/azure/wi";
        for (path, parent, expected) in [
            ("/var/run/secrets/azure/wi/token/t", wi, true),
            ("/var/run/secrets/azure/wi", wi, true),
            ("/var//run/./secrets/azure/wi/", wi, true),
            ("/var/run/secrets/azure/wizard", wi, false),
            ("/var/run/secrets/azure", wi, false),
            ("/a", "/", true),
            ("/a", "/a/", true),
            ("/x/../var/run/secrets/azure/wi/token", wi, true),
            ("/../var/run/secrets/azure/wi/x/../../wi", wi, true),
            ("/var/run/secrets/azure/wi/../wizard", wi, false),
            ("/var/run/secrets/azure/wi/..", wi, false),
            ("/b", "/a/../b", true),
        ] {
            assert_eq!(below(path, parent), expected, "{path} {parent}");
            let roots = Roots::new(["/x/y", parent].into_iter());
            assert_eq!(roots.has(path), expected, "{path} {parent}");
        }
        let roots = Roots::new(["", "wi", "/x/y"].into_iter());
        assert!(!roots.has("/"));
        assert!(!roots.has("wi/token"));
        assert!(!roots.has("/x"));
        assert!(roots.has("/x/y/z"));
    }
}
