//! A blocking client of the daemon's socket, for the command line.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::BusError;
use super::protocol::{ErrorRecord, HelloRecord};
use super::request::MAX_LINE;

/// Longest wait for an answer: the daemon's own limit on a reload, and a little.
const ANSWER_LIMIT: Duration = Duration::from_secs(65);

/// A connection to a running daemon.
#[derive(Debug)]
pub struct Client {
    reader: BufReader<UnixStream>,
    path: PathBuf,
    next_id: u64,
    /// How the daemon greeted.
    pub hello: HelloRecord<'static>,
}

impl Client {
    /// Connects and reads the greeting.
    ///
    /// # Errors
    /// [`BusError::NoDaemon`] when nobody listens there; otherwise what went wrong.
    pub fn connect(path: &Path) -> Result<Self, BusError> {
        let stream = UnixStream::connect(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::NotADirectory => {
                BusError::NoDaemon(path.to_owned())
            }
            _ => BusError::Socket {
                path: path.to_owned(),
                why: format!("cannot connect: {error}"),
            },
        })?;
        let mut client = Client {
            reader: BufReader::new(stream),
            path: path.to_owned(),
            next_id: 1,
            hello: HelloRecord::new(crate::command::State::Loading),
        };
        client.set_timeout(Some(ANSWER_LIMIT))?;
        let line = client.line()?.ok_or_else(|| client.closed())?;
        client.hello = match serde_json::from_str(&line) {
            Ok(hello) => hello,
            // A daemon with too many clients says so instead of greeting.
            Err(_) => return Err(client.refused(&line)),
        };
        Ok(client)
    }

    /// Asks one thing and waits for the answer; events that come in between are passed over.
    ///
    /// # Errors
    /// [`BusError::Refused`] with the daemon's own words, or a broken connection.
    pub fn call(&mut self, method: &str, params: Value) -> Result<Value, BusError> {
        let id = self.next_id;
        self.next_id += 1;
        let request = json!({"id": id, "method": method, "params": params});
        let line = format!("{request}\n");
        if line.len() > MAX_LINE {
            // The daemon would skip it, and could not say whose it was.
            return Err(BusError::Refused {
                code: "too_large".into(),
                message: format!(
                    "{method}: the request has {} bytes, a line may have {MAX_LINE}",
                    line.len()
                ),
            });
        }
        self.reader
            .get_mut()
            .write_all(line.as_bytes())
            .map_err(|error| self.broken(&error.to_string()))?;
        loop {
            let line = self.line()?.ok_or_else(|| self.closed())?;
            let mut answer: Value = serde_json::from_str(&line)
                .map_err(|error| self.broken(&format!("it wrote no JSON: {error}")))?;
            if answer["id"] != json!(id) {
                continue;
            }
            return match answer.get_mut("result") {
                Some(result) => Ok(result.take()),
                None => Err(self.refused(&line)),
            };
        }
    }

    /// The next line, without its end; `None` when the daemon has closed the connection.
    ///
    /// # Errors
    /// When the connection breaks, or nothing comes within the time set.
    pub fn line(&mut self) -> Result<Option<String>, BusError> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => Ok(None),
            Ok(_) => {
                line.truncate(line.trim_end().len());
                Ok(Some(line))
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(None),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                Err(self.broken("it does not answer"))
            }
            Err(error) => Err(self.broken(&error.to_string())),
        }
    }

    /// How long [`Client::line`] waits; `None` for ever.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn set_timeout(&mut self, limit: Option<Duration>) -> Result<(), BusError> {
        self.reader
            .get_ref()
            .set_read_timeout(limit)
            .map_err(|error| self.broken(&error.to_string()))
    }

    /// The error for a daemon that has closed the connection.
    pub fn closed(&self) -> BusError {
        let path = self.path.display();
        BusError::Broken(format!(
            "the daemon on {path} has ended; start it with hark run"
        ))
    }

    fn broken(&self, why: &str) -> BusError {
        BusError::Broken(format!("the daemon on {}: {why}", self.path.display()))
    }

    fn refused(&self, line: &str) -> BusError {
        let error = serde_json::from_str::<Value>(line)
            .ok()
            .and_then(|mut value| serde_json::from_value(value["error"].take()).ok());
        match error {
            Some(ErrorRecord { code, message }) => BusError::Refused {
                code: serde_json::to_value(code)
                    .ok()
                    .and_then(|code| code.as_str().map(str::to_owned))
                    .unwrap_or_default(),
                message,
            },
            None => self.broken("it does not speak the protocol of hark"),
        }
    }
}
