//! What a hub says of a repository and its files: the listing of a revision
//! (`/api/models/ORG/NAME/revision/REV`) and the headers of a file (`/ORG/NAME/resolve/COMMIT/FILE`),
//! as `huggingface_hub` 2.4 reads them (`hf_api.py`, `file_download.py`).
//!
//! Nothing is believed that would lead out of the cache.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::digest::Checksum;
use super::error::HubError;
use super::http::{Again, Fault, Http, Reply, passing, shown};
use super::names::{escape, is_commit, path_trouble, plain_etag};
use super::progress::Tell;
use super::retry::persist;
use super::settings::Patience;

/// The longest listing that is read: a hundred thousand files.
const MAX_LISTING: u64 = 16 << 20;

/// One revision of one repository on one hub.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The hub.
    pub endpoint: &'a str,
    /// `ORG/NAME`.
    pub repo: &'a str,
    /// Branch, tag or commit.
    pub revision: &'a str,
}

/// What a revision holds.
#[derive(Debug)]
pub struct Listing {
    /// The commit that the revision is now.
    pub commit: String,
    /// The files.
    pub files: BTreeSet<String>,
}

/// What is known of a file before it is downloaded.
#[derive(Debug, Clone)]
pub struct Meta {
    /// Names the content.
    pub checksum: Checksum,
    /// In bytes, where the hub says so.
    pub size: Option<u64>,
}

#[derive(Deserialize)]
struct Answer {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

impl Subject<'_> {
    fn page(&self) -> String {
        format!("{}/{}", self.endpoint, self.repo)
    }

    /// Where a file is.
    pub fn file_url(&self, file: &str) -> String {
        format!(
            "{}/resolve/{}/{}",
            self.page(),
            escape(self.revision, false),
            escape(file, true)
        )
    }

    /// Asks for the listing.
    ///
    /// # Errors
    /// When the hub is away, refuses, or says what cannot be.
    pub fn listing(
        &self,
        http: &Http,
        patience: Patience,
        tell: &mut Tell<'_>,
    ) -> Result<Listing, HubError> {
        let url = format!(
            "{}/api/models/{}/revision/{}",
            self.endpoint,
            self.repo,
            escape(self.revision, false)
        );
        persist(self.repo, patience, tell, |_| {
            let reply = http.get(self.repo, &url, 0)?;
            if reply.status != 200 {
                return Err(passing(&reply)
                    .map_or_else(|| self.refusal(http, &reply, None).into(), Fault::Again));
            }
            self.read(reply)
        })
    }

    fn read(&self, reply: Reply) -> Result<Listing, Fault> {
        let url = reply.url.clone();
        let refuse = |reason: String| {
            Fault::from(HubError::refused(
                self.repo,
                format!("{}: {reason}", shown(&url)),
            ))
        };
        let bytes = match reply
            .body
            .into_with_config()
            .limit(MAX_LISTING)
            .read_to_vec()
        {
            Err(ureq::Error::BodyExceedsLimit(limit)) => {
                return Err(refuse(format!("the listing has more than {limit} bytes")));
            }
            other => other.map_err(|error| Again::cut(error.to_string(), 0))?,
        };
        let answer: Answer = serde_json::from_slice(&bytes).map_err(|error| {
            refuse(format!(
                "this is no listing of a hub ({error}); check HF_ENDPOINT and the proxy"
            ))
        })?;
        if !is_commit(&answer.sha) {
            return Err(refuse(format!(
                "sha: expected a commit, got '{}'",
                answer.sha.escape_debug()
            )));
        }
        let files: BTreeSet<String> = answer.siblings.into_iter().map(|s| s.rfilename).collect();
        for name in &files {
            if let Some(why) = path_trouble(name) {
                return Err(refuse(format!(
                    "siblings: '{}' is no file of a repository: {why}",
                    name.escape_debug()
                )));
            }
        }
        Ok(Listing {
            commit: answer.sha,
            files,
        })
    }

    /// Asks what a file is, at a commit.
    ///
    /// # Errors
    /// As [`Self::listing`].
    pub fn meta(
        &self,
        http: &Http,
        patience: Patience,
        file: &str,
        tell: &mut Tell<'_>,
    ) -> Result<Meta, HubError> {
        let url = self.file_url(file);
        persist(file, patience, tell, |_| {
            let reply = http.head(file, &url)?;
            if reply.status != 200 {
                return Err(passing(&reply).map_or_else(
                    || self.refusal(http, &reply, Some(file)).into(),
                    Fault::Again,
                ));
            }
            self.meta_of(file, &reply).map_err(Fault::from)
        })
    }

