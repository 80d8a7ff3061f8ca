//! What is wrong with a configuration: where, under which key, what, and what to do about it. One run reports everything.

use crate::admission::check::Fault;
use std::{cell::RefCell, fmt, sync::Arc};

/// More problems than this are counted and not listed.
const LISTED: usize = 100;

/// Where a value was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// By a command-line option or an environment variable of that name.
    Given(&'static str),
    /// Somewhere that the message names itself.
    Elsewhere,
    /// Nowhere: built in, or the configuration as a whole.
    Whole,
    /// In the file; both count from 1, columns in characters.
    File { line: usize, column: usize },
}

/// One thing that is wrong. Displays as `file:line:column: path.to.key: what is wrong; what to do`, or, for a value that did not come from
/// a file, with the option's or the environment variable's name in front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    file: Option<Arc<str>>,
    place: Place,
    path: String,
    message: String,
    /// Another key that the message names by its path.
    other: Option<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.place, &self.file) {
            (Place::Elsewhere, _) => return f.write_str(&self.message),
            (Place::Given(name), _) => return write!(f, "{name}: {}", self.message),
            (Place::File { line, column }, Some(file)) => write!(f, "{file}:{line}:{column}: ")?,
            (_, Some(file)) => write!(f, "{file}: ")?,
            (_, None) => {}
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

impl ConfigError {
    /// Without its place in a text that nobody has before them: the key, and what is wrong with it.
    pub(super) fn fault(&self) -> Fault {
        let (path, message) = match self.place {
            Place::Given(name) => (String::new(), format!("{name}: {}", self.message)),
            _ => (self.path.clone(), self.message.clone()),
        };
        Fault {
            path,
            message,
            other: self.other.clone(),
        }
    }
}

/// Everything that is wrong with a configuration, in the file's order. Displays one problem a line. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    errors: Vec<ConfigError>,
    unlisted: usize,
}

impl ConfigErrors {
    /// For a failure that left no reason behind; see [`super::load`].
    pub(super) fn unexplained(file: Option<&str>) -> Self {
        let problem = Problems::new(file).build(
            Place::Whole,
            String::new(),
            "could not be read, for a reason that was not reported; please report this as a bug"
                .into(),
        );
        Self {
            errors: vec![problem],
            unlisted: 0,
        }
    }

    /// The problems, in the file's order; at most 100.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.errors.iter()
    }

    /// How many problems there are, the ones not listed included.
    pub fn count(&self) -> usize {
        self.errors.len() + self.unlisted
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.errors.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        if self.unlisted > 0 {
            write!(f, "\n… and {} more", self.unlisted)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Collects problems and warnings while a configuration is read.
#[derive(Debug, Default)]
pub(super) struct Problems {
    file: Option<Arc<str>>,
    errors: RefCell<Vec<ConfigError>>,
    unlisted: std::cell::Cell<usize>,
    warnings: RefCell<Vec<ConfigError>>,
}

impl Problems {
    pub(super) fn new(file: Option<&str>) -> Self {
        Self {
            file: file.map(Arc::from),
            ..Self::default()
        }
    }

    /// A problem: the configuration is not usable.
    pub(super) fn error(&self, place: Place, path: impl Into<String>, message: impl Into<String>) {
        self.push(self.build(place, path.into(), message.into()));
    }

    /// A problem with two keys: the message names the `other` by its path.
    pub(super) fn clash(&self, place: Place, path: String, other: &str, message: String) {
        let mut error = self.build(place, path, message);
        error.other = Some(other.to_owned());
        self.push(error);
    }

    fn push(&self, error: ConfigError) {
        let mut errors = self.errors.borrow_mut();
        if errors.len() == LISTED {
            self.unlisted.set(self.unlisted.get() + 1);
            return;
        }
        // What comes from the environment is met once for every credential.
        if !errors.contains(&error) {
            errors.push(error);
        }
    }

    /// Something that is probably a slip, but does no harm.
    pub(super) fn warning(
        &self,
        place: Place,
        path: impl Into<String>,
        message: impl Into<String>,
    ) {
        let mut warnings = self.warnings.borrow_mut();
        if warnings.len() < LISTED {
            warnings.push(self.build(place, path.into(), message.into()));
        }
    }

    /// None yet, in the same file.
    pub(super) fn beside(&self) -> Self {
        Self {
            file: self.file.clone(),
            ..Self::default()
        }
    }

    /// Takes over the errors of a reading beside, and not its warnings. `path`: what a path there is called here.
    pub(super) fn adopt(&self, beside: Self, path: impl Fn(&str) -> String) {
        for mut error in beside.errors.into_inner() {
            error.path = path(&error.path);
            if let Some(other) = error.other.take() {
                let called = path(&other);
                error.message = error.message.replacen(&other, &called, 1);
                error.other = Some(called);
            }
            self.push(error);
        }
        self.unlisted
            .set(self.unlisted.get() + beside.unlisted.get());
    }

    fn build(&self, place: Place, path: String, message: String) -> ConfigError {
        ConfigError {
            file: self.file.clone(),
            place,
            path,
            message,
            other: None,
        }
    }

    /// Whether so many problems were found that another one will not be shown.
    pub(super) fn full(&self) -> bool {
        self.errors.borrow().len() == LISTED
    }

    /// The warnings when there was no error, else the errors.
    pub(super) fn finish(self) -> Result<Vec<String>, ConfigErrors> {
        let mut errors = self.errors.into_inner();
        if errors.is_empty() {
            let warnings = self.warnings.into_inner();
            return Ok(warnings.iter().map(ToString::to_string).collect());
        }
        errors.sort_by_key(|e| e.place);
        Err(ConfigErrors {
            errors,
            unlisted: self.unlisted.get(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_where_what_and_in_the_files_order() {
        let p = Problems::new(Some("a.yaml"));
        p.error(
            Place::File { line: 9, column: 3 },
            "routes[0].upstream",
            "is wrong; mend it",
        );
        p.error(Place::File { line: 2, column: 1 }, "listen", "is wrong");
        p.error(Place::Given("--admin"), "admin", "is wrong");
        p.error(Place::Whole, "", "nothing in it");
        p.error(Place::Whole, "", "nothing in it");
        p.error(Place::Elsewhere, "", "X is wrong");
        assert_eq!(
            p.finish().unwrap_err().to_string(),
            "--admin: is wrong\nX is wrong\na.yaml: nothing in it\na.yaml:2:1: listen: is wrong\na.yaml:9:3: routes[0].upstream: is wrong; mend it"
        );
    }

    #[test]
    fn the_list_is_bounded_and_says_so() {
        let p = Problems::new(None);
        for i in 0..LISTED + 7 {
            p.error(Place::Whole, format!("x{i}"), "y");
        }
        assert!(p.full());
        let e = p.finish().unwrap_err();
        assert_eq!((e.iter().count(), e.count()), (LISTED, LISTED + 7));
        assert!(e.to_string().ends_with("\n… and 7 more"), "{e}");
    }

    #[test]
    fn warnings_alone_are_no_error() {
        let p = Problems::new(Some("a.yaml"));
        p.warning(Place::File { line: 1, column: 1 }, "x", "unused");
        assert_eq!(p.finish().unwrap(), ["a.yaml:1:1: x: unused"]);
    }
}
