//! The Unix socket: takes clients in, looks at who they are, and limits how many there are.
//!
//! What one client says and hears is in `connection`; where the socket lies is in `bind`.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::bind::Bound;
use super::protocol::{self, Code, ErrorRecord};
use super::{Output, OutputCtx, OutputError, OutputFuture, connection, ended};

/// Clients at once; further ones are told `busy`.
pub const MAX_CLIENTS: usize = 64;

/// Pause after a failed accept: the usual cause, no file descriptors left, does not go at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The socket as an output.
#[derive(Debug)]
pub struct Socket {
    bound: Bound,
}

impl Socket {
    /// Serves a bound socket.
    pub fn new(bound: Bound) -> Self {
        Socket { bound }
    }

    async fn serve(&self, cx: OutputCtx) -> Result<(), OutputError> {
        let listener = self
            .bound
            .listener()
            .and_then(UnixListener::from_std)
            .map_err(|error| OutputError::Socket(error.to_string()))?;
        cx.tried.send_replace(true);
        let mut shutdown = cx.shutdown.clone();
        let mut clients = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => self.admit(stream, &cx, &mut clients),
                    Err(error) => {
                        tracing::warn!("socket: cannot accept a client: {error}");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(ended) = clients.join_next() => log_end(ended),
                () = ended(&mut shutdown) => break,
            }
        }
        while let Some(ended) = clients.join_next().await {
            log_end(ended);
        }
        Ok(())
    }

    fn admit(&self, stream: UnixStream, cx: &OutputCtx, clients: &mut JoinSet<io::Result<()>>) {
        match stream.peer_cred() {
            Ok(peer) if self.bound.allows(peer.uid()) => {}
            Ok(peer) => {
                tracing::warn!("socket: refused a client of user {}", peer.uid());
                return;
            }
            Err(error) => {
                tracing::warn!("socket: refused a client without credentials: {error}");
                return;
            }
        }
        if clients.len() < MAX_CLIENTS {
            clients.spawn(connection::serve(stream, cx.clone()));
        } else {
            refuse(stream);
        }
    }
}

impl Output for Socket {
    fn name(&self) -> &'static str {
        "socket"
    }

    fn run(self: Arc<Self>, cx: OutputCtx) -> OutputFuture {
        Box::pin(async move { self.serve(cx).await })
    }
}

/// Tells a client too many that it is one; a single write into an empty buffer does not wait.
fn refuse(mut stream: UnixStream) {
    let why = format!("{MAX_CLIENTS} clients are connected; try again when one has left");
    let error = ErrorRecord::new(Code::Busy, why);
    let line = protocol::error_line(&Value::Null, &error) + "\n";
    tokio::spawn(async move {
        drop(tokio::time::timeout(ACCEPT_PAUSE, stream.write_all(line.as_bytes())).await);
    });
}

fn log_end(ended: Result<io::Result<()>, tokio::task::JoinError>) {
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!("socket: a client has gone: {error}"),
        Err(panic) => tracing::error!("socket: serving a client broke: {panic}"),
    }
}