    fn meta_of(&self, file: &str, reply: &Reply) -> Result<Meta, HubError> {
        let refuse =
            |reason: String| HubError::refused(file, format!("{}: {reason}", shown(&reply.url)));
        if let Some(commit) = reply.header_on_the_way("X-Repo-Commit")
            && commit != self.revision
        {
            return Err(refuse(format!(
                "X-Repo-Commit: expected {}, got '{}'",
                self.revision,
                commit.escape_debug()
            )));
        }
        let linked = reply.header_on_the_way("X-Linked-Etag");
        let etag = linked
            .or_else(|| reply.header("ETag"))
            .map(plain_etag)
            .ok_or_else(|| {
                refuse("no ETag, so what comes could not be verified; check HF_ENDPOINT".to_owned())
            })?;
        let checksum = Checksum::of_etag(etag).ok_or_else(|| {
            refuse(format!(
                "ETag: expected the SHA-1 or SHA-256 of the file, got '{}'",
                etag.escape_debug()
            ))
        })?;
        let length = if linked.is_some() {
            reply.header_on_the_way("X-Linked-Size")
        } else {
            reply.header("Content-Length")
        };
        let size = match length {
            None => None,
            Some(text) => Some(text.trim().parse().map_err(|_| {
                refuse(format!(
                    "size: expected a number of bytes, got '{}'",
                    text.escape_debug()
                ))
            })?),
        };
        Ok(Meta { checksum, size })
    }

    /// Words a status that no retry changes. The hub's `X-Error-Code` says which of several things a
    /// status means.
    pub fn refusal(&self, http: &Http, reply: &Reply, file: Option<&str>) -> HubError {
        let what = file.unwrap_or(self.repo);
        let status = reply.status;
        if !http.is_hub(&reply.url) {
            return HubError::refused(
                what,
                format!("{} answers with status {status}", shown(&reply.url)),
            );
        }
        let (repo, page, endpoint) = (self.repo, self.page(), self.endpoint);
        let code = reply.header_on_the_way("X-Error-Code").unwrap_or_default();
        let gated = code == "GatedRepo";
        match status {
            401 | 403 if gated && !http.has_token() => HubError::Denied(format!(
                "{repo}: status {status}, it is only for those who accept its licence: do that at \
                 {page}, and set HF_TOKEN to a token of that account ({endpoint}/settings/tokens)"
            )),
            401 if http.has_token() => HubError::Denied(format!(
                "{repo}: status 401, the hub does not accept the token: set HF_TOKEN to a valid one \
                 ({endpoint}/settings/tokens), and if {page} asks for it accept its licence there"
            )),
            401 => HubError::Denied(format!(
                "{repo}: status 401, there is no such repository or it is not public: check the name; \
                 if it is right, set HF_TOKEN to a token ({endpoint}/settings/tokens) of an account that \
                 may read it, and if {page} asks for it accept its licence there"
            )),
            403 => HubError::Denied(format!(
                "{repo}: status 403, the account of the token may not read it: accept its licence at \
                 {page}, or set HF_TOKEN to a token of an account that has"
            )),
            404 => self.not_found(http, code, file),
            _ => HubError::refused(
                what,
                format!("{} answers with status {status}", shown(&reply.url)),
            ),
        }
    }

    fn not_found(&self, http: &Http, code: &str, file: Option<&str>) -> HubError {
        let (repo, revision, endpoint) = (self.repo, self.revision, self.endpoint);
        HubError::NotFound(match (code, file) {
            ("EntryNotFound", Some(file)) | ("", Some(file)) => format!(
                "{repo} has no file '{file}' at {revision}; see {}/tree/{revision}",
                self.page()
            ),
            ("RevisionNotFound", _) => self.no_revision(),
            // Without a code, the revision is at fault when the repository is there.
            ("", None) if revision != "main" && self.is_there(http) => self.no_revision(),
            _ => format!(
                "{endpoint} has no repository '{repo}': check the spelling of ORG/NAME at \
                 {endpoint}/models"
            ),
        })
    }

    fn no_revision(&self) -> String {
        format!(
            "{} has no revision '{}': use main, or a branch, tag or commit that {}/commits shows",
            self.repo,
            self.revision,
            self.page()
        )
    }

    fn is_there(&self, http: &Http) -> bool {
        let url = format!("{}/api/models/{}", self.endpoint, self.repo);
        http.get(self.repo, &url, 0)
            .is_ok_and(|reply| reply.status == 200)
    }
}
