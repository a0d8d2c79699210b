//! A hub on the loopback interface: the listing, the files and the headers of the published one, and
//! a script of what goes wrong. Every request is kept.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use harkd::hub::digest::{Checksum, of_file};
use serde_json::json;
use sha2::{Digest, Sha256};

/// The commit that every revision of the repository is.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
pub const REPO: &str = "org/name";

/// One request, as it came.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    headers: BTreeMap<String, String>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(&name.to_lowercase()).map(String::as_str)
    }
}

/// What happens to one request, in place of an answer that is right.
#[derive(Debug, Clone)]
pub enum Act {
    /// The answer that is right.
    Serve,
    /// The connection ends after so many bytes of the content.
    Cut(usize),
    /// Nothing more comes after so many bytes, until the server ends.
    Stall(usize),
    /// The same, until [`Server::open_gate`].
    Gate(usize),
    /// Every byte is another one.
    Wrong,
    /// The whole content with status 200, whatever was asked for.
    IgnoreRange,
    /// 206 with a `Content-Range` that begins so many bytes too early.
    EarlyRange(u64),
    /// So many bytes more than there are, with no length said.
    Long(usize),
    /// This status and these headers, with no content.
    Status(u16, Vec<(&'static str, String)>),
    /// The right answer with these headers instead of its own.
    With(Vec<(&'static str, String)>),
    /// This content with status 200.
    Say(String),
}

struct State {
    files: BTreeMap<String, Content>,
    acts: BTreeMap<(String, String), VecDeque<Act>>,
    log: Vec<Request>,
    /// Where large files are redirected to; from here if nowhere.
    cdn: Option<String>,
    gate_open: bool,
    over: bool,
}

#[derive(Clone)]
struct Content {
    bytes: Arc<Vec<u8>>,
    /// Kept outside git: SHA-256, redirected.
    large: bool,
    etag: String,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    over: AtomicBool,
}

/// The server; it ends with this value.
pub struct Server {
    at: SocketAddr,
    shared: Arc<Shared>,
    accepts: Option<JoinHandle<()>>,
}

impl Server {
    pub fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                files: BTreeMap::new(),
                acts: BTreeMap::new(),
                log: Vec::new(),
                cdn: None,
                gate_open: false,
                over: false,
            }),
            changed: Condvar::new(),
            over: AtomicBool::new(false),
        });
        let serving = shared.clone();
        let accepts = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if serving.over.load(Ordering::SeqCst) {
                    return;
                }
                let serving = serving.clone();
                let stream = stream.unwrap();
                // A client that has gone is a part of most tests.
                std::thread::spawn(move || serving.answer(stream).unwrap_or(()));
            }
        });
        Server {
            at,
            shared,
            accepts: Some(accepts),
        }
    }

    /// A model: small files in git, weights of three and a half megabytes outside.
    pub fn with_model() -> Self {
        let server = Server::new();
        server.put("config.json", b"{\"model_type\": \"test\"}\n", false);
        server.put("tokenizer.json", b"{}", false);
        server.put("README.md", b"not wanted", false);
        server.put("model.safetensors", &weights(), true);
        server
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.at)
    }

    pub fn put(&self, file: &str, bytes: &[u8], large: bool) {
        let etag = if large {
            sha256(bytes)
        } else {
            git_sha1(bytes)
        };
        let content = Content {
            bytes: Arc::new(bytes.to_vec()),
            large,
            etag,
        };
        self.state(|state| state.files.insert(file.to_owned(), content));
    }

    pub fn delete(&self, file: &str) {
        self.state(|state| state.files.remove(file));
    }

    pub fn etag(&self, file: &str) -> String {
        self.state(|state| state.files[file].etag.clone())
    }

    /// Redirects large files to another server, which is another host by its name.
    pub fn redirect_to(&self, cdn: &Server) {
        let url = format!("http://localhost:{}", cdn.at.port());
        self.state(|state| state.cdn = Some(url));
    }

    /// What happens to the next requests for the content of `file`.
    pub fn on_get(&self, file: &str, acts: impl IntoIterator<Item = Act>) {
        self.on("GET", file, acts);
    }

    /// What happens to the next requests that would redirect to the content of `file`.
    pub fn on_resolve(&self, file: &str, acts: impl IntoIterator<Item = Act>) {
        self.on("RESOLVE", file, acts);
    }

    pub fn on_head(&self, file: &str, acts: impl IntoIterator<Item = Act>) {
        self.on("HEAD", file, acts);
    }

    pub fn on_listing(&self, acts: impl IntoIterator<Item = Act>) {
        self.on("GET", "", acts);
    }

    fn on(&self, method: &str, file: &str, acts: impl IntoIterator<Item = Act>) {
        let key = (method.to_owned(), file.to_owned());
        self.state(|state| state.acts.entry(key).or_default().extend(acts));
    }

    pub fn log(&self) -> Vec<Request> {
        self.state(|state| state.log.clone())
    }

    /// The requests for the content of `file`.
    pub fn gets(&self, file: &str) -> Vec<Request> {
        let mut log = self.log();
        log.retain(|request| request.method == "GET" && request.path.ends_with(file));
        log
    }

    /// Waits until the content of `file` was asked for.
    pub fn wait_for_get(&self, file: &str) {
        let mut state = self.shared.state.lock().unwrap();
        let asked = |state: &State| {
            let mut log = state.log.iter();
            log.any(|request| request.method == "GET" && request.path.ends_with(file))
        };
        while !asked(&state) {
            state = self.shared.changed.wait(state).unwrap();
        }
    }

    pub fn open_gate(&self) {
        self.state(|state| state.gate_open = true);
        self.shared.changed.notify_all();
    }

    fn state<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.shared.state.lock().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        self.state(|state| state.over = true);
        self.shared.changed.notify_all();
        // The one who accepts looks up when somebody comes.
        let _ = TcpStream::connect(self.at);
        self.accepts.take().unwrap().join().unwrap();
    }
}

