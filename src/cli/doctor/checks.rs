//! The checks of `hark doctor`, each a question to the machine with a [`Finding`] for an answer.

use std::env;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::Finding;
use crate::audio::mic;
use crate::config::{self, Config, Flags};
use crate::kernels;
use crate::models::registry::{self, Origin, ROWS};
use crate::outputs::client::Client;
use crate::outputs::{self, BusError};

/// Name of the systemd user unit.
const UNIT: &str = "hark.service";

/// Makes all checks, in the order in which sound flows.
pub(super) fn all() -> Vec<Finding> {
    let mut findings = vec![processor(), models()];
    let (finding, config) = configuration();
    findings.push(finding);
    findings.push(server());
    findings.push(microphone(&config));
    findings.push(runtime_dir(&config));
    findings.push(bus(&config));
    findings.push(daemon(&config));
    findings.push(unit());
    findings
}

fn processor() -> Finding {
    Finding::ok(
        "processor",
        format!(
            "{}, kernels for {}",
            env::consts::ARCH,
            kernels::instruction_set()
        ),
    )
}

fn models() -> Finding {
    let mut names = Vec::new();
    for row in ROWS.iter().filter(|row| registry::is_installed(row)) {
        match registry::load(row) {
            Ok(model) => names.push(format!(
                "{} ({} labels)",
                row.name,
                model.info().labels.len()
            )),
            Err(error) => {
                let advice = match row.origin {
                    Origin::Embedded => "install hark again",
                    _ => "fetch it again with hark models pull",
                };
                return Finding::fail("models", 5, error.to_string(), advice);
            }
        }
    }
    Finding::ok("models", names.join(", "))
}

/// The configuration, or the built-in one where it is broken, so that the other checks go on.
fn configuration() -> (Finding, Config) {
    match config::load(&Flags::default()) {
        Ok(loaded) => {
            let files: Vec<_> = loaded
                .files
                .iter()
                .map(|f| f.display().to_string())
                .collect();
            let found = if files.is_empty() {
                "built in; no file".to_owned()
            } else {
                files.join(", ")
            };
            (Finding::ok("config", found), loaded.config)
        }
        Err(error) => (
            Finding::fail(
                "config",
                3,
                error.to_string(),
                "mend it, then run 'hark check'",
            ),
            Config::default(),
        ),
    }
}

/// Whether a sound server answers. Without one ALSA is used, which is no failure.
fn server() -> Finding {
    let runtime = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let pulse = match env::var("PULSE_SERVER") {
        Ok(server) => server.strip_prefix("unix:").map(PathBuf::from),
        Err(_) => runtime.as_ref().map(|dir| dir.join("pulse/native")),
    };
    if let Some(path) = &pulse
        && UnixStream::connect(path).is_ok()
    {
        return Finding::ok(
            "server",
            format!("PulseAudio protocol on {}", path.display()),
        );
    }
    if let Some(path) = runtime.map(|dir| dir.join("pipewire-0"))
        && path.exists()
    {
        return Finding::warn(
            "server",
            format!(
                "PipeWire on {}, without its PulseAudio side",
                path.display()
            ),
            "install pipewire-pulse, or hark uses ALSA",
        );
    }
    let asked = pulse.map_or_else(|| "XDG_RUNTIME_DIR".to_owned(), |p| p.display().to_string());
    Finding::warn(
        "server",
        format!("no PulseAudio or PipeWire on {asked}"),
        "hark uses ALSA; for a desktop install pipewire-pulse or pulseaudio",
    )
}

