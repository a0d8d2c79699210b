//! Runs the binary with a home of its own, no bus, and a time limit.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Nothing that these tests ask for takes this long, even on a loaded machine and unoptimised.
const LIMIT: Duration = Duration::from_secs(120);

/// A home for the binary.
pub struct Hark {
    dir: TempDir,
}

/// What a run left behind.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Hark {
    pub fn new() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("hark-cli-")
            .tempdir()
            .unwrap();
        let runtime = dir.path().join("runtime");
        fs::create_dir(&runtime).unwrap();
        fs::set_permissions(&runtime, fs::Permissions::from_mode(0o700)).unwrap();
        Hark { dir }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn socket(&self) -> PathBuf {
        self.path("runtime/hark/hark.sock")
    }

    /// Writes a file and the directories above it.
    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// The binary with these arguments, nothing on its input, and nothing of this session's.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hark"));
        command
            .args(args)
            .current_dir(self.dir())
            .stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("HARK_") || text.starts_with("HF_") {
                command.env_remove(name);
            }
        }
        for name in [
            "DBUS_SESSION_BUS_ADDRESS",
            "NOTIFY_SOCKET",
            "PULSE_SERVER",
            "PULSE_RUNTIME_PATH",
            "RUST_LOG",
        ] {
            command.env_remove(name);
        }
        command.env("HOME", self.dir());
        for (name, dir) in [
            ("XDG_RUNTIME_DIR", "runtime"),
            ("XDG_CONFIG_HOME", "config"),
            ("XDG_DATA_HOME", "data"),
            ("XDG_STATE_HOME", "state"),
            ("XDG_CACHE_HOME", "cache"),
        ] {
            command.env(name, self.path(dir));
        }
        command
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        let mut command = self.command(args);
        command.stdout(Stdio::piped());
        self.finish(command)
    }

    /// Runs a command to its end, which must come within the limit.
    pub fn finish(&self, mut command: Command) -> Ran {
        let child = command.stderr(Stdio::piped()).spawn().unwrap();
        let id = child.id();
        let (done, wait) = mpsc::channel();
        std::thread::spawn(move || done.send(child.wait_with_output()));
        match wait.recv_timeout(LIMIT) {
            Ok(output) => Ran::new(&output.unwrap()),
            Err(_) => {
                Command::new("kill")
                    .args(["-9", &id.to_string()])
                    .status()
                    .unwrap();
                panic!("{command:?} hangs");
            }
        }
    }

    /// Starts a daemon whose input stays open.
    pub fn spawn(&self, args: &[&str]) -> Daemon {
        let notify = self.path("notify");
        let _ = fs::remove_file(&notify);
        let ready = UnixDatagram::bind(&notify).unwrap();
        ready
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        let child = self
            .command(args)
            .env("NOTIFY_SOCKET", &notify)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Daemon { child, ready }
    }
}

impl Ran {
    fn new(output: &Output) -> Self {
        Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    pub fn check_code(&self, code: i32) {
        assert_eq!(self.code, code, "{self:?}");
    }

    /// All went well, without a word on standard error.
    pub fn check(&self, code: i32) {
        self.check_code(code);
        assert!(self.stderr.is_empty(), "{}", self.stderr);
    }

    /// It failed with this status and one line that holds `part`.
    pub fn check_error(&self, code: i32, part: &str) {
        self.check_code(code);
        let errors: Vec<_> = self
            .stderr
            .lines()
            .filter(|line| line.starts_with("hark: "))
            .collect();
        assert_eq!(errors.len(), 1, "one line a failure: {self:?}");
        assert!(errors[0].contains(part), "{:?} lacks {part:?}", errors[0]);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
    }

    /// Standard output as JSON lines.
    pub fn windows(&self) -> Vec<Value> {
        self.stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}")))
            .collect()
    }
}

/// A daemon that runs until it is told otherwise, and not longer than its test.
pub struct Daemon {
    child: Child,
    ready: UnixDatagram,
}

impl Daemon {
    /// Waits until it says that it is ready.
    pub fn wait_ready(&mut self) {
        let begun = Instant::now();
        let mut said = [0; 4096];
        // The wait is cut into short ones to see a daemon that has ended instead.
        while self.child.try_wait().unwrap().is_none() && begun.elapsed() < LIMIT {
            if let Ok(len) = self.ready.recv(&mut said)
                && String::from_utf8_lossy(&said[..len]).contains("READY=1")
            {
                return;
            }
        }
        self.child.kill().unwrap();
        let mut stderr = String::new();
        let mut pipe = self.child.stderr.take().unwrap();
        pipe.read_to_string(&mut stderr).unwrap();
        panic!("the daemon did not become ready: {stderr}");
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn close_stdin(&mut self) {
        drop(self.child.stdin.take());
    }

    pub fn wait(&mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