impl Shared {
    fn answer(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let mut words = line.split_whitespace().map(ToOwned::to_owned);
        let (Some(method), Some(path)) = (words.next(), words.next()) else {
            return Ok(());
        };
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim().split_once(':') else {
                break;
            };
            headers.insert(name.to_lowercase(), value.trim().to_owned());
        }
        let request = Request {
            method,
            path,
            headers,
        };
        let file = file_of(&request.path);
        let (act, content, cdn) = {
            let mut state = self.state.lock().unwrap();
            state.log.push(request.clone());
            let content = file
                .as_ref()
                .and_then(|file| state.files.get(file))
                .cloned();
            let redirects = !request.path.starts_with("/cdn/")
                && content.as_ref().is_some_and(|content| content.large);
            let step = match request.method.as_str() {
                "GET" if redirects => "RESOLVE",
                method => method,
            };
            let key = (step.to_owned(), file.clone().unwrap_or_default());
            let act = state.acts.get_mut(&key).and_then(VecDeque::pop_front);
            (act.unwrap_or(Act::Serve), content, state.cdn.clone())
        };
        self.changed.notify_all();
        let reply = Answer {
            to: stream,
            head: request.method == "HEAD",
            shared: self,
        };
        match (act, content) {
            (Act::Status(status, headers), _) => reply.send(status, &headers, b"", 0),
            (Act::Say(text), _) => reply.whole(200, &[], text.as_bytes()),
            (act, _) if file.is_none() => self.listing(&request, &act, reply),
            (_, None) => {
                let code = ("X-Error-Code", "EntryNotFound".to_owned());
                reply.whole(404, &[code], b"")
            }
            (act, Some(content)) => content.send(&request, &act, cdn, reply),
        }
    }

    fn listing(&self, request: &Request, act: &Act, reply: Answer<'_>) -> std::io::Result<()> {
        let path = request.path.trim_start_matches("/api/models/");
        if !path.starts_with(REPO) {
            let code = ("X-Error-Code", "RepoNotFound".to_owned());
            return reply.whole(404, &[code], b"");
        }
        let revision = path.rsplit('/').next().unwrap();
        if ![COMMIT, "main", "v1", "name"].contains(&revision) {
            return reply.whole(404, &[], b"");
        }
        let siblings: Vec<_> = {
            let state = self.state.lock().unwrap();
            let names = state.files.keys();
            names.map(|file| json!({ "rfilename": file })).collect()
        };
        let text = json!({"id": REPO, "sha": COMMIT, "siblings": siblings}).to_string();
        match act {
            Act::Cut(after) => reply.send(200, &[], &text.as_bytes()[..*after], text.len()),
            _ => reply.whole(200, &[], text.as_bytes()),
        }
    }

    /// Waits for the gate, or only for the end.
    fn wait(&self, gate: bool) {
        let mut state = self.state.lock().unwrap();
        while !(state.over || gate && state.gate_open) {
            state = self.changed.wait(state).unwrap();
        }
    }
}

/// The file that a path is of: `/ORG/NAME/resolve/REV/FILE` or `/cdn/FILE`.
fn file_of(path: &str) -> Option<String> {
    let file = match path.strip_prefix("/cdn/") {
        Some(file) => file,
        None => path.split_once("/resolve/")?.1.split_once('/')?.1,
    };
    Some(file.split('?').next().unwrap().to_owned())
}