/// Whether there is a microphone to listen to, where the configuration wants one.
fn microphone(config: &Config) -> Finding {
    let wanted = config.source.is_empty()
        || config
            .source
            .iter()
            .any(|source| source.spec.starts_with("mic"));
    let devices = match mic::list() {
        Ok(devices) => devices,
        Err(error) => {
            let todo = "start the sound server again";
            return Finding::fail("microphone", 4, error.to_string(), todo);
        }
    };
    let Some(first) = devices.first() else {
        let found = "no capture device";
        return if wanted {
            let todo = format!(
                "{}plug one in, or listen to something else with hark run --source",
                sound_card_hint().unwrap_or_default()
            );
            Finding::fail("microphone", 4, found, todo)
        } else {
            Finding::ok("microphone", format!("{found}, and none is asked for"))
        };
    };
    let more = match devices.len() {
        1 => String::new(),
        n => format!(" and {} more", n - 1),
    };
    Finding::ok(
        "microphone",
        format!("{} ({}){more}", first.name, first.host),
    )
}

/// What to do where the kernel has capture devices that this user may not open.
fn sound_card_hint() -> Option<String> {
    let captures = fs::read_dir("/dev/snd").ok()?.flatten().any(|entry| {
        let name = entry.file_name();
        name.to_string_lossy().starts_with("pcm")
            && name.to_string_lossy().ends_with('c')
            && fs::File::open(entry.path()).is_err()
    });
    captures.then(|| "join the audio group (sudo usermod -aG audio $USER), ".to_owned())
}

/// Whether the daemon can make its socket, and nobody else can reach it.
fn runtime_dir(config: &Config) -> Finding {
    let socket = outputs::socket_path(&config.socket);
    let dir = socket.parent().unwrap_or(Path::new("/"));
    // What is missing is made by the daemon, with mode 700; what is above it decides.
    let existing = dir.ancestors().find(|dir| dir.is_dir()).unwrap_or(dir);
    let shown = existing.display();
    let advice = "set XDG_RUNTIME_DIR to a directory of your own, mode 700";
    let metadata = match fs::metadata(existing) {
        Ok(metadata) => metadata,
        Err(error) => return Finding::fail("socket dir", 6, format!("{shown}: {error}"), advice),
    };
    let me = fs::metadata("/proc/self").map(|me| me.uid()).ok();
    if me.is_some_and(|me| me != metadata.uid()) {
        let found = format!("{shown} belongs to user {}", metadata.uid());
        return Finding::fail("socket dir", 6, found, advice);
    }
    let mode = metadata.permissions().mode() & 0o777;
    if existing == dir && mode & 0o077 != 0 {
        return Finding::warn(
            "socket dir",
            format!("{shown} has mode {mode:o}"),
            format!("others can look into it: chmod 700 {shown}"),
        );
    }
    Finding::ok("socket dir", format!("{}", dir.display()))
}

/// Whether the bus of the configuration is there; without one D-Bus output waits for it.
fn bus(config: &Config) -> Finding {
    let (name, path) = match config.dbus.bus.as_str() {
        "none" => return Finding::ok("bus", "switched off in [dbus]"),
        "system" => ("system", Some(PathBuf::from("/run/dbus/system_bus_socket"))),
        _ => ("session", session_bus()),
    };
    let Some(path) = path else {
        return Finding::warn(
            "bus",
            "no session bus: DBUS_SESSION_BUS_ADDRESS and XDG_RUNTIME_DIR are not set",
            "install dbus-user-session and log in again, or set bus = \"none\" in [dbus]",
        );
    };
    match UnixStream::connect(&path) {
        Ok(_) => Finding::ok("bus", format!("{name} bus on {}", path.display())),
        Err(error) => Finding::warn(
            "bus",
            format!("{name} bus on {}: {error}", path.display()),
            "start it (dbus-run-session, or a login session); hark listens without it meanwhile",
        ),
    }
}

/// The socket of the session bus, from its address or its usual place.
fn session_bus() -> Option<PathBuf> {
    match env::var("DBUS_SESSION_BUS_ADDRESS") {
        Ok(address) => unix_path(&address),
        Err(_) => env::var_os("XDG_RUNTIME_DIR").map(|dir| PathBuf::from(dir).join("bus")),
    }
}

