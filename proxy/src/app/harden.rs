//! What the process asks of the kernel for itself: no core dump (it would hold tokens), no debugger of the same user, and as many
//! descriptors as it may have. Nothing here is fatal: a container that forbids one of these still runs.

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};

/// Hardens this process, and logs what could not be had.
pub(super) fn process() {
    if let Err(error) = setrlimit(
        Resource::Core,
        Rlimit {
            current: Some(0),
            maximum: Some(0),
        },
    ) {
        tracing::warn!(%error, "core dumps cannot be turned off: a crash could write tokens to disk");
    }
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "the process stays dumpable: another process of this user could read its memory");
    }
    let files = getrlimit(Resource::Nofile);
    if files.current != files.maximum
        && let Err(error) = setrlimit(
            Resource::Nofile,
            Rlimit {
                current: files.maximum,
                maximum: files.maximum,
            },
        )
    {
        tracing::warn!(%error, "the limit of open files stays where it is");
    }
}
