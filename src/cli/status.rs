//! `hark status`: shows the state of a running daemon.

use std::fmt::Write;

use anyhow::Context;
use serde_json::json;

use super::daemon::SocketArgs;
use super::out;
use crate::clock::PIPELINE_RATE_HZ;
use crate::outputs::protocol::StatusRecord;

/// Arguments of `hark status`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// One JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: SocketArgs,
}

/// Runs the verb.
///
/// # Errors
/// When no daemon listens.
pub fn run(args: Args) -> anyhow::Result<()> {
    let status = args.daemon.connect()?.call("status", json!({}))?;
    if args.json {
        return Ok(out::line(status)?);
    }
    let status: StatusRecord = serde_json::from_value(status)
        .context("the daemon is of another version; see 'hark status --json'")?;
    Ok(out::text(page(&status))?)
}

/// What a person reads.
fn page(status: &StatusRecord) -> String {
    let mut page = String::new();
    let mut row = |name: &str, text: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(page, "{name:<10}{text}");
    };
    let reason = match &*status.reason {
        "" => String::new(),
        reason => format!(": {reason}"),
    };
    row("state", format!("{}{reason}", status.state));
    for holder in &status.inhibitors {
        row("inhibited", format!("by {} ({})", holder.who, holder.why));
    }
    for source in &status.sources {
        let form = match (source.rate_hz, source.channels) {
            (0, _) => "not opened yet".to_owned(),
            (rate, 1) => format!("{rate} Hz, 1 channel"),
            (rate, channels) => format!("{rate} Hz, {channels} channels"),
        };
        row(
            "source",
            format!("{} ({}), {form}", source.name, source.spec),
        );
        let heard = source.samples as f64 / f64::from(PIPELINE_RATE_HZ);
        row(
            "",
            format!(
                "{} heard, {} samples lost, {} gaps, opened again {} times",
                span(heard),
                source.lost_samples,
                source.gaps,
                source.reopened
            ),
        );
        if !source.fault.is_empty() {
            row("", format!("fault: {}", source.fault));
        }
    }
    let live = &status.live;
    let content = match &*live.content {
        "" => String::new(),
        content => format!(", {content}"),
    };
    row(
        "level",
        format!(
            "{:.1} dBFS over a floor of {:.1} dBFS{content}",
            live.level_dbfs, live.noise_floor_dbfs
        ),
    );
    for model in &status.models {
        let windows = match (model.window_s, model.hop_s) {
            (Some(window_s), Some(hop_s)) => format!("windows of {window_s} s every {hop_s} s, "),
            _ => String::new(),
        };
        let gated = match model.gated {
            0 => String::new(),
            gated => format!(", {gated} quiet"),
        };
        let aside = if model.set_aside { ", set aside" } else { "" };
        row(
            "model",
            format!(
                "{} ({}, {} labels): {windows}{} steps, {} skipped{gated}{aside}, {:.0} us at the median, {:.0} us at p99",
                model.name,
                model.task,
                model.labels,
                model.steps,
                model.skipped,
                model.p50_us,
                model.p99_us
            ),
        );
    }
    for rule in &status.rules {
        row(
            "rule",
            format!(
                "{} ({}): threshold {}, fired {} times",
                rule.name, rule.kind, rule.threshold, rule.fired
            ),
        );
    }
    for prompt in &status.prompts {
        let state = asked(&prompt.state, &prompt.by, &prompt.detail);
        let phrases: Vec<&str> = prompt.phrases.iter().map(|phrase| &**phrase).collect();
        row(
            "prompt",
            format!(
                "{} (threshold {}): {state}; {}",
                prompt.name,
                prompt.threshold,
                phrases.join(" | ")
            ),
        );
    }
    for sound in &status.taught {
        let state = asked(&sound.state, &sound.by, &sound.detail);
        row(
            "taught",
            format!(
                "{} ({}, {} examples, threshold {}): {state}",
                sound.name, sound.kind, sound.examples, sound.threshold
            ),
        );
    }
    for file in &status.config_files {
        row("config", file.to_string());
    }
    let share = 100.0 * status.cpu_s / status.uptime_s.max(0.001);
    row(
        "cost",
        format!(
            "{share:.2} % of a core, {:.1} MB",
            status.rss_bytes as f64 / 1e6
        ),
    );
    row(
        "since",
        format!(
            "{} ago, {} events, version {}",
            span(status.uptime_s),
            status.events,
            status.version
        ),
    );
    page
}

