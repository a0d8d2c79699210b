//! What a download shows on standard error: one bar over all bytes where a person looks, a line for
//! each file elsewhere.

use std::io::{IsTerminal, stderr};

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::out;
use crate::hub::{Progress, human};

/// Shows the progress of a pull.
pub struct Bar {
    bar: Option<ProgressBar>,
    /// Bytes of all files that are to come, without what was here.
    planned: u64,
    /// Bytes of the files that are whole by now.
    finished: u64,
    /// What was here of the file that is on its way.
    have: u64,
}

impl Bar {
    /// With a bar if a person looks at standard error.
    pub fn new() -> Self {
        let bar = stderr().is_terminal().then(|| {
            let template = "[{wide_bar}] {decimal_bytes}/{decimal_total_bytes} \
                            {decimal_bytes_per_sec} {eta} {msg}";
            let style = ProgressStyle::with_template(template)
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::no_length().with_style(style)
        });
        Bar {
            bar,
            planned: 0,
            finished: 0,
            have: 0,
        }
    }

    /// Shows one thing that happened.
    pub fn show(&mut self, said: Progress<'_>) {
        match said {
            Progress::Planned { files, bytes } => {
                self.planned += bytes;
                match &self.bar {
                    Some(bar) => bar.set_length(self.planned),
                    None => self.say(&format!("{files} files to download, {}", human(bytes))),
                }
            }
            Progress::Begin { file, have, bytes } => {
                self.have = have;
                match &self.bar {
                    Some(bar) => bar.set_message(printable(file)),
                    None if have > 0 => self.say(&format!(
                        "{file}: going on at {} of {}",
                        human(have),
                        bytes.map_or_else(|| "unknown".to_owned(), human)
                    )),
                    None => {}
                }
            }
            Progress::Bytes { done, bytes, .. } => {
                if let Some(bar) = &self.bar {
                    if self.planned == 0
                        && let Some(bytes) = bytes
                    {
                        bar.set_length(self.finished + bytes.saturating_sub(self.have));
                    }
                    bar.set_position(self.finished + done.saturating_sub(self.have));
                }
            }
            Progress::Done { file, bytes } => {
                self.finished += bytes.saturating_sub(self.have);
                self.have = 0;
                if self.bar.is_none() {
                    self.say(&format!("{file}: {}", human(bytes)));
                }
            }
            Progress::Waiting { file } => self.say(&format!(
                "{file}: another process is downloading it; waiting"
            )),
            Progress::Again { what, reason, wait } => self.say(&format!(
                "{what}: {reason}; next attempt in {:.1} s",
                wait.as_secs_f64()
            )),
            Progress::FromCache { reason } => {
                self.say(&format!("nothing downloaded: {reason}"));
            }
        }
    }

    /// Says something above the bar.
    fn say(&self, text: &str) {
        let text = printable(text);
        match &self.bar {
            Some(bar) => bar.suspend(|| out::note(text)),
            None => out::note(text),
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A text that a server may have had a part in, without anything that steers a terminal.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
