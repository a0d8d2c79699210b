//! A headless PulseAudio with one null sink, whose monitor is the default microphone.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long the server may take to accept connections.
const START_LIMIT: Duration = Duration::from_secs(20);

/// A running (or killed) sound server in a runtime directory of its own.
pub struct Pulse {
    dir: tempfile::TempDir,
    server: Option<Child>,
}

impl Pulse {
    /// Starts the server and waits until it accepts connections.
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let script = "load-module module-native-protocol-unix auth-anonymous=1\n\
                      load-module module-null-sink sink_name=vsink\n\
                      set-default-sink vsink\n\
                      set-default-source vsink.monitor\n";
        std::fs::write(dir.path().join("headless.pa"), script).unwrap();
        let mut pulse = Pulse { dir, server: None };
        pulse.restart();
        pulse
    }

    /// The private `XDG_RUNTIME_DIR`.
    pub fn runtime_dir(&self) -> &Path {
        self.dir.path()
    }

    /// Makes `command` use this server and no other.
    pub fn point(&self, command: &mut Command) {
        command
            .env("XDG_RUNTIME_DIR", self.dir.path())
            .env("HOME", self.dir.path())
            .env_remove("PULSE_SERVER")
            .env_remove("PULSE_RUNTIME_PATH")
            .env_remove("PULSE_COOKIE")
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("DBUS_SESSION_BUS_ADDRESS");
    }

    /// Kills the server without warning, as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().unwrap();
            server.wait().unwrap();
        }
    }

    /// Starts the server again on the same directory and waits until it accepts connections.
    pub fn restart(&mut self) {
        self.kill();
        let mut command = Command::new("pulseaudio");
        self.point(&mut command);
        let server = command
            .arg("-n")
            .arg("-F")
            .arg(self.dir.path().join("headless.pa"))
            .args(["--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match server {
            Ok(server) => self.server = Some(server),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                panic!("pulseaudio is not installed: run 'make test', which installs it")
            }
            Err(error) => panic!("cannot start pulseaudio: {error}"),
        }
        let deadline = Instant::now() + START_LIMIT;
        while UnixStream::connect(self.socket()).is_err() {
            assert!(Instant::now() < deadline, "pulseaudio does not come up");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Starts to play a file into the sink.
    pub fn play(&self, file: &Path) -> Player {
        let mut command = Command::new("paplay");
        self.point(&mut command);
        let child = command
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("paplay comes with pulseaudio-utils: run 'make test', which installs it");
        Player(child)
    }

    /// Stops the server's process without ending it, or lets it go on: it neither delivers nor
    /// answers meanwhile, and nobody's connection breaks.
    pub fn freeze(&self, frozen: bool) {
        let server = self.server.as_ref().expect("the server runs");
        let status = Command::new("kill")
            .arg(if frozen { "-STOP" } else { "-CONT" })
            .arg(server.id().to_string())
            .status()
            .expect("kill runs");
        assert!(status.success());
    }

    /// Mutes the default microphone, or not.
    pub fn mute_source(&self, muted: bool) {
        self.pactl(&[
            "set-source-mute",
            "vsink.monitor",
            if muted { "1" } else { "0" },
        ]);
    }

    fn pactl(&self, args: &[&str]) {
        let mut command = Command::new("pactl");
        self.point(&mut command);
        let status = command.args(args).status().expect("pactl runs");
        assert!(status.success(), "pactl {args:?}");
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("pulse/native")
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A file that is being played; dropping it stops it.
pub struct Player(Child);

impl Player {
    /// Waits until the file is over.
    pub fn finish(mut self) {
        self.0.wait().unwrap();
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
