//! Where to watch for a rotation of a projected volume, and the watch itself. Only an accelerator: `file` polls whatever happens here.
//!
//! The kubelet renames a symlink (`..data`) in the volume's root; the file, its parent and `..data` itself are all replaced, so a watch on any of
//! them fires once and is dead. The root stays.

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode, ModifyKind},
};
use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};
use tokio::sync::mpsc;

/// Tells a directory from another one that took its place.
type Identity = (u64, u64, Option<SystemTime>);

/// A live watch.
pub(super) struct Watch {
    root: PathBuf,
    identity: Identity,
    /// The directory itself was deleted or moved: what is there now is another.
    dead: Arc<AtomicBool>,
    _watcher: RecommendedWatcher,
}

/// The directory to watch: the nearest above `file` that has a `..data` entry, else the file's own.
pub(crate) fn root_of(file: &Path) -> PathBuf {
    file.ancestors()
        .skip(1)
        .find(|dir| dir.join("..data").symlink_metadata().is_ok())
        .or_else(|| file.parent())
        .filter(|dir| !dir.as_os_str().is_empty())
        .unwrap_or_else(|| Path::new("."))
        .to_owned()
}

fn identity(dir: &Path) -> Option<Identity> {
    let meta = fs::metadata(dir).ok()?;
    // Numbers of inodes are used again at once; the time of birth tells more, where the file system has it.
    meta.is_dir()
        .then(|| (meta.dev(), meta.ino(), meta.created().ok()))
}

impl Watch {
    /// Whether this still watches the directory that is now at `root`.
    pub(super) fn covers(&self, root: &Path) -> bool {
        !self.dead.load(Ordering::Relaxed)
            && self.root == root
            && identity(root) == Some(self.identity)
    }

    /// Watches `root`; `None` when there is no such directory (yet). Each change puts a token into `events`, when there is room.
    pub(super) fn arm(root: &Path, events: mpsc::Sender<()>) -> notify::Result<Option<Self>> {
        let Some(identity) = identity(root) else {
            return Ok(None);
        };
        let dead = Arc::new(AtomicBool::new(false));
        let (died, of) = (Arc::clone(&dead), root.to_owned());
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // Errors (an overflow) are a reason to look, too.
            if let Ok(event) = &event {
                // Reading the file opens it, which must not count as a change.
                if matches!(event.kind, EventKind::Access(a) if a != AccessKind::Close(AccessMode::Write))
                {
                    return;
                }
                let ends = matches!(
                    event.kind,
                    EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_))
                );
                if ends && event.paths.contains(&of) {
                    died.store(true, Ordering::Relaxed);
                }
            }
            // Full means that somebody will look anyway.
            events.try_send(()).ok();
        })?;
        watcher.watch(root, RecursiveMode::NonRecursive)?;
        Ok(Some(Self {
            root: root.to_owned(),
            identity,
            dead,
            _watcher: watcher,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_where_data_is() {
        let dir = super::super::file::tests::TestDir::new();
        let root = dir.path().join("wi");
        fs::create_dir_all(root.join("..1/token")).unwrap();
        std::os::unix::fs::symlink("..1", root.join("..data")).unwrap();
        std::os::unix::fs::symlink("..data/token", root.join("token")).unwrap();
        assert_eq!(root_of(&root.join("token/azure-identity-token")), root);
        assert_eq!(root_of(&root.join("azure-identity-token")), root);
        // No `..data` (yet): the file's directory, there or not.
        let plain = dir.path().join("a/b");
        assert_eq!(root_of(&plain.join("t")), plain);
        assert_eq!(root_of(Path::new("t")), Path::new("."));
    }

    #[tokio::test]
    async fn a_directory_that_was_replaced_is_not_covered() {
        let dir = super::super::file::tests::TestDir::new();
        let root = dir.path().join("root");
        assert!(Watch::arm(&root, mpsc::channel(1).0).unwrap().is_none());
        fs::create_dir(&root).unwrap();
        let (sender, mut events) = mpsc::channel(1);
        let watch = Watch::arm(&root, sender).unwrap().unwrap();
        assert!(watch.covers(&root) && !watch.covers(dir.path()));
        fs::remove_dir(&root).unwrap();
        // Told by the watch itself, whatever has been made in the place since.
        tokio::time::timeout(std::time::Duration::from_secs(20), async {
            while !watch.dead.load(Ordering::Relaxed) {
                assert!(events.recv().await.is_some());
            }
        })
        .await
        .expect("the watch knows that it is dead");
        fs::create_dir(&root).unwrap();
        assert!(!watch.covers(&root));
    }
}
