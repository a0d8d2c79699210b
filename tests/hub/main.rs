//! Pulling models from a hub on the loopback interface: what arrives, and everything that can go
//! wrong on the way. Nobody sleeps: waits are counted, and gates open when the other side is there.

mod failures;
mod process;
mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use harkd::hub::{
    Hub, HubError, Patience, Progress, Pull, Release, Settings, Snapshot, TRANSFORMERS,
};
use server::{Act, COMMIT, REPO, Server, sha256, weights};
use tempfile::TempDir;

/// A user with a cache and a token.
struct Home {
    dir: TempDir,
}

impl Home {
    fn new() -> Self {
        Home {
            dir: TempDir::new().unwrap(),
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// A path in the folder of the repository.
    fn repo(&self, path: &str) -> PathBuf {
        self.path("hf/hub/models--org--name").join(path)
    }

    /// What has arrived of a file of the server.
    fn partial(&self, server: &Server, file: &str) -> PathBuf {
        self.repo(&format!("blobs/{}.incomplete", server.etag(file)))
    }

    fn settings(&self, endpoint: &str, vars: &[(&str, &str)]) -> Settings {
        let hf_home = self.path("hf");
        let mut settings = Settings::new(self.dir.path(), |name| {
            let own = match name {
                "HF_HOME" => hf_home.to_str(),
                "HF_ENDPOINT" => Some(endpoint),
                _ => None,
            };
            let given = vars.iter().find(|(key, _)| *key == name);
            given.map(|(_, value)| *value).or(own).map(Into::into)
        })
        .unwrap();
        settings.patience = Patience {
            wait: |_| {},
            ..Patience::default()
        };
        settings
    }

    fn hub(&self, server: &Server) -> Hub {
        Hub::new(self.settings(&server.url(), &[]))
    }

    fn hub_with(&self, server: &Server, vars: &[(&str, &str)]) -> Hub {
        Hub::new(self.settings(&server.url(), vars))
    }

    /// A hub that does not try twice.
    fn impatient(&self, server: &Server) -> Hub {
        let mut settings = self.settings(&server.url(), &[]);
        settings.patience.attempts = 1;
        Hub::new(settings)
    }
}

fn at(revision: &str) -> Pull<'_> {
    Pull {
        repo: REPO,
        revision,
        files: TRANSFORMERS,
    }
}

fn pull(hub: &Hub) -> Result<Snapshot, HubError> {
    hub.pull(&at("main"), &mut |_| {})
}

/// Pulls, and gives the reasons and waits of all further attempts.
fn pull_telling(hub: &Hub) -> (Result<Snapshot, HubError>, Vec<(String, Duration)>) {
    let mut told = Vec::new();
    let result = hub.pull(&at("main"), &mut |said| {
        if let Progress::Again { reason, wait, .. } = said {
            told.push((reason.to_owned(), wait));
        }
    });
    (result, told)
}

fn names(snapshot: &Snapshot) -> Vec<&str> {
    snapshot
        .files
        .iter()
        .map(|file| file.name.as_str())
        .collect()
}

fn check_whole(home: &Home) {
    let path = home.repo(&format!("snapshots/{COMMIT}/model.safetensors"));
    assert!(fs::read(path).unwrap() == weights(), "the weights differ");
    let left = fs::read_dir(home.repo("blobs")).unwrap();
    for entry in left {
        let name = entry.unwrap().file_name();
        assert!(!name.to_string_lossy().contains("incomplete"), "{name:?}");
    }
}

#[test]
fn a_pull_fills_the_cache_in_the_layout_that_python_reads() {
    let (server, home) = (Server::with_model(), Home::new());
    let snapshot = pull(&home.hub(&server)).unwrap();
    let wanted = ["config.json", "model.safetensors", "tokenizer.json"];
    assert_eq!(names(&snapshot), wanted);
    assert_eq!(snapshot.commit, COMMIT);
    assert_eq!(snapshot.dir, home.repo(&format!("snapshots/{COMMIT}")));
    assert_eq!(snapshot.bytes(), snapshot.downloaded);
    assert_eq!(snapshot.from_cache, None);
    check_whole(&home);
    for name in wanted {
        let link = fs::read_link(snapshot.dir.join(name)).unwrap();
        assert_eq!(link, Path::new("../../blobs").join(server.etag(name)));
        let lock = format!("hf/hub/.locks/models--org--name/{}.lock", server.etag(name));
        assert!(home.path(&lock).is_file());
    }
    assert_eq!(fs::read_to_string(home.repo("refs/main")).unwrap(), COMMIT);
    assert!(
        home.repo(&format!(".no_exist/{COMMIT}/vocab.txt"))
            .is_file()
    );
    assert!(home.path("hf/hub/CACHEDIR.TAG").is_file());
    assert!(server.gets("README.md").is_empty());
}

#[test]
fn what_is_here_is_not_asked_for_again() {
    let (server, home) = (Server::with_model(), Home::new());
    let hub = home.hub(&server);
    pull(&hub).unwrap();
    let asked = server.log().len();
    let again = pull(&hub).unwrap();
    assert_eq!((again.downloaded, again.files.len()), (0, 3));
    assert_eq!(server.log().len(), asked + 1, "one listing");
    // The same content under another name is a link.
    server.delete("tokenizer.json");
    server.put("vocab.json", b"{}", false);
    fs::remove_dir_all(home.repo("snapshots")).unwrap();
    fs::remove_dir_all(home.repo(".no_exist")).unwrap();
    let linked = pull(&hub).unwrap();
    assert_eq!(linked.downloaded, 0);
    assert_eq!(
        names(&linked),
        ["config.json", "model.safetensors", "vocab.json"]
    );
}

#[test]
fn a_pinned_commit_needs_no_network_once_it_is_here() {
    let (server, home) = (Server::with_model(), Home::new());
    let hub = home.hub(&server);
    let first = hub.pull(&at(COMMIT), &mut |_| {}).unwrap();
    assert_eq!(first.from_cache, None);
    assert!(!home.repo("refs").exists(), "a commit needs no reference");
    let asked = server.log().len();
    let second = hub.pull(&at(COMMIT), &mut |_| {}).unwrap();
    assert!(second.from_cache.is_some());
    assert_eq!(second.files, first.files);
    assert_eq!(server.log().len(), asked);
    // With a file less it is not complete any more.
    fs::remove_file(first.dir.join("tokenizer.json")).unwrap();
    let third = hub.pull(&at(COMMIT), &mut |_| {}).unwrap();
    assert_eq!(third.files, first.files);
    assert!(server.log().len() > asked);
}

#[test]
fn without_a_network_the_cache_answers_and_says_so() {
    let (server, home) = (Server::with_model(), Home::new());
    let whole = pull(&home.hub(&server)).unwrap();
    let asked = server.log().len();
    let offline = home.hub_with(&server, &[("HF_HUB_OFFLINE", "1")]);
    let cached = pull(&offline).unwrap();
    assert!(cached.from_cache.unwrap().contains("HF_HUB_OFFLINE"));
    assert_eq!(server.log().len(), asked);
    let away = home.hub(&server);
    server.on_listing([Act::Status(503, vec![])]);
    let reason = pull(&away).unwrap().from_cache.unwrap();
    assert!(reason.contains("503"), "{reason}");
    drop(server);
    let mut told = String::new();
    let cached = away
        .pull(&at("main"), &mut |said| {
            if let Progress::FromCache { reason } = said {
                told = reason.to_owned();
            }
        })
        .unwrap();
    assert!(told.contains("cannot reach http://127.0.0.1"), "{told}");
    assert_eq!(cached.files, whole.files);
    assert_eq!(away.find(&at("main")).unwrap().files, whole.files);
    assert_eq!(away.installed(REPO, "main").unwrap().files, whole.files);
    assert_eq!(away.installed(REPO, "v1"), None);
}

#[test]
fn without_a_network_and_a_cache_the_error_says_what_to_do() {
    let (server, home) = (Server::with_model(), Home::new());
    let error = pull(&home.hub_with(&server, &[("HF_HUB_OFFLINE", "1")])).unwrap_err();
    assert!(matches!(error, HubError::Offline(_)), "{error}");
    assert!(error.to_string().contains("unset it"), "{error}");
    assert!(server.log().is_empty());
    let hub = home.hub(&server);
    drop(server);
    let error = pull(&hub).unwrap_err();
    assert!(matches!(error, HubError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("HF_ENDPOINT"), "{error}");
    assert!(!home.path("hf").exists(), "nothing was made");
}

#[test]
fn weights_come_as_safetensors_else_as_shards_else_as_pickles() {
    let (server, home) = (Server::new(), Home::new());
    let hub = home.hub(&server);
    let without = |server: &Server, file: &str| {
        server.delete(file);
        let _ = hub.remove(REPO, None);
        pull(&hub).map(|snapshot| names(&snapshot).join(" "))
    };
    server.put("config.json", b"{}", false);
    server.put("pytorch_model.bin", b"pickle", true);
    server.put("model.safetensors", b"one", true);
    server.put("s-1-of-2.safetensors", b"first", true);
    server.put("s-2-of-2.safetensors", b"second", true);
    let index = br#"{"weight_map":{"a":"s-2-of-2.safetensors","b":"s-1-of-2.safetensors"}}"#;
    server.put("model.safetensors.index.json", index, false);
    assert_eq!(
        without(&server, "x").unwrap(),
        "config.json model.safetensors"
    );
    assert_eq!(
        without(&server, "model.safetensors").unwrap(),
        "config.json model.safetensors.index.json s-1-of-2.safetensors s-2-of-2.safetensors"
    );
    let offline = home.hub_with(&server, &[("HF_HUB_OFFLINE", "1")]);
    assert_eq!(pull(&offline).unwrap().files.len(), 4);
    let error = without(&server, "s-1-of-2.safetensors").unwrap_err();
    assert!(
        error.to_string().contains("s-1-of-2.safetensors"),
        "{error}"
    );
    assert_eq!(
        without(&server, "model.safetensors.index.json").unwrap(),
        "config.json pytorch_model.bin"
    );
    let error = without(&server, "pytorch_model.bin").unwrap_err();
    assert!(
        error.to_string().contains("one of model.safetensors"),
        "{error}"
    );
}

#[test]
fn the_token_goes_to_the_hub_and_to_nobody_else() {
    let (server, cdn, home) = (Server::with_model(), Server::with_model(), Home::new());
    server.redirect_to(&cdn);
    let hub = home.hub_with(&server, &[("HF_TOKEN", "hf_secret")]);
    pull(&hub).unwrap();
    check_whole(&home);
    for request in server.log() {
        assert_eq!(request.header("Authorization"), Some("Bearer hf_secret"));
    }
    let elsewhere = cdn.log();
    assert_eq!(elsewhere.len(), 1);
    assert!(elsewhere[0].path.starts_with("/cdn/model.safetensors?"));
    assert_eq!(elsewhere[0].header("Authorization"), None);
}

#[test]
fn a_resumed_download_goes_through_the_redirect_again() {
    let (server, cdn, home) = (Server::with_model(), Server::with_model(), Home::new());
    server.redirect_to(&cdn);
    cdn.on_get("model.safetensors", [Act::Cut(2_000_000)]);
    pull(&home.hub(&server)).unwrap();
    check_whole(&home);
    let ranges: Vec<_> = cdn
        .log()
        .iter()
        .map(|r| r.header("Range").map(str::to_owned))
        .collect();
    assert_eq!(ranges, [None, Some("bytes=2000000-".to_owned())]);
    assert_eq!(server.gets("/model.safetensors").len(), 2);
}

#[test]
fn a_release_file_is_fetched_by_its_address_and_checksum() {
    let (server, home) = (Server::with_model(), Home::new());
    let hub = home.hub_with(&server, &[("HF_TOKEN", "hf_secret")]);
    let elsewhere = Server::with_model();
    let url = format!("{}/cdn/model.safetensors", elsewhere.url());
    let right = sha256(&weights());
    let release = Release {
        url: &url,
        sha256: Some(&right),
    };
    let to = home.path("data/hark/models/yamnet/yamnet.tflite");
    elsewhere.on_get("model.safetensors", [Act::Cut(3_000_000)]);
    let bytes = hub.fetch_file(&release, &to, &mut |_| {}).unwrap();
    assert_eq!(bytes, weights().len() as u64);
    assert!(fs::read(&to).unwrap() == weights());
    let ranges: Vec<_> = elsewhere
        .log()
        .iter()
        .map(|r| r.header("Range").map(str::to_owned))
        .collect();
    assert_eq!(ranges, [None, Some("bytes=3000000-".to_owned())]);
    for request in elsewhere.log() {
        assert_eq!(request.header("Authorization"), None);
    }
    let beside: Vec<_> = fs::read_dir(to.parent().unwrap()).unwrap().collect();
    assert_eq!(beside.len(), 1, "{beside:?}");
    // It is here, so nobody is asked.
    assert_eq!(hub.fetch_file(&release, &to, &mut |_| {}).unwrap(), 0);
    assert_eq!(elsewhere.log().len(), 2);
    // A damaged one is replaced.
    fs::write(&to, b"damaged").unwrap();
    hub.fetch_file(&release, &to, &mut |_| {}).unwrap();
    assert!(fs::read(&to).unwrap() == weights());
    let wrong = "0".repeat(64);
    let release = Release {
        url: &url,
        sha256: Some(&wrong),
    };
    let error = hub.fetch_file(&release, &to, &mut |_| {}).unwrap_err();
    let text = error.to_string();
    for part in ["yamnet.tflite", &wrong, &right] {
        assert!(text.contains(part), "{text}");
    }
    assert!(fs::read(&to).unwrap() == weights(), "the old one stays");
    let url = format!("{}/cdn/none", elsewhere.url());
    let release = Release {
        url: &url,
        sha256: Some(&wrong),
    };
    let error = hub.fetch_file(&release, &to, &mut |_| {}).unwrap_err();
    assert!(matches!(error, HubError::NotFound(_)), "{error}");
}

#[test]
fn what_was_pulled_can_be_removed() {
    let (server, home) = (Server::with_model(), Home::new());
    let hub = home.hub(&server);
    let pulled = pull(&hub).unwrap();
    let removed = hub.remove(REPO, None).unwrap();
    assert_eq!(removed.bytes, pulled.bytes());
    assert_eq!(removed.files, 3);
    assert_eq!(hub.installed(REPO, "main"), None);
    assert!(!home.repo("").exists());
    let error = hub.remove(REPO, None).unwrap_err();
    assert!(matches!(error, HubError::NotInstalled(_)), "{error}");
}

#[test]
fn a_release_file_without_a_checksum_is_held_to_its_length() {
    let (server, home) = (Server::with_model(), Home::new());
    let hub = home.hub(&server);
    let url = format!("{}/cdn/model.safetensors", server.url());
    let release = Release {
        url: &url,
        sha256: None,
    };
    let to = home.path("mn10.pt");
    // What an earlier run has left could be of anything.
    fs::write(home.path(".mn10.pt.incomplete"), b"anything").unwrap();
    server.on_get("model.safetensors", [Act::Cut(2_000_000)]);
    hub.fetch_file(&release, &to, &mut |_| {}).unwrap();
    assert!(fs::read(&to).unwrap() == weights());
    let gets = server.gets("/cdn/model.safetensors");
    let ranges: Vec<_> = gets.iter().map(|r| r.header("Range")).collect();
    assert_eq!(ranges, [None, Some("bytes=2000000-")]);
}
