//! What was made of the content of files (a key, a TLS client), made anew when the content changes. Polls nothing: it looks when asked.

use super::super::error::ExchangeError;
use aws_lc_rs::digest;
use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};
use tracing::{info, warn};
use zeroize::Zeroizing;

/// Larger files hold neither secrets, nor keys, nor certificates.
const MAX_BYTES: usize = 64 * 1024;

type Digest = [u8; 32];

/// A value that follows the content of files. While the new content is unusable (a volume in the midst of its swap, half of a pair), the last
/// good value stays.
pub(super) struct Rotating<T> {
    files: Vec<(PathBuf, &'static str)>,
    state: Mutex<State<T>>,
}

struct State<T> {
    good: Option<(Digest, Arc<T>)>,
    /// The content that was told to be unusable; `None` in it: unreadable.
    told: Option<Option<Digest>>,
}

impl<T> Rotating<T> {
    /// Of these files, each with the code of the error for when it cannot be read.
    pub(super) const fn new(files: Vec<(PathBuf, &'static str)>) -> Self {
        Self {
            files,
            state: Mutex::new(State {
                good: None,
                told: None,
            }),
        }
    }

    /// The value for what is in the files now, made by `make` when they changed, else the last good one.
    ///
    /// # Errors
    /// The error of reading or making, when there is no good one.
    pub(super) fn current(
        &self,
        make: impl FnOnce(&[Zeroizing<Vec<u8>>]) -> Result<T, ExchangeError>,
    ) -> Result<Arc<T>, ExchangeError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let contents = self
            .files
            .iter()
            .map(|(file, code)| read(file).map_err(|_| ExchangeError::local(code)))
            .collect::<Result<Vec<_>, _>>();
        let seen = contents.as_ref().ok().map(|c| digest_of(c));
        if let (Some((good, value)), Some(seen)) = (&state.good, &seen)
            && good == seen
        {
            let value = Arc::clone(value);
            state.told = None;
            return Ok(value);
        }
        let error = match contents.and_then(|contents| make(&contents)) {
            Ok(value) => {
                let value = Arc::new(value);
                let rotated = state.good.is_some();
                state.good = seen.map(|seen| (seen, Arc::clone(&value)));
                state.told = None;
                if rotated {
                    info!(files = ?self.names(), "client key rotated");
                }
                return Ok(value);
            }
            Err(error) => error,
        };
        match &state.good {
            None => Err(error),
            Some((_, value)) => {
                let value = Arc::clone(value);
                if state.told != Some(seen) {
                    state.told = Some(seen);
                    warn!(files = ?self.names(), code = error.code(), "the last good one stays in use: {error}");
                }
                Ok(value)
            }
        }
    }

    fn names(&self) -> Vec<&Path> {
        self.files.iter().map(|(file, _)| &**file).collect()
    }
}

/// A file's content.
///
/// # Errors
/// When it cannot be read or is too large.
pub(super) fn read(file: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    // Full size from the start, so that growing leaves no copies behind.
    let mut content = Zeroizing::new(Vec::with_capacity(MAX_BYTES + 1));
    File::open(file)?
        .take(MAX_BYTES as u64 + 1)
        .read_to_end(&mut content)?;
    if content.len() > MAX_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(content)
}

/// Of all contents, each with its length before it.
fn digest_of(contents: &[Zeroizing<Vec<u8>>]) -> Digest {
    let mut context = digest::Context::new(&digest::SHA256);
    for content in contents {
        context.update(&(content.len() as u64).to_be_bytes());
        context.update(content);
    }
    let mut out = Digest::default();
    out.copy_from_slice(context.finish().as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::file::tests::TestDir;
    use std::fs;

    fn text(contents: &[Zeroizing<Vec<u8>>]) -> Result<String, ExchangeError> {
        let text: Vec<_> = contents
            .iter()
            .map(|c| String::from_utf8_lossy(c).into_owned())
            .collect();
        if text.iter().any(|t| t == "bad") {
            return Err(ExchangeError::local("client_key_unusable"));
        }
        Ok(text.join("+"))
    }

    #[test]
    fn a_value_follows_its_files_and_the_last_good_one_stays() {
        let dir = TestDir::new();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        let rotating = Rotating::new(vec![
            (a.clone(), "client_key_unreadable"),
            (b.clone(), "client_certificate_unreadable"),
        ]);
        let code = || rotating.current(text).unwrap_err().code();
        assert_eq!(code(), "client_key_unreadable");
        fs::write(&a, "1").unwrap();
        assert_eq!(code(), "client_certificate_unreadable");
        fs::write(&b, "bad").unwrap();
        assert_eq!(code(), "client_key_unusable");
        fs::write(&b, "2").unwrap();
        assert_eq!(*rotating.current(text).unwrap(), "1+2");
        let unchanged = |_: &[Zeroizing<Vec<u8>>]| Err(ExchangeError::local("made_anew"));
        assert_eq!(*rotating.current(unchanged).unwrap(), "1+2");
        fs::write(&a, "3").unwrap();
        assert_eq!(*rotating.current(text).unwrap(), "3+2");
        fs::write(&a, "bad").unwrap();
        assert_eq!(*rotating.current(text).unwrap(), "3+2");
        fs::remove_file(&a).unwrap();
        assert_eq!(*rotating.current(text).unwrap(), "3+2");
        fs::write(&a, "4").unwrap();
        assert_eq!(*rotating.current(text).unwrap(), "4+2");
        // Where one content ends and the next begins counts.
        fs::write(&a, "").unwrap();
        fs::write(&b, "42").unwrap();
        assert_eq!(*rotating.current(text).unwrap(), "+42");
    }

    #[test]
    fn a_huge_file_is_not_read() {
        let dir = TestDir::new();
        let file = dir.path().join("huge");
        fs::write(&file, vec![b'x'; MAX_BYTES]).unwrap();
        assert_eq!(read(&file).unwrap().len(), MAX_BYTES);
        fs::write(&file, vec![b'x'; MAX_BYTES + 1]).unwrap();
        assert!(read(&file).is_err());
    }
}
