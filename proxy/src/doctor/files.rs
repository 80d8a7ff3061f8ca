//! What can be seen of a file that cannot be used, or only just: is it there, what is in its place, whose is it, and what surrounds its content. Shows names, numbers and
//! modes, never content.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// Names in a directory that are listed.
const LISTED: usize = 8;

/// Why a file cannot be read, as far as looking around tells; `None` when it can be opened.
pub(super) fn unreadable(path: &Path) -> Option<String> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(e) if e.kind() == ErrorKind::NotFound => return Some(missing(path)),
        Err(e) if e.kind() == ErrorKind::PermissionDenied => {
            return Some(format!(
                "{} cannot even be looked at: a directory above it is closed to us (uid {})",
                path.display(),
                own_uid()
            ));
        }
        Err(e) => return Some(format!("{}: {e}", path.display())),
    };
    if metadata.is_dir() {
        return Some(format!(
            "{} is a directory, not a file; in it: {}",
            path.display(),
            list(path)
        ));
    }
    if !metadata.is_file() {
        return Some(format!("{} is no ordinary file", path.display()));
    }
    match fs::File::open(path) {
        Ok(_) => None,
        Err(_) => Some(format!(
            "{} belongs to uid {}, gid {} and has mode {:o}; we are uid {}",
            path.display(),
            metadata.uid(),
            metadata.gid(),
            metadata.mode() & 0o7777,
            own_uid()
        )),
    }
}

/// What is there where the file is not.
fn missing(path: &Path) -> String {
    if path.symlink_metadata().is_ok() {
        return format!("{} is a link that leads nowhere", path.display());
    }
    let existing = path.ancestors().skip(1).find(|dir| dir.is_dir());
    match existing {
        Some(dir) if Some(dir) == path.parent() => format!(
            "{} is not there; its directory has: {}",
            path.display(),
            list(dir)
        ),
        Some(dir) => format!(
            "{} is not there, nor its directory: nothing is mounted there; {} has: {}",
            path.display(),
            dir.display(),
            list(dir)
        ),
        None => format!("{} is not there", path.display()),
    }
}

/// The names in a directory.
fn list(dir: &Path) -> String {
    let mut names: Vec<String> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        // The kubelet's own.
        .filter(|name| !name.starts_with(".."))
        .map(|name| name.chars().filter(|c| !c.is_control()).collect())
        .collect();
    names.sort();
    let more = names.len().saturating_sub(LISTED);
    names.truncate(LISTED);
    match (names.is_empty(), more) {
        (true, _) => "nothing".to_owned(),
        (false, 0) => names.join(", "),
        (false, more) => format!("{}, and {more} more", names.join(", ")),
    }
}

/// Ours, by the process's own directory.
fn own_uid() -> u32 {
    fs::metadata("/proc/self").map_or(u32::MAX, |m| m.uid())
}

/// Files of this name that are in the usual places of projected tokens, when it is not where it was looked for.
pub(super) fn elsewhere(path: &Path) -> Option<PathBuf> {
    const PLACES: [&str; 4] = [
        // AKS' webhook from 1.6 on, and before; the chart's own volume; the injector's.
        "/var/run/secrets/azure/wi/token/azure-identity-token",
        "/var/run/secrets/azure/tokens/azure-identity-token",
        "/var/run/secrets/token-sidecar/tokens/pod",
        "/var/run/secrets/token-sidecar/token",
    ];
    PLACES
        .into_iter()
        .map(PathBuf::from)
        .find(|place| place != path && place.is_file())
}

/// What surrounds, or is in, a secret that nobody wants to be part of it, and that is sent all the same. White space at the end is not: it is left out.
pub(super) fn oddity(content: &[u8]) -> Option<&'static str> {
    let text = content.trim_ascii_end();
    if text.starts_with(b"\xef\xbb\xbf") {
        return Some("the file begins with a byte order mark, which is sent as part of the secret");
    }
    if text.first().is_some_and(u8::is_ascii_whitespace) {
        return Some("the file begins with white space, which is sent as part of the secret");
    }
    if text.contains(&b'\n') {
        return Some("the file has several lines, all of which are sent as the secret");
    }
    if (text.starts_with(b"\"") && text.ends_with(b"\"")
        || text.starts_with(b"'") && text.ends_with(b"'"))
        && text.len() > 1
    {
        return Some("the secret stands in quotes, which are sent as part of it");
    }
    None
}

