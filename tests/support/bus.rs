//! A private session bus at a fixed address, with `busctl` as its client.

#![allow(dead_code, reason = "every test binary uses a part of it")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

const NAME: &str = "org.harkd.Hark1";
const PATH: &str = "/org/harkd/Hark1";

/// Whether the programs are installed; says so where they are not.
pub fn available() -> bool {
    let found = |program: &str| {
        Command::new(program)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    let all = found("dbus-daemon") && found("busctl");
    if !all {
        eprintln!("skipped: dbus-daemon and busctl are not installed");
    }
    all
}

/// The bus; dropping it ends it.
pub struct Bus {
    dir: tempfile::TempDir,
    child: Option<Child>,
    /// Configuration file; `None`: that of session buses.
    config: Option<PathBuf>,
}

impl Bus {
    /// The place of a bus that is not running yet.
    pub fn absent() -> Bus {
        Bus {
            dir: tempfile::tempdir().unwrap(),
            child: None,
            config: None,
        }
    }

    /// A bus that can start what the activation files in `services` describe.
    pub fn start_with_services(services: &Path) -> Bus {
        let mut bus = Bus::absent();
        let config = bus.dir.path().join("bus.conf");
        let text = format!(
            r#"<busconfig>
                 <type>session</type>
                 <listen>{}</listen>
                 <servicedir>{}</servicedir>
                 <policy context="default">
                   <allow send_destination="*" eavesdrop="true"/>
                   <allow eavesdrop="true"/>
                   <allow own="*"/>
                 </policy>
               </busconfig>"#,
            bus.address(),
            services.display()
        );
        std::fs::write(&config, text).unwrap();
        bus.config = Some(config);
        bus.run();
        bus
    }

    pub fn start() -> Bus {
        let mut bus = Bus::absent();
        bus.run();
        bus
    }

    /// Starts it, also again after [`Bus::kill`], at the same address.
    pub fn run(&mut self) {
        drop(std::fs::remove_file(self.socket()));
        let config = match &self.config {
            Some(path) => format!("--config-file={}", path.display()),
            None => "--session".to_owned(),
        };
        let mut child = Command::new("dbus-daemon")
            .args([&config, "--nofork", "--nopidfile", "--print-address=1"])
            .arg(format!("--address={}", self.address()))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("dbus-daemon");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert!(line.starts_with("unix:"), "the bus said {line:?}");
        self.child = Some(child);
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("bus")
    }

    pub fn address(&self) -> String {
        format!("unix:path={}", self.socket().display())
    }

    /// `busctl` on this bus; its standard output as JSON, or its standard error.
    pub fn busctl(&self, args: &[&str]) -> Result<Value, String> {
        let output = Command::new("busctl")
            .arg(format!("--address={}", self.address()))
            .args(["--json=short", "--timeout=10"])
            .args(args)
            .output()
            .expect("busctl");
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
        Ok(serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
    }

    /// Calls a method of the daemon.
    pub fn call(&self, method: &str, args: &[&str]) -> Result<Value, String> {
        let mut all = vec!["call", NAME, PATH, NAME, method];
        all.extend(args);
        self.busctl(&all).map(|mut value| value["data"].take())
    }

    /// Reads a property of the daemon.
    pub fn property(&self, name: &str) -> Result<Value, String> {
        self.busctl(&["get-property", NAME, PATH, NAME, name])
            .map(|mut value| value["data"].take())
    }

    /// Waits until the daemon owns its name, and says how long that took.
    pub fn wait_for_name(&self) -> Duration {
        let began = Instant::now();
        while self.property("State").is_err() {
            assert!(
                began.elapsed() < Duration::from_secs(15),
                "nobody claims {NAME}"
            );
        }
        began.elapsed()
    }

    pub fn monitor(&self) -> Monitor {
        let mut child = Command::new("busctl")
            .arg(format!("--address={}", self.address()))
            .args(["--json=short", "monitor"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("busctl");
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert!(line.contains("Monitoring"), "busctl said {line:?}");
        let stdout = child.stdout.take().unwrap();
        let (send, messages) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let Ok(value) = serde_json::from_str(&line) else {
                    break;
                };
                if send.send(value).is_err() {
                    break;
                }
            }
        });
        Monitor { child, messages }
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.kill();
    }
}

/// `busctl monitor`.
pub struct Monitor {
    child: Child,
    messages: Receiver<Value>,
}

impl Monitor {
    /// The next signal of the daemon: its name and its arguments.
    pub fn signal(&self) -> (String, Value) {
        loop {
            let mut message = self
                .messages
                .recv_timeout(Duration::from_secs(15))
                .expect("a signal in time");
            if message["type"] == "signal" && message["path"] == PATH {
                let name = message["member"].as_str().unwrap().to_owned();
                return (name, message["payload"]["data"].take());
            }
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
