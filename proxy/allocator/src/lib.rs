//! One call into the C library's allocator: it gives freed memory back to the system. It stands in a crate of its own because it needs `unsafe`,
//! which every other crate of this workspace forbids. It decides nothing: when memory is worth giving back is the caller's business.

/// Gives free pages back to the system, of all arenas and wherever in them they lie; takes milliseconds when there are many. By itself glibc
/// gives back only what lies at an arena's end, and one long-lived allocation is enough to keep all that lies below it.
///
/// Returns whether any memory was given back. Does nothing on systems without glibc.
pub fn give_back() -> bool {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        #[expect(
            unsafe_code,
            reason = "the C library has no safe interface; this is the only call"
        )]
        // SAFETY: `malloc_trim` has no precondition: it takes a number, locks each arena while it works on it (MT-Safe, malloc_trim(3)), and touches
        // nothing but pages that lie within free chunks.
        let given = unsafe { libc::malloc_trim(0) };
        given == 1
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    false
}

#[cfg(test)]
mod tests {
    /// Small allocations with one at the end that stays: what glibc alone would keep for ever.
    #[test]
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    fn what_lies_below_a_long_lived_allocation_is_given_back() {
        let resident = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find(|l| l.starts_with("RssAnon:")).unwrap();
            let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
            kib * 1024
        };
        const SIZE: usize = 4096;
        const COUNT: usize = 16 * 1024;
        let before = resident();
        let many: Vec<_> = (0..COUNT).map(|_| vec![1_u8; SIZE]).collect();
        let stays = vec![1_u8; SIZE];
        assert!(resident() - before > COUNT * SIZE / 2);
        drop(many);
        assert!(resident() - before > COUNT * SIZE / 2, "glibc did it alone");
        assert!(super::give_back());
        assert!(resident().saturating_sub(before) < COUNT * SIZE / 8);
        drop(stays);
    }
}