/// What has become of a prompt or taught sound.
fn asked(state: &str, by: &str, detail: &str) -> String {
    let mut text = match by {
        "" => state.to_owned(),
        by => format!("{state}, {by}"),
    };
    if !detail.is_empty() {
        text.push_str(&format!(" ({detail})"));
    }
    text
}

/// A length of time in its two largest units.
fn span(seconds: f64) -> String {
    let total = seconds.max(0.0) as u64;
    let (days, hours, minutes, rest) = (
        total / 86_400,
        total / 3600 % 24,
        total / 60 % 60,
        total % 60,
    );
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest} s"),
        (0, 0, _) => format!("{minutes} min {rest} s"),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short() {
        let check = |seconds, expected| assert_eq!(span(seconds), expected);
        check(-1.0, "0 s");
        check(59.9, "59 s");
        check(61.0, "1 min 1 s");
        check(3_661.0, "1 h 1 min");
        check(90_000.0, "1 d 1 h");
    }

    #[test]
    fn the_page_says_what_is_wrong() {
        let text = json!({
            "version": "0.1.0", "state": "stalled", "reason": "no samples for 2 s", "uptime_s": 100.0,
            "config_files": ["/etc/hark/config.toml"],
            "sources": [{"spec": "mic", "name": "Built-in Audio", "rate_hz": 48000, "channels": 2,
                "samples": 1_600_000, "lost_samples": 3, "gaps": 1, "reopened": 2, "fault": "unplugged"}],
            "models": [{"name": "m", "sha256": "", "task": "event", "labels": 40, "steps": 10,
                "skipped": 1, "gated": 5, "p50_us": 900.2, "p99_us": 1200.0}],
            "prompts": [{"name": "kettle", "phrases": ["a kettle", "water"], "threshold": 0.6,
                "state": "waiting", "by": "", "detail": "fetch it", "calibrated": false, "place": ""}],
            "taught": [{"name": "bell", "kind": "sound", "examples": 3, "threshold": 0.5,
                "state": "ready", "by": "m", "detail": ""}],
            "rules": [{"name": "alarm", "kind": "event", "threshold": 0.6, "fired": 2}],
            "inhibitors": [{"who": "call", "why": "a meeting"}],
            "live": {"type": "live", "level_dbfs": -43.21, "noise_floor_dbfs": -61.0,
                "content": "speech", "top": []},
            "events": 7, "rss_bytes": 31_500_000, "cpu_s": 0.8,
        })
        .to_string();
        let status: StatusRecord = serde_json::from_str(&text).unwrap();
        assert_eq!(
            page(&status),
            "\
state     stalled: no samples for 2 s
inhibited by call (a meeting)
source    Built-in Audio (mic), 48000 Hz, 2 channels
          1 min 40 s heard, 3 samples lost, 1 gaps, opened again 2 times
          fault: unplugged
level     -43.2 dBFS over a floor of -61.0 dBFS, speech
model     m (event, 40 labels): 10 steps, 1 skipped, 5 quiet, 900 us at the median, 1200 us at p99
rule      alarm (event): threshold 0.6, fired 2 times
prompt    kettle (threshold 0.6): waiting (fetch it); a kettle | water
taught    bell (sound, 3 examples, threshold 0.5): ready, m
config    /etc/hark/config.toml
cost      0.80 % of a core, 31.5 MB
since     1 min 40 s ago, 7 events, version 0.1.0
"
        );
    }
}
