//! Where files live, by the XDG base directory specification 0.8.
//!
//! Paths only: nothing is created or read here, but for the number of the user.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The directories of harkd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// The configuration for the whole machine, a file.
    pub system_config: PathBuf,
    /// `$XDG_CONFIG_HOME/hark`: `config.toml` and `config.d/`.
    pub config: PathBuf,
    /// `$XDG_DATA_HOME/hark`: models and taught sounds.
    pub data: PathBuf,
    /// `$XDG_STATE_HOME/hark`: history and clips.
    pub state: PathBuf,
    /// `$XDG_CACHE_HOME/hark`.
    pub cache: PathBuf,
    /// `$XDG_RUNTIME_DIR/hark`: the socket.
    pub runtime: PathBuf,
}

impl Paths {
    /// The directories for the user and environment of this process.
    pub fn current() -> Self {
        let home = std::env::home_dir().unwrap_or_else(|| PathBuf::from("/"));
        let login = std::fs::metadata("/proc/self")
            .map(|me| PathBuf::from(format!("/run/user/{}", me.uid())))
            .ok()
            .filter(|dir| dir.is_dir());
        Self::new(&home, login.as_deref(), |name| std::env::var_os(name))
    }

    /// The directories for a home, the runtime directory that a login would have made, and the
    /// values of environment variables. Relative values are ignored, as the specification asks;
    /// without any runtime directory the socket goes beside the state, which is as private.
    pub fn new(home: &Path, login: Option<&Path>, var: impl Fn(&str) -> Option<OsString>) -> Self {
        let absolute = |name: &str| {
            var(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let base = |name: &str, fallback: &str| {
            absolute(name)
                .unwrap_or_else(|| home.join(fallback))
                .join("hark")
        };
        let state = base("XDG_STATE_HOME", ".local/state");
        let runtime = absolute("XDG_RUNTIME_DIR")
            .or_else(|| login.map(Path::to_path_buf))
            .map_or_else(|| state.clone(), |dir| dir.join("hark"));
        Paths {
            system_config: PathBuf::from("/etc/hark/config.toml"),
            config: base("XDG_CONFIG_HOME", ".config"),
            data: base("XDG_DATA_HOME", ".local/share"),
            cache: base("XDG_CACHE_HOME", ".cache"),
            state,
            runtime,
        }
    }

    /// The socket where the configuration names none.
    pub fn socket(&self) -> PathBuf {
        self.runtime.join("hark.sock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_wins_over_the_fallbacks() {
        let check = |vars: &[(&str, &str)], login: Option<&str>, socket: &str, config: &str| {
            let paths = Paths::new(Path::new("/home/a"), login.map(Path::new), |name| {
                vars.iter()
                    .find(|(key, _)| *key == name)
                    .map(|(_, value)| OsString::from(value))
            });
            assert_eq!(paths.socket(), Path::new(socket));
            assert_eq!(paths.config, Path::new(config));
        };
        check(
            &[],
            None,
            "/home/a/.local/state/hark/hark.sock",
            "/home/a/.config/hark",
        );
        check(
            &[],
            Some("/run/user/7"),
            "/run/user/7/hark/hark.sock",
            "/home/a/.config/hark",
        );
        check(
            &[("XDG_RUNTIME_DIR", "/r"), ("XDG_CONFIG_HOME", "/c")],
            Some("/run/user/7"),
            "/r/hark/hark.sock",
            "/c/hark",
        );
        check(
            &[("XDG_RUNTIME_DIR", ""), ("XDG_CONFIG_HOME", "relative")],
            None,
            "/home/a/.local/state/hark/hark.sock",
            "/home/a/.config/hark",
        );
    }
}