/// What stands in a file where a private key, or a certificate, should be.
pub(super) fn pem_oddity(content: &[u8]) -> Option<&'static str> {
    let has = |marker: &str| {
        content
            .windows(marker.len())
            .any(|w| w == marker.as_bytes())
    };
    Some(if content.trim_ascii().is_empty() {
        "it is empty"
    } else if content.starts_with(b"\xef\xbb\xbf") {
        "it begins with a byte order mark"
    } else if has("ENCRYPTED") {
        "it is encrypted with a passphrase; write it without: openssl pkey -in KEY -out KEY.plain"
    } else if has("BEGIN OPENSSH PRIVATE KEY") {
        "it is in OpenSSH's own format; convert it: ssh-keygen -p -m PKCS8 -f KEY"
    } else if has("BEGIN CERTIFICATE") && !has("PRIVATE KEY") {
        "it holds a certificate"
    } else if has("BEGIN PUBLIC KEY") || has("BEGIN RSA PUBLIC KEY") {
        "it holds a public key"
    } else if has("PRIVATE KEY") && !has("BEGIN CERTIFICATE") {
        "it holds a private key"
    } else if content.first() == Some(&0x30) {
        "it is binary (DER); convert it to PEM with openssl"
    } else {
        return None;
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::raw_server::TestDir;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn what_is_there_instead_is_told() {
        let dir = TestDir::new();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("one"), "x").unwrap();
        fs::create_dir(at("two")).unwrap();
        symlink("/nonexistent/x", at("three")).unwrap();
        assert_eq!(unreadable(&at("one")), None);
        let told = |name: &str| unreadable(&at(name)).unwrap();
        assert!(
            told("none").ends_with("has: one, three, two"),
            "{}",
            told("none")
        );
        assert!(
            told("a/b/c").contains("nothing is mounted there"),
            "{}",
            told("a/b/c")
        );
        assert!(told("two").ends_with("is a directory, not a file; in it: nothing"));
        assert!(told("three").ends_with("is a link that leads nowhere"));
        // Root opens everything.
        if own_uid() != 0 {
            fs::set_permissions(at("one"), fs::Permissions::from_mode(0o0)).unwrap();
            assert!(told("one").contains("has mode 0"), "{}", told("one"));
        }
    }

    #[test]
    fn what_does_not_belong_to_a_secret_is_told() {
        for (content, part) in [
            (b"\xef\xbb\xbfs3cr3t\n".as_slice(), "byte order mark"),
            (b" s3cr3t", "white space"),
            (b"s3\ncr3t\n", "several lines"),
            (b"\"s3cr3t\"\n", "quotes"),
        ] {
            let told = oddity(content).unwrap();
            assert!(told.contains(part) && !told.contains("s3"), "{told}");
        }
        for fine in [b"s3cr3t\n".as_slice(), b"s3cr3t\r\n", b"s3 cr3t", b"'"] {
            assert_eq!(oddity(fine), None);
        }
    }

    #[test]
    fn what_stands_in_place_of_a_key_is_told() {
        for (content, part) in [
            (b" \n".as_slice(), "empty"),
            (
                b"\xef\xbb\xbf-----BEGIN PRIVATE KEY-----",
                "byte order mark",
            ),
            (b"-----BEGIN ENCRYPTED PRIVATE KEY-----", "passphrase"),
            (b"-----BEGIN OPENSSH PRIVATE KEY-----", "OpenSSH"),
            (b"-----BEGIN CERTIFICATE-----", "a certificate"),
            (b"-----BEGIN PUBLIC KEY-----", "public"),
            (b"-----BEGIN EC PRIVATE KEY-----", "a private key"),
            (b"\x30\x82\x01", "binary"),
        ] {
            let told = pem_oddity(content).unwrap();
            assert!(told.contains(part), "{told}");
        }
        assert_eq!(pem_oddity(b"hello"), None);
    }
}
