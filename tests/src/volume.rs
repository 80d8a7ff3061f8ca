//! A projected token volume that swaps as the kubelet's AtomicWriter does: a timestamped directory, `..data_tmp` renamed over `..data`,
//! the old directory removed, and a user-visible symlink for the first path element alone.

use crate::temp::TempDir;
use std::{
    fs, io,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

static NEXT: AtomicU64 = AtomicU64::new(1);

/// Where in the volume the token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `azure-identity-token` (AKS webhook up to v1.5).
    Flat,
    /// `token/azure-identity-token` (AKS webhook v1.6): the directory `token` is itself a symlink into `..data`.
    Nested,
}

impl Layout {
    fn file(self) -> &'static str {
        match self {
            Self::Flat => "azure-identity-token",
            Self::Nested => "token/azure-identity-token",
        }
    }
}

/// A volume, empty at first; removed on drop.
#[derive(Debug)]
pub struct TokenVolume {
    dir: TempDir,
    root: PathBuf,
    layout: Layout,
}

impl TokenVolume {
    /// An empty volume: mounted, nothing written yet.
    ///
    /// # Errors
    /// When the temporary directory cannot be written to.
    pub fn new(layout: Layout) -> io::Result<Self> {
        let volume = Self::unmounted(layout)?;
        fs::create_dir(&volume.root)?;
        Ok(volume)
    }

    /// A volume whose root does not exist yet; the first write makes it.
    ///
    /// # Errors
    /// As [`TokenVolume::new`].
    pub fn unmounted(layout: Layout) -> io::Result<Self> {
        let dir = TempDir::new("token-sidecar-volume")?;
        let root = dir.join("wi");
        Ok(Self { dir, root, layout })
    }

    /// The token file: what `AZURE_FEDERATED_TOKEN_FILE` names.
    pub fn file(&self) -> PathBuf {
        self.root.join(self.layout.file())
    }

    /// The mount root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Swaps in a new payload. Like the kubelet, does nothing when the content is the same.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn write(&self, content: impl AsRef<[u8]>) -> io::Result<()> {
        let content = content.as_ref();
        if fs::read(self.file()).is_ok_and(|current| current == content) {
            return Ok(());
        }
        self.swap(&[(self.layout.file(), content)])
    }

    /// Swaps in a payload without the file; its user-visible name goes too.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn remove(&self) -> io::Result<()> {
        self.swap(&[])
    }

    /// Removes the whole volume, root included.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn unmount(&self) -> io::Result<()> {
        fs::remove_dir_all(&self.root)
    }

    /// Leaves the volume in place on drop, for a person to look at.
    pub fn keep(&mut self) {
        self.dir.keep();
    }

    /// A file of this name, relative to the root, as [`TokenVolume::write_several`] makes it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Swaps in several files at once, by names relative to the root, as a projected volume with several sources has them. What was
    /// there before is gone.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn write_several(&self, files: &[(&str, &str)]) -> io::Result<()> {
        let files: Vec<_> = files.iter().map(|(n, c)| (*n, c.as_bytes())).collect();
        self.swap(&files)
    }

    fn swap(&self, files: &[(&str, &[u8])]) -> io::Result<()> {
        fs::create_dir_all(&self.root)?;
        let data = self.root.join("..data");
        let old = fs::read_link(&data).ok();

        // `..2026_11_22_09_08_07.1234567890` there; what counts is the two dots and that it is never used twice.
        let timestamped = format!(
            "..2026_01_01_00_00_00.{}{:06}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let directory = self.root.join(&timestamped);
        fs::create_dir(&directory)?;
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))?;
        for (name, content) in files {
            let file = directory.join(name);
            if let Some(parent) = file.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(&file, content)?;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o644))?;
        }

        let temporary = self.root.join("..data_tmp");
        symlink(&timestamped, &temporary)?;
        fs::rename(&temporary, &data)?;

        // User-visible names are links for the first path element alone; those without a file go.
        for entry in fs::read_dir(&self.root)? {
            let name = entry?.file_name();
            let wanted = files
                .iter()
                .any(|(file, _)| first(file) == Path::new(&name));
            if !name.to_string_lossy().starts_with("..") && !wanted {
                fs::remove_file(self.root.join(name))?;
            }
        }
        for (name, _) in files {
            let visible = self.root.join(first(name));
            if fs::symlink_metadata(&visible).is_err() {
                symlink(Path::new("..data").join(first(name)), &visible)?;
            }
        }
        match old {
            Some(old) => fs::remove_dir_all(self.root.join(old)),
            None => Ok(()),
        }
    }
}

/// The first element of a path.
fn first(name: &str) -> &Path {
    Path::new(name.split('/').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swaps_leave_one_directory_and_the_first_element_as_a_link() {
        for (layout, visible) in [
            (Layout::Flat, "azure-identity-token"),
            (Layout::Nested, "token"),
        ] {
            let volume = TokenVolume::unmounted(layout).unwrap();
            assert!(!volume.root().exists());
            for content in ["one", "two", "two", "three"] {
                volume.write(content).unwrap();
                assert_eq!(fs::read_to_string(volume.file()).unwrap(), content);
                let mut names: Vec<_> = fs::read_dir(volume.root())
                    .unwrap()
                    .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                    .collect();
                names.sort();
                assert_eq!(names.len(), 3, "{names:?}");
                assert!(names[0].starts_with("..2026"));
                assert_eq!(names[1..], ["..data", visible]);
                assert_eq!(
                    fs::read_link(volume.root().join(visible)).unwrap(),
                    Path::new("..data").join(visible)
                );
            }
            let before = fs::read_link(volume.root().join("..data")).unwrap();
            volume.write("three").unwrap();
            assert_eq!(
                fs::read_link(volume.root().join("..data")).unwrap(),
                before,
                "the same content is not swapped"
            );
            volume.remove().unwrap();
            assert!(fs::symlink_metadata(volume.root().join(visible)).is_err());
            volume.write("four").unwrap();
            assert_eq!(fs::read_to_string(volume.file()).unwrap(), "four");
            volume.unmount().unwrap();
            assert!(!volume.root().exists());
        }
    }
}