/// The path in a D-Bus address such as `unix:path=/run/user/1000/bus,guid=...`.
fn unix_path(address: &str) -> Option<PathBuf> {
    address
        .split(';')
        .filter_map(|one| one.strip_prefix("unix:"))
        .flat_map(|one| one.split(','))
        .find_map(|pair| pair.strip_prefix("path="))
        .map(PathBuf::from)
}

fn daemon(config: &Config) -> Finding {
    let start = format!("start it: systemctl --user start {UNIT}, or hark run");
    if !config.socket.enabled {
        return Finding::warn(
            "daemon",
            "the socket is switched off in [socket]",
            "without it 'hark watch' and 'hark status' cannot ask",
        );
    }
    let path = outputs::socket_path(&config.socket);
    match Client::connect(&path) {
        Ok(client) => {
            let hello = client.hello;
            let found = format!(
                "version {}, {}, on {}",
                hello.version,
                hello.state,
                path.display()
            );
            match &*hello.state {
                "listening" | "paused" | "loading" => Finding::ok("daemon", found),
                _ => Finding::warn("daemon", found, "see 'hark status' for the reason"),
            }
        }
        Err(BusError::NoDaemon(path)) => {
            Finding::warn("daemon", format!("none on {}", path.display()), start)
        }
        Err(error) => Finding::fail("daemon", 6, error.to_string(), "stop it and start it again"),
    }
}

fn unit() -> Finding {
    let Some(path) = unit_dirs()
        .into_iter()
        .map(|dir| dir.join(UNIT))
        .find(|p| p.exists())
    else {
        return Finding::warn(
            "unit",
            format!("{UNIT} is not installed"),
            "make install, then systemctl --user enable --now hark",
        );
    };
    let program = fs::read_to_string(&path)
        .ok()
        .and_then(|text| exec_start(&text));
    match program {
        Some(program) if !Path::new(&program).exists() => Finding::warn(
            "unit",
            format!("{} starts {program}, which is not there", path.display()),
            "make install with the same PREFIX again",
        ),
        _ => Finding::ok("unit", path.display().to_string()),
    }
}

/// Where systemd looks for user units, nearest first (systemd.unit(5)).
fn unit_dirs() -> Vec<PathBuf> {
    let home = env::home_dir().unwrap_or_else(|| PathBuf::from("/"));
    let base = |name: &str, fallback: &str| {
        env::var_os(name).map_or_else(|| home.join(fallback), PathBuf::from)
    };
    let mut dirs = vec![
        base("XDG_CONFIG_HOME", ".config").join("systemd/user"),
        PathBuf::from("/etc/systemd/user"),
        base("XDG_DATA_HOME", ".local/share").join("systemd/user"),
    ];
    dirs.extend(["/usr/local/lib", "/usr/lib"].map(|lib| Path::new(lib).join("systemd/user")));
    dirs
}

/// The program of a unit's `ExecStart=`.
fn exec_start(unit: &str) -> Option<String> {
    let command = unit
        .lines()
        .find_map(|line| line.trim().strip_prefix("ExecStart="))?;
    let program = command.split_whitespace().next()?;
    Some(
        program
            .trim_start_matches(['-', '@', ':', '+', '!'])
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bus_address_gives_its_path() {
        let check = |address: &str, expected: Option<&str>| {
            assert_eq!(unix_path(address), expected.map(PathBuf::from), "{address}");
        };
        check("unix:path=/run/user/1000/bus", Some("/run/user/1000/bus"));
        check("unix:path=/tmp/a,guid=00ff", Some("/tmp/a"));
        check("tcp:host=a,port=1;unix:guid=1,path=/b", Some("/b"));
        check("unix:abstract=/tmp/x", None);
    }

    #[test]
    fn a_unit_gives_its_program() {
        let unit = "[Service]\nType=notify\nExecStart=-/usr/bin/hark run --bus session\n";
        assert_eq!(exec_start(unit).as_deref(), Some("/usr/bin/hark"));
        assert_eq!(exec_start("[Service]\n"), None);
    }
}
