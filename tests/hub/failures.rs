//! Servers that cut, lie, refuse and stall.

use std::fs;
use std::time::Duration;

use harkd::hub::{Hub, HubError, Pull, TRANSFORMERS};

use crate::server::{Act, COMMIT, REPO, Server, weights};
use crate::{Home, at, check_whole, pull, pull_telling};

const WEIGHTS: &str = "model.safetensors";

fn ranges(server: &Server) -> Vec<Option<String>> {
    let gets = server.gets(&format!("/cdn/{WEIGHTS}?sig=1"));
    gets.iter()
        .map(|request| request.header("Range").map(str::to_owned))
        .collect()
}

#[test]
fn a_cut_download_goes_on_where_it_stopped() {
    let (server, home) = (Server::with_model(), Home::new());
    server.on_get(WEIGHTS, [Act::Cut(1_500_000), Act::Cut(500_000)]);
    let (result, told) = pull_telling(&home.hub(&server));
    assert_eq!(result.unwrap().files.len(), 3);
    check_whole(&home);
    assert_eq!(told.len(), 2, "{told:?}");
    let expected = [
        None,
        Some("bytes=1500000-".into()),
        Some("bytes=2000000-".into()),
    ];
    assert_eq!(ranges(&server), expected);
}

#[test]
fn the_next_pull_goes_on_where_the_last_one_gave_up() {
    let (server, home) = (Server::with_model(), Home::new());
    server.on_get(WEIGHTS, [Act::Cut(2_345_678)]);
    let error = pull(&home.impatient(&server)).unwrap_err();
    assert!(
        matches!(error, HubError::GaveUp { attempts: 1, .. }),
        "{error}"
    );
    let partial = home.partial(&server, WEIGHTS);
    assert_eq!(fs::metadata(&partial).unwrap().len(), 2_345_678);
    assert!(!home.repo(&format!("snapshots/{COMMIT}/{WEIGHTS}")).exists());
    assert!(!home.repo("refs/main").exists());
    let snapshot = pull(&home.hub(&server)).unwrap();
    assert!(snapshot.downloaded > 0);
    check_whole(&home);
    assert_eq!(ranges(&server), [None, Some("bytes=2345678-".into())]);
}

#[test]
fn a_server_without_ranges_is_no_obstacle() {
    for act in [
        Act::IgnoreRange,
        Act::Status(416, vec![]),
        Act::EarlyRange(1000),
    ] {
        let (server, home) = (Server::with_model(), Home::new());
        server.on_get(WEIGHTS, [Act::Cut(2_000_000), act]);
        pull(&home.hub(&server)).unwrap();
        check_whole(&home);
    }
}

#[test]
fn what_was_left_may_be_whole_too_long_or_damaged() {
    let len = weights().len();
    for (left, asked) in [
        (weights(), vec![]),
        (vec![1; len + 1], vec![None]),
        (vec![1; len], vec![None]),
        (vec![1; 10], vec![Some("bytes=10-".to_owned()), None]),
    ] {
        let (server, home) = (Server::with_model(), Home::new());
        let partial = home.partial(&server, WEIGHTS);
        fs::create_dir_all(partial.parent().unwrap()).unwrap();
        fs::write(&partial, &left).unwrap();
        pull(&home.hub(&server)).unwrap();
        check_whole(&home);
        assert_eq!(ranges(&server), asked, "{} bytes", left.len());
    }
}

#[test]
fn wrong_bytes_are_thrown_away_and_told() {
    for (file, kind) in [(WEIGHTS, "sha256"), ("config.json", "git sha1")] {
        let (server, home) = (Server::with_model(), Home::new());
        server.on_get(file, [Act::Wrong]);
        let error = pull(&home.hub(&server)).unwrap_err();
        let text = error.to_string();
        for part in [file, kind, &server.etag(file)] {
            assert!(text.contains(part), "{text}");
        }
        let HubError::Checksum { got, .. } = error else {
            panic!("{error}");
        };
        assert!(text.contains(&got) && got != server.etag(file));
        assert!(!home.partial(&server, file).exists());
        assert!(!home.repo(&format!("snapshots/{COMMIT}/{file}")).exists());
        pull(&home.hub(&server)).unwrap();
        check_whole(&home);
    }
}

