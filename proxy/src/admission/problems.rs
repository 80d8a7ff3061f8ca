//! What stands against injection, said at most so often: a pod can be made so that everything in it is wrong, and nobody reads more.

/// So many problems are said; the rest is counted.
pub(super) const MAX_SAID: usize = 20;

/// Problems in the making, each one line that says what to do.
#[derive(Debug, Default)]
pub(super) struct Problems {
    said: Vec<String>,
    more: usize,
}

impl Problems {
    /// One more.
    pub(super) fn push(&mut self, problem: impl Into<String>) {
        if self.said.len() < MAX_SAID {
            self.said.push(problem.into());
        } else {
            self.more += 1;
        }
    }

    /// One more, put into words only if it is said.
    pub(super) fn push_with(&mut self, problem: impl FnOnce() -> String) {
        if self.said.len() < MAX_SAID {
            self.said.push(problem());
        } else {
            self.more += 1;
        }
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.said.is_empty()
    }

    /// The lines, the last of them how many more there are.
    pub(super) fn into_lines(self) -> Vec<String> {
        let Self { mut said, more } = self;
        if more > 0 {
            said.push(format!("and {more} more"));
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_is_counted() {
        let mut problems = Problems::default();
        assert!(problems.is_empty());
        for i in 0..MAX_SAID {
            problems.push(i.to_string());
        }
        assert!(!problems.is_empty());
        problems.push("x");
        problems.push("y");
        let lines = problems.into_lines();
        assert_eq!((lines.len(), lines[MAX_SAID].as_str()), (21, "and 2 more"));
    }
}
