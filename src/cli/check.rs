//! `hark check`: reads the configuration and says what is wrong with it.
//!
//! Labels are held against the models that it names; one whose weights are damaged is no fault of the
//! configuration and is named on standard error.

use std::io::Write;
use std::path::PathBuf;

use serde_json::json;

use super::out;
use crate::config::{self, ConfigError, Flags, Loaded};
use crate::daemon::{self, DaemonError, Makers};

/// Arguments of `hark check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Reads this file in place of the usual ones.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Prints one JSON object: files, and the configuration in force or the errors.
    #[arg(long, conflicts_with = "print")]
    json: bool,
    /// Prints the configuration in force as TOML.
    #[arg(long)]
    print: bool,
}

/// Runs the verb.
///
/// # Errors
/// When the configuration does not hold: all faults but the last are printed here, the last is
/// returned.
pub fn run(args: Args) -> anyhow::Result<()> {
    let flags = Flags {
        config: args.config,
        ..Flags::default()
    };
    let mut stdout = std::io::stdout().lock();
    let mut error = match checked(&flags) {
        Ok(loaded) if args.json => {
            let answer = json!({
                "ok": true,
                "files": loaded.files,
                "config": loaded.effective,
            });
            writeln!(stdout, "{answer}")?;
            return Ok(());
        }
        Ok(loaded) if args.print => {
            write!(stdout, "{}", toml::to_string_pretty(&loaded.effective)?)?;
            return Ok(());
        }
        Ok(loaded) => {
            write!(stdout, "{}", summary(&loaded))?;
            return Ok(());
        }
        Err(error) => error,
    };
    if args.json {
        let texts: Vec<String> = error.faults.iter().map(ToString::to_string).collect();
        writeln!(stdout, "{}", json!({ "ok": false, "errors": texts }))?;
    }
    let last = error.faults.split_off(error.faults.len().saturating_sub(1));
    for fault in error.faults {
        out::complain(fault);
    }
    Err(ConfigError { faults: last }.into())
}

fn checked(flags: &Flags) -> Result<Loaded, ConfigError> {
    let loaded = config::load(flags)?;
    match Makers::default().known(&loaded) {
        Ok(known) => loaded.validate_labels(&known)?,
        Err(DaemonError::Config(error)) => return Err(error),
        Err(error) => out::complain(format_args!("labels were not checked: {error}")),
    }
    daemon::spec_of(&loaded)?;
    Ok(loaded)
}

fn summary(loaded: &Loaded) -> String {
    let config = &loaded.config;
    let mut lines = Vec::new();
    if loaded.files.is_empty() {
        lines.push("files    none, built-in configuration".to_owned());
    }
    for file in &loaded.files {
        lines.push(format!("file     {}", file.display()));
    }
    if config.source.is_empty() {
        lines.push("source   mic (default)".to_owned());
    }
    for source in &config.source {
        lines.push(format!("source   {}", source.spec));
    }
    let model = |enabled: bool, model: &str| match (enabled, model) {
        (false, _) => "off".to_owned(),
        (true, "") => "embedded model".to_owned(),
        (true, model) => model.to_owned(),
    };
    let (keyword, event) = (&config.keyword, &config.event);
    lines.push(format!(
        "keyword  {}",
        model(keyword.enabled, &keyword.model)
    ));
    let windows = |window_s: Option<f64>, hop_s: Option<f64>| {
        let length = window_s.map_or("its own length".to_owned(), |s| format!("{s} s"));
        let distance = hop_s.map_or("half of that".to_owned(), |s| format!("{s} s"));
        format!("windows of {length} every {distance}")
    };
    lines.push(format!(
        "event    {}, {}",
        model(event.enabled, &event.model),
        windows(event.window_s, event.hop_s)
    ));
    for more in &config.model {
        lines.push(format!(
            "model    {}, {}",
            model(more.enabled, &more.name),
            windows(more.window_s, more.hop_s)
        ));
    }
    let prompt = &config.prompt;
    lines.push(format!(
        "prompt   {}, {}{}",
        match (prompt.enabled, prompt.model.as_str()) {
            (false, _) => "off",
            (true, "") => "the first CLAP that is installed",
            (true, model) => model,
        },
        windows(Some(prompt.window_s), Some(prompt.hop_s)),
        if prompt.gate { ", gated" } else { "" }
    ));
    for label in &prompt.label {
        lines.push(format!(
            "prompt   {}: {}",
            label.name,
            label.phrases.join(" | ")
        ));
    }
    for rule in &config.rule {
        let labels = match &rule.watched()[..] {
            [] => "every label".to_owned(),
            [one] => format!("'{one}'"),
            more => format!("{} labels", more.len()),
        };
        let state = if rule.enabled { "" } else { ", off" };
        lines.push(format!(
            "rule     {}: {labels} of kind {}, threshold {}{state}",
            rule.name, rule.kind, rule.threshold
        ));
    }
    let socket = match (&config.socket.path, config.socket.enabled) {
        (_, false) => "off".to_owned(),
        (Some(path), true) => path.display().to_string(),
        (None, true) => config::paths::Paths::current()
            .socket()
            .display()
            .to_string(),
    };
    lines.push(format!("socket   {socket}"));
    lines.push(format!("dbus     {}", config.dbus.bus));
    lines.push(String::new());
    lines.join("\n")
}