#[test]
fn a_server_in_trouble_is_asked_again_and_not_forever() {
    let (server, home) = (Server::with_model(), Home::new());
    let busy = || Act::Status(503, vec![]);
    server.on_listing([busy(), Act::Cut(20), Act::Serve]);
    server.on_head(WEIGHTS, [Act::Status(500, vec![])]);
    server.on_get("config.json", [busy(), Act::Cut(3)]);
    let (result, told) = pull_telling(&home.hub(&server));
    result.unwrap();
    check_whole(&home);
    assert_eq!(told.len(), 5, "{told:?}");
    let home = Home::new();
    server.on_get(WEIGHTS, (0..9).map(|_| busy()));
    let (result, told) = pull_telling(&home.hub(&server));
    let error = result.unwrap_err();
    assert!(
        matches!(error, HubError::GaveUp { attempts: 5, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("503"), "{error}");
    assert_eq!(told.len(), 4);
}

#[test]
fn what_no_retry_changes_is_not_retried() {
    for status in [400, 401, 403, 404, 410, 451] {
        let (server, home) = (Server::with_model(), Home::new());
        server.on_listing([Act::Status(status, vec![])]);
        let (result, told) = pull_telling(&home.hub(&server));
        let error = result.unwrap_err();
        assert!(!error.to_string().is_empty());
        assert!(told.is_empty(), "{status}: {told:?}");
        assert_eq!(server.log().len(), 1, "{status}");
    }
}

#[test]
fn a_server_says_when_to_come_back() {
    let (server, home) = (Server::with_model(), Home::new());
    let wait = |text: &str| Act::Status(429, vec![("Retry-After", text.to_owned())]);
    server.on_listing([wait("7")]);
    let dates = vec![
        ("Date", "Sun, 06 Nov 1994 08:49:37 GMT".to_owned()),
        ("Retry-After", "Sun, 06 Nov 1994 08:49:48 GMT".to_owned()),
    ];
    server.on_resolve(WEIGHTS, [Act::Status(503, dates)]);
    let (result, told) = pull_telling(&home.hub(&server));
    result.unwrap();
    let waits: Vec<_> = told.iter().map(|(_, wait)| wait.as_secs()).collect();
    assert_eq!(waits, [7, 11]);
    let home = Home::new();
    server.on_listing([wait("3600")]);
    let error = pull(&home.hub(&server)).unwrap_err();
    assert!(
        matches!(error, HubError::Busy { wait_s: 3600, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("3600 s"), "{error}");
}

#[test]
fn a_server_that_stalls_is_left() {
    let (server, home) = (Server::with_model(), Home::new());
    server.on_get(WEIGHTS, [Act::Stall(1_200_000)]);
    let mut settings = home.settings(&server.url(), &[]);
    settings.patience.no_bytes = Duration::from_millis(300);
    let (result, told) = pull_telling(&Hub::new(settings));
    result.unwrap();
    check_whole(&home);
    // A loaded machine may make the server look stalled more than once.
    assert!(!told.is_empty());
    assert!(ranges(&server).contains(&Some("bytes=1200000-".into())));
}

fn check_denied(act: Act, vars: &[(&str, &str)], parts: &[&str]) {
    let (server, home) = (Server::with_model(), Home::new());
    server.on_listing([act.clone()]);
    server.on_get("config.json", [act]);
    let hub = home.hub_with(&server, vars);
    // The listing of a gated repository is open, its files are not.
    for _ in ["listing", "file"] {
        let error = pull(&hub).unwrap_err();
        assert!(matches!(error, HubError::Denied(_)), "{error}");
        let text = error.to_string();
        let page = format!("{}/{REPO}", server.url());
        for part in parts
            .iter()
            .chain([&REPO, &page.as_str(), &"HF_TOKEN", &"licence"])
        {
            assert!(text.contains(part), "{text} lacks {part}");
        }
        assert!(!text.contains("hf_secret"), "{text}");
    }
}

#[test]
fn who_may_not_read_is_told_how_to() {
    let gated = vec![("X-Error-Code", "GatedRepo".to_owned())];
    let token = [("HF_TOKEN", "hf_secret")];
    check_denied(Act::Status(401, vec![]), &[], &["401", "check the name"]);
    check_denied(
        Act::Status(401, vec![]),
        &token,
        &["401", "does not accept the token"],
    );
    check_denied(
        Act::Status(401, gated.clone()),
        &[],
        &["accept", "settings/tokens"],
    );
    check_denied(
        Act::Status(403, gated),
        &token,
        &["403", "the account of the token"],
    );
}

#[test]
fn what_is_not_there_is_named() {
    let (server, home) = (Server::with_model(), Home::new());
    let hub = home.hub(&server);
    let check = |repo: &str, revision: &str, parts: &[&str]| {
        let pull = Pull {
            repo,
            revision,
            files: TRANSFORMERS,
        };
        let error = hub.pull(&pull, &mut |_| {}).unwrap_err();
        assert!(matches!(error, HubError::NotFound(_)), "{error}");
        for part in parts {
            assert!(error.to_string().contains(part), "{error} lacks {part}");
        }
    };
    check(
        "org/nome",
        "main",
        &["no repository 'org/nome'", "spelling"],
    );
    check(REPO, "v2", &["no revision 'v2'", "main"]);
    server.on_get("config.json", [Act::Status(404, vec![])]);
    check(REPO, "main", &["no file 'config.json'"]);
    server.delete("config.json");
    server.put("Config.json", b"{}", false);
    check(
        REPO,
        "main",
        &["no config.json", "did you mean 'Config.json'?"],
    );
    for repo in ["name/../x", "a/b/c", "", "a/..", "/a"] {
        let error = hub
            .pull(&Pull { repo, ..at("main") }, &mut |_| {})
            .unwrap_err();
        assert!(matches!(error, HubError::Name(_)), "{error}");
    }
    let error = hub.pull(&at("../main"), &mut |_| {}).unwrap_err();
    assert!(matches!(error, HubError::Name(_)), "{error}");
}

/// A pull that must fail for what the server says, without a file outside the cache or a link.
fn check_refused(prepare: impl FnOnce(&Server), parts: &[&str]) {
    let (server, home) = (Server::with_model(), Home::new());
    prepare(&server);
    let (result, told) = pull_telling(&home.hub(&server));
    let error = result.unwrap_err();
    for part in parts {
        assert!(error.to_string().contains(part), "{error} lacks {part}");
    }
    assert!(told.is_empty(), "{told:?}");
    assert!(!home.repo("refs/main").exists());
    let linked = home.repo(&format!("snapshots/{COMMIT}/{WEIGHTS}"));
    assert!(!linked.exists(), "{error}");
    let made: Vec<_> = fs::read_dir(home.dir.path()).unwrap().flatten().collect();
    assert!(
        made.iter().all(|entry| entry.file_name() == "hf"),
        "{made:?}"
    );
}

#[test]
fn names_that_lead_out_of_the_cache_are_refused() {
    for name in [
        "../x",
        "/etc/passwd",
        "a/../../x",
        "a\\u0000b",
        "a\\nb",
        "",
        "a//b",
    ] {
        let listing = format!(
            r#"{{"sha":"{COMMIT}","siblings":[{{"rfilename":"config.json"}},{{"rfilename":"{name}"}}]}}"#
        );
        check_refused(
            |server| server.on_listing([Act::Say(listing)]),
            &["siblings", "no file of a repository"],
        );
    }
    for sha in ["../../x", "main", "", &"A".repeat(40)] {
        let listing = format!(r#"{{"sha":"{sha}","siblings":[]}}"#);
        check_refused(
            |server| server.on_listing([Act::Say(listing)]),
            &["sha: expected a commit"],
        );
    }
    for etag in [
        "../../../x",
        "/etc/passwd",
        "\"d41d8cd98f00b204e9800998ecf8427e\"",
        "",
    ] {
        check_refused(
            |server| {
                server.on_head(
                    WEIGHTS,
                    [Act::With(vec![("X-Linked-Etag", etag.to_owned())])],
                )
            },
            &[WEIGHTS, "ETag: expected"],
        );
    }
    check_refused(
        |server| {
            server.delete(WEIGHTS);
            let index = br#"{"weight_map":{"a":"../../../../x"}}"#;
            server.put("model.safetensors.index.json", index, false);
        },
        &["model.safetensors.index.json", "leads out of its folder"],
    );
    check_refused(
        |server| {
            let location = ("Location", "file:///etc/passwd".to_owned());
            server.on_resolve(WEIGHTS, [Act::With(vec![location])]);
        },
        &[WEIGHTS, "not to an address of the web"],
    );
}

#[test]
fn a_server_that_contradicts_itself_is_not_believed() {
    let with = |name: &'static str, value: &str| Act::With(vec![(name, value.to_owned())]);
    check_refused(
        |server| server.on_head(WEIGHTS, [with("X-Linked-Size", "100")]),
        &[WEIGHTS, "expected 100 bytes, the server sends 3670016"],
    );
    check_refused(
        |server| server.on_head(WEIGHTS, [with("X-Linked-Size", "3670017")]),
        &[WEIGHTS, "expected 3670017 bytes"],
    );
    check_refused(
        |server| server.on_head(WEIGHTS, [with("X-Linked-Size", "-1")]),
        &[WEIGHTS, "size: expected a number of bytes, got '-1'"],
    );
    check_refused(
        |server| server.on_head("config.json", [with("X-Repo-Commit", &"f".repeat(40))]),
        &["config.json", "X-Repo-Commit"],
    );
    check_refused(
        |server| server.on_get(WEIGHTS, [Act::Long(1 << 20)]),
        &[WEIGHTS, "expected 3670016 bytes"],
    );
    check_refused(
        |server| server.on_listing([Act::Say("<html>log in</html>".to_owned())]),
        &["no listing of a hub", "HF_ENDPOINT"],
    );
    check_refused(
        |server| {
            let round = (
                "Location",
                format!("{}/{REPO}/resolve/{COMMIT}/{WEIGHTS}", server.url()),
            );
            server.on_resolve(WEIGHTS, (0..20).map(|_| Act::With(vec![round.clone()])));
        },
        &[WEIGHTS, "redirects"],
    );
}

#[test]
fn a_disk_that_is_too_small_is_known_before_a_byte_is_fetched() {
    let (server, home) = (Server::with_model(), Home::new());
    let size = ("X-Linked-Size", (1_u64 << 60).to_string());
    server.on_head(WEIGHTS, [Act::With(vec![size])]);
    let error = pull(&home.hub(&server)).unwrap_err();
    let HubError::DiskFull { needed, free, .. } = error else {
        panic!("{error}");
    };
    assert!(needed >= 1 << 60 && free > 0 && free < needed);
    assert!(server.gets(WEIGHTS).is_empty() && server.gets("config.json").is_empty());
    assert!(error.to_string().contains("free"), "{error}");
}

#[test]
fn a_disk_that_fills_up_is_told_with_what_is_needed() {
    if !std::path::Path::new("/dev/full").exists() {
        println!("skipped: no /dev/full here");
        return;
    }
    let (server, home) = (Server::with_model(), Home::new());
    // The kernel's own ENOSPC, on the path that the bytes take.
    let partial = home.partial(&server, WEIGHTS);
    fs::create_dir_all(partial.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink("/dev/full", &partial).unwrap();
    let (result, told) = pull_telling(&home.hub(&server));
    let error = result.unwrap_err();
    let HubError::DiskFull { needed, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(needed, weights().len() as u64);
    assert!(
        error.to_string().contains("goes on where it stopped"),
        "{error}"
    );
    assert!(told.is_empty(), "{told:?}");
}
