//! The way from a verb to the running daemon.

use std::path::PathBuf;

use crate::config::{self, Flags, SocketConfig};
use crate::outputs::client::Client;
use crate::outputs::{BusError, socket_path};

/// Where the daemon listens, for every verb that speaks to one.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct SocketArgs {
    /// Socket of the daemon [default: as configured, or $XDG_RUNTIME_DIR/hark/hark.sock]
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
}

impl SocketArgs {
    /// The path: given, configured or the default.
    ///
    /// A configuration with faults is no reason not to reach a daemon that runs with an older one,
    /// so then the default path is tried.
    pub(crate) fn path(&self) -> PathBuf {
        if let Some(path) = &self.socket {
            return path.clone();
        }
        let config = config::load(&Flags::default())
            .map_or_else(|_| SocketConfig::default(), |loaded| loaded.config.socket);
        socket_path(&config)
    }

    /// Connects to the daemon.
    ///
    /// # Errors
    /// When none listens there.
    pub(crate) fn connect(&self) -> Result<Client, BusError> {
        Client::connect(&self.path())
    }
}