impl Content {
    fn send(
        &self,
        request: &Request,
        act: &Act,
        cdn: Option<String>,
        reply: Answer<'_>,
    ) -> std::io::Result<()> {
        let on_cdn = request.path.starts_with("/cdn/");
        let quoted = format!("\"{}\"", self.etag);
        let mut headers = vec![("Accept-Ranges", "bytes".to_owned())];
        if !on_cdn {
            headers.push(("X-Repo-Commit", COMMIT.to_owned()));
        }
        if self.large && !on_cdn {
            headers.push(("X-Linked-Etag", quoted));
            headers.push(("X-Linked-Size", self.bytes.len().to_string()));
            let location = format!(
                "{}/cdn/{}?sig=1",
                cdn.unwrap_or_default(),
                file_of(&request.path).unwrap()
            );
            headers.push(("Location", location));
        } else if self.large {
            // The network of copies has names of its own.
            headers.push(("ETag", "\"0-part\"".to_owned()));
        } else {
            headers.push(("ETag", quoted));
        }
        if let Act::With(others) = act {
            headers.retain(|(name, _)| !others.iter().any(|(other, _)| other == name));
            headers.extend(others.iter().cloned());
        }
        if self.large && !on_cdn {
            return reply.whole(302, &headers, b"");
        }
        let from = request
            .header("Range")
            .and_then(|range| {
                range
                    .strip_prefix("bytes=")?
                    .strip_suffix('-')?
                    .parse()
                    .ok()
            })
            .filter(|_| !matches!(act, Act::IgnoreRange));
        let len = self.bytes.len();
        let Some(from) = from else {
            return reply.act(200, &headers, &self.bytes, act);
        };
        let from: usize = from;
        if from >= len {
            return reply.whole(416, &headers, b"");
        }
        let said = match act {
            Act::EarlyRange(by) => from as u64 - by,
            _ => from as u64,
        };
        headers.push(("Content-Range", format!("bytes {said}-{}/{len}", len - 1)));
        reply.act(206, &headers, &self.bytes[from..], act)
    }
}

struct Answer<'a> {
    to: TcpStream,
    head: bool,
    shared: &'a Shared,
}

impl Answer<'_> {
    fn whole(self, status: u16, headers: &[(&str, String)], body: &[u8]) -> std::io::Result<()> {
        self.send(status, headers, body, body.len())
    }

    /// The headers and `body`, which is said to have `len` bytes.
    fn send(
        mut self,
        status: u16,
        headers: &[(&str, String)],
        body: &[u8],
        len: usize,
    ) -> std::io::Result<()> {
        let mut said = headers.to_vec();
        said.push(("Content-Length", len.to_string()));
        self.begin(status, &said)?;
        self.body(body)
    }

    fn act(
        mut self,
        status: u16,
        headers: &[(&str, String)],
        body: &[u8],
        act: &Act,
    ) -> std::io::Result<()> {
        match act {
            Act::Cut(after) => self.send(status, headers, &body[..*after], body.len()),
            Act::Wrong => {
                let wrong: Vec<u8> = body.iter().map(|byte| !byte).collect();
                self.whole(status, headers, &wrong)
            }
            Act::Long(more) => {
                self.begin(status, headers)?;
                self.body(body)?;
                self.body(&vec![0; *more])
            }
            Act::Stall(after) | Act::Gate(after) => {
                let mut said = headers.to_vec();
                said.push(("Content-Length", body.len().to_string()));
                self.begin(status, &said)?;
                self.body(&body[..*after])?;
                self.to.flush()?;
                let gate = matches!(act, Act::Gate(_));
                self.shared.wait(gate);
                if gate {
                    self.body(&body[*after..])?;
                }
                Ok(())
            }
            _ => self.whole(status, headers, body),
        }
    }

    fn begin(&mut self, status: u16, headers: &[(&str, String)]) -> std::io::Result<()> {
        let mut text = format!("HTTP/1.1 {status} Said\r\nConnection: close\r\n");
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        self.to.write_all(format!("{text}\r\n").as_bytes())
    }

    fn body(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        if self.head {
            return Ok(());
        }
        self.to.write_all(bytes)
    }
}

/// Three and a half megabytes in which no two places are alike.
pub fn weights() -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(7);
    std::iter::repeat_with(|| rng.u8(..))
        .take(7 << 19)
        .collect()
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn git_sha1(bytes: &[u8]) -> String {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    of_file(&mut file, &Checksum::GitSha1(String::new())).unwrap()
}

/// Reads a stream to its end on a thread of its own, so that nobody waits for a full pipe.
pub fn drain(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = String::new();
        from.read_to_string(&mut text).unwrap();
        text
    })
}
