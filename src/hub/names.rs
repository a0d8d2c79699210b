//! Names that become paths and addresses: repositories, revisions, files, commits, ETags. What a
//! server or a user says is looked at here before anything is made of it.
//!
//! The rules for repository names are those of `huggingface_hub` 2.4 (`utils/_validators.py`).

use super::error::HubError;

/// The longest name of an organisation or a repository, in bytes.
const MAX_NAME: usize = 96;

/// The longest component of a path that Linux file systems take, in bytes, less what the names of
/// unfinished files add.
const MAX_COMPONENT: usize = 200;

/// The longest path of a file inside a repository, in bytes.
const MAX_PATH: usize = 1024;

/// Accepts `ORG/NAME`, or `NAME` alone as the oldest repositories have it.
///
/// # Errors
/// When it is neither.
pub fn check_repo(repo: &str) -> Result<(), HubError> {
    let refuse = |why: &str| {
        Err(HubError::Name(format!(
            "'{}' is no repository: {why}; expected ORG/NAME, as in MIT/ast-finetuned-audioset-10-10-0.4593",
            repo.escape_debug()
        )))
    };
    let parts: Vec<&str> = repo.split('/').collect();
    if parts.len() > 2 {
        return refuse("it has more than one '/'");
    }
    for part in parts {
        if part.is_empty() || part.len() > MAX_NAME {
            return refuse("each part has 1 to 96 characters");
        }
        let known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if !part.chars().all(known) {
            return refuse("only letters, digits, '-', '_' and '.' are allowed");
        }
        if part.starts_with(['-', '.']) || part.ends_with(['-', '.']) {
            return refuse("no part begins or ends with '-' or '.'");
        }
    }
    if repo.contains("--") || repo.contains("..") || repo.ends_with(".git") {
        return refuse("'--', '..' and a final '.git' are not allowed");
    }
    Ok(())
}

/// Accepts a branch, a tag, a commit, or `refs/pr/N`.
///
/// # Errors
/// When it could not be a path below `refs/`.
pub fn check_revision(revision: &str) -> Result<(), HubError> {
    path_trouble(revision).map_or(Ok(()), |why| {
        Err(HubError::Name(format!(
            "'{}' is no revision: {why}; expected a branch, a tag or a commit",
            revision.escape_debug()
        )))
    })
}

/// Why `path` is no file inside a repository, if it is none.
pub fn path_trouble(path: &str) -> Option<&'static str> {
    if path.is_empty() {
        return Some("it is empty");
    }
    if path.len() > MAX_PATH {
        return Some("it is too long");
    }
    if path.starts_with('/') {
        return Some("it is absolute");
    }
    if path.chars().any(char::is_control) {
        return Some("it holds a control character");
    }
    if path.contains('\\') {
        return Some("it holds a backslash");
    }
    for part in path.split('/') {
        match part {
            "" => return Some("it has an empty part"),
            "." | ".." => return Some("it leads out of its folder"),
            _ if part.len() > MAX_COMPONENT => return Some("a part of it is too long"),
            _ => {}
        }
    }
    None
}

/// Whether this is the full name of a commit: 40 lower-case hexadecimal digits.
pub fn is_commit(revision: &str) -> bool {
    is_hex(revision, 40)
}

/// Whether `text` is `digits` lower-case hexadecimal digits.
pub fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// An ETag without its quotes and its mark of weakness.
pub fn plain_etag(etag: &str) -> &str {
    let etag = etag.trim();
    etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"')
}

/// Escapes a path for an address; with `slashes` a `/` stays.
pub fn escape(path: &str, slashes: bool) -> String {
    let mut escaped = String::with_capacity(path.len());
    for byte in path.bytes() {
        let plain =
            byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || (slashes && byte == b'/');
        if plain {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_told_from_what_is_none() {
        for good in [
            "gpt2",
            "MIT/ast-finetuned-audioset-10-10-0.4593",
            "a_b/c.d",
            "0x/y",
        ] {
            assert!(check_repo(good).is_ok(), "{good}");
        }
        for bad in [
            "", "/", "a/", "/a", "a/b/c", "../x", "a/..", "a/b..c", "a--b/c", "-a/b", "a/.b",
            "a/b.", "a b/c", "a/b\0", "café/x", "a/b.git", "a/%2e",
        ] {
            let error = check_repo(bad).unwrap_err().to_string();
            assert!(error.contains("ORG/NAME"), "{error}");
        }
        assert!(check_repo(&"a".repeat(97)).is_err());
    }

    #[test]
    fn paths_stay_inside_their_folder() {
        for good in [
            "config.json",
            "1_Pooling/config.json",
            "a b/c",
            "ä.txt",
            "..a/b",
        ] {
            assert_eq!(path_trouble(good), None, "{good}");
        }
        for bad in [
            "",
            "/etc/passwd",
            "../x",
            "a/../../x",
            "a//b",
            "a/",
            "./a",
            "a\0b",
            "a\nb",
            "a\\..\\b",
        ] {
            assert!(path_trouble(bad).is_some(), "{bad:?}");
        }
        assert!(path_trouble(&"a".repeat(201)).is_some());
        assert!(path_trouble(&"a/".repeat(600)).is_some());
        assert!(check_revision("refs/pr/1").is_ok());
        assert!(check_revision("../main").is_err());
    }

    #[test]
    fn etags_and_addresses_are_plain() {
        assert_eq!(plain_etag("\"abc\""), "abc");
        assert_eq!(plain_etag("W/\"abc\""), "abc");
        assert_eq!(plain_etag("abc"), "abc");
        assert_eq!(escape("refs/pr/1", false), "refs%2Fpr%2F1");
        assert_eq!(escape("a b/ä?#.bin", true), "a%20b/%C3%A4%3F%23.bin");
    }
}
