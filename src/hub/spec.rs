//! What a name on the command line stands for, where it is something to download.

use super::select::{SPEECHBRAIN, TRANSFORMERS, Wanted};

/// What is to be downloaded for one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PullSpec {
    /// Files of a repository on the hub, into the shared cache.
    Repository {
        /// `ORG/NAME`.
        repo: String,
        /// Branch, tag or commit.
        revision: String,
        /// Which of its files.
        files: &'static [Wanted<'static>],
    },
    /// Release files from elsewhere, into a folder of their own.
    Release {
        /// The name of the folder.
        name: String,
        /// The files.
        files: Vec<ReleaseFile>,
    },
}

/// A file that is published outside any hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReleaseFile {
    /// Its name in the folder.
    pub file: &'static str,
    /// Where it is.
    pub url: &'static str,
    /// Its SHA-256, lower-case hexadecimal, where one is known.
    pub sha256: Option<&'static str>,
}

impl PullSpec {
    /// `ORG/NAME` or `ORG/NAME@REVISION`, with the files of a model in the layout of transformers, or
    /// of SpeechBrain for what that organisation publishes.
    /// Nothing for a name without a `/`, which is no repository of anyone's. Whether the parts are
    /// well formed is for the pull to say.
    pub fn of_repository(name: &str) -> Option<Self> {
        let (repo, revision) = name.split_once('@').unwrap_or((name, "main"));
        repo.contains('/').then(|| PullSpec::Repository {
            repo: repo.to_owned(),
            revision: revision.to_owned(),
            files: if repo.starts_with("speechbrain/") {
                SPEECHBRAIN
            } else {
                TRANSFORMERS
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_told_from_a_name() {
        let check = |name: &str, expected: Option<(&str, &str)>| {
            let spec = PullSpec::of_repository(name);
            let got = spec.as_ref().map(|spec| match spec {
                PullSpec::Repository { repo, revision, .. } => (repo.as_str(), revision.as_str()),
                PullSpec::Release { .. } => panic!("{name}"),
            });
            assert_eq!(got, expected, "{name}");
        };
        check("MIT/ast", Some(("MIT/ast", "main")));
        check("MIT/ast@v1", Some(("MIT/ast", "v1")));
        check("MIT/ast@refs/pr/1", Some(("MIT/ast", "refs/pr/1")));
        check("yamnet", None);
        check("hark-event@main", None);
    }
}
