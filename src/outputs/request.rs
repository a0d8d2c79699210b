//! Reads one request line of the socket.
//!
//! Every value is checked here, so that the daemon's loop only sees commands that make sense;
//! unknown keys are errors, and every message names the method, the key and what is allowed.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::command::{Command, TaughtKind};
use crate::config::PromptLabel;
use crate::config::prompt::{brief, check_name};

use super::filter::Filter;
use super::protocol::{Code, ErrorRecord};

/// Longest line in bytes, without its end.
pub const MAX_LINE: usize = 64 * 1024;

/// Most entries that `top` and `history` give at once.
pub const MAX_ENTRIES: usize = 1000;

/// Longest pause in seconds: a year. Whoever wants more can leave `seconds` out.
pub const MAX_PAUSE_S: f64 = 366.0 * 86_400.0;

/// Most examples that a sound is taught from.
pub const MAX_EXAMPLES: usize = 64;

/// The methods, as an error names them.
const METHODS: &str = "subscribe, unsubscribe, status, top, pause, resume, reload, inhibit, \
                       prompts, prompt_add, prompt_remove, threshold_set, teach, taught, forget, \
                       taught_changed, history";

/// A request that makes sense.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    /// Send the events that pass from now on.
    Subscribe(Filter),
    /// Send no more events.
    Unsubscribe,
    /// Not to listen while the connection lives.
    Inhibit {
        /// Who asks.
        who: String,
        /// And why.
        why: String,
    },
    /// For the daemon's loop.
    Ask(Command),
}

/// One line: the id to answer with, and the request or what is wrong with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// A number, a string or null; null where it cannot be read.
    pub id: Value,
    /// What is asked.
    pub call: Result<Call, ErrorRecord>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    method: String,
    #[serde(default)]
    params: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoParams {}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct SubscribeParams {
    kinds: Vec<String>,
    labels: Vec<String>,
    min_score: Option<f32>,
    live: bool,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct CountParams {
    n: Option<usize>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct PauseParams {
    seconds: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InhibitParams {
    who: String,
    why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ThresholdParams {
    rule: String,
    threshold: f32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PromptParams {
    name: String,
    phrases: Vec<String>,
    #[serde(default)]
    threshold: Option<f32>,
    #[serde(default)]
    replace: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NameParams {
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TeachParams {
    name: String,
    files: Vec<PathBuf>,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    replace: bool,
}

fn bad(message: impl Into<String>) -> ErrorRecord {
    ErrorRecord::new(Code::BadParams, message)
}

/// Reads a line without its end.
pub fn parse(line: &[u8]) -> Parsed {
    let fail = |id, error| Parsed {
        id,
        call: Err(error),
    };
    let Ok(text) = std::str::from_utf8(line) else {
        return fail(Value::Null, bad("the line is not UTF-8"));
    };
    let mut object = match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(object)) => object,
        Ok(_) => {
            let why = "a request is an object: {\"id\":1,\"method\":\"status\",\"params\":{}}";
            return fail(Value::Null, bad(why));
        }
        Err(error) => return fail(Value::Null, bad(format!("the line is not JSON: {error}"))),
    };
    let id = match object.remove("id") {
        None => Value::Null,
        Some(id @ (Value::Null | Value::Number(_) | Value::String(_))) => id,
        Some(_) => return fail(Value::Null, bad("id: expected a number or a string")),
    };
    let call = match serde_json::from_value::<Envelope>(Value::Object(object)) {
        Ok(envelope) => resolve(&envelope.method, envelope.params.unwrap_or_default()),
        Err(error) => Err(bad(error.to_string())),
    };
    Parsed { id, call }
}

fn params<T: DeserializeOwned>(method: &str, params: Map<String, Value>) -> Result<T, ErrorRecord> {
    serde_json::from_value(Value::Object(params)).map_err(|e| bad(format!("{method}: {e}")))
}

fn resolve(method: &str, given: Map<String, Value>) -> Result<Call, ErrorRecord> {
    match method {
        "subscribe" => subscribe(params(method, given)?).map(Call::Subscribe),
        "unsubscribe" => params::<NoParams>(method, given).map(|_| Call::Unsubscribe),
        "status" => params::<NoParams>(method, given).map(|_| Call::Ask(Command::Status)),
        "resume" => params::<NoParams>(method, given).map(|_| Call::Ask(Command::Resume)),
        "reload" => params::<NoParams>(method, given).map(|_| Call::Ask(Command::Reload)),
        "prompts" => params::<NoParams>(method, given).map(|_| Call::Ask(Command::Prompts)),
        "taught" => params::<NoParams>(method, given).map(|_| Call::Ask(Command::Taught)),
        "taught_changed" => {
            params::<NoParams>(method, given).map(|_| Call::Ask(Command::TaughtChanged))
        }
        "prompt_add" => {
            let given: PromptParams = params(method, given)?;
            add_prompt(given.name, given.phrases, given.threshold, given.replace)
                .map(Call::Ask)
                .map_err(|error| bad(format!("prompt_add: {error}")))
        }
        "prompt_remove" => {
            let NameParams { name } = params(method, given)?;
            Ok(Call::Ask(Command::RemovePrompt { name }))
        }
        "teach" => {
            let given: TeachParams = params(method, given)?;
            let kind = given.kind.as_deref().unwrap_or(TaughtKind::Sound.as_str());
            teach(given.name, kind, given.files, given.replace)
                .map(Call::Ask)
                .map_err(|error| bad(format!("teach: {error}")))
        }
        "forget" => {
            let NameParams { name } = params(method, given)?;
            Ok(Call::Ask(Command::Forget { name }))
        }
        "top" => {
            let n = count(method, params(method, given)?, 10)?;
            Ok(Call::Ask(Command::Top { n }))
        }
        "history" => {
            let n = count(method, params(method, given)?, 20)?;
            Ok(Call::Ask(Command::History { n }))
        }
        "pause" => {
            let PauseParams { seconds } = params(method, given)?;
            let duration = seconds.map(pause_time).transpose().map_err(bad)?;
            Ok(Call::Ask(Command::Pause { duration }))
        }
        "inhibit" => {
            let InhibitParams { who, why } = params(method, given)?;
            let who = named(who).map_err(|error| bad(format!("inhibit: {error}")))?;
            Ok(Call::Inhibit { who, why })
        }
        "threshold_set" => {
            let ThresholdParams { rule, threshold } = params(method, given)?;
            let threshold =
                unit(threshold).map_err(|e| bad(format!("threshold_set: threshold: {e}")))?;
            Ok(Call::Ask(Command::SetThreshold { rule, threshold }))
        }
        _ => {
            // A method name can be as long as the line; the answer must stay readable.
            let short: String = method.chars().take(40).collect();
            Err(ErrorRecord::new(
                Code::UnknownMethod,
                format!("unknown method '{short}'; expected one of {METHODS}"),
            ))
        }
    }
}

fn subscribe(given: SubscribeParams) -> Result<Filter, ErrorRecord> {
    let kinds = given
        .kinds
        .iter()
        .map(|kind| kind.parse())
        .collect::<Result<_, String>>()
        .map_err(|error| bad(format!("subscribe: kinds: {error}")))?;
    let min_score = unit(given.min_score.unwrap_or(0.0))
        .map_err(|error| bad(format!("subscribe: min_score: {error}")))?;
    Ok(Filter::new(kinds, given.labels, min_score, given.live))
}

fn count(method: &str, given: CountParams, default: usize) -> Result<usize, ErrorRecord> {
    entries(given.n.unwrap_or(default)).map_err(|error| bad(format!("{method}: {error}")))
}

/// A number of entries as given from outside.
///
/// # Errors
/// When it is 0 or over [`MAX_ENTRIES`].
pub fn entries(n: usize) -> Result<usize, String> {
    if (1..=MAX_ENTRIES).contains(&n) {
        Ok(n)
    } else {
        Err(format!("n is {n}; expected 1 to {MAX_ENTRIES}"))
    }
}

/// A prompt as given from outside.
///
/// # Errors
/// When it is none; see [`PromptLabel::check`].
pub fn add_prompt(
    name: String,
    phrases: Vec<String>,
    threshold: Option<f32>,
    replace: bool,
) -> Result<Command, String> {
    let label = PromptLabel {
        name,
        phrases,
        threshold,
    };
    label.check()?;
    Ok(Command::AddPrompt { label, replace })
}

/// What is to be taught, as given from outside.
///
/// # Errors
/// When the name or the kind is none, or the files are none, too many, or not absolute: the daemon
/// has a working directory of its own.
pub fn teach(
    name: String,
    kind: &str,
    files: Vec<PathBuf>,
    replace: bool,
) -> Result<Command, String> {
    check_name(&name, "sound").map_err(|error| format!("name: {error}"))?;
    let kind = kind.parse().map_err(|error| format!("kind: {error}"))?;
    if files.is_empty() || files.len() > MAX_EXAMPLES {
        return Err(format!(
            "files: {} examples; expected 1 to {MAX_EXAMPLES}",
            files.len()
        ));
    }
    if let Some(file) = files.iter().find(|file| !file.is_absolute()) {
        return Err(format!(
            "files: '{}' is not an absolute path",
            brief(&file.to_string_lossy())
        ));
    }
    Ok(Command::Teach {
        name,
        kind,
        files,
        replace,
    })
}

/// Who inhibits, as given from outside.
///
/// # Errors
/// When it is empty: `status` could not say whom to ask.
pub fn named(who: String) -> Result<String, String> {
    if who.trim().is_empty() {
        Err("who is empty; say who asks".into())
    } else {
        Ok(who)
    }
}

/// A score or threshold as given from outside.
///
/// # Errors
/// When it is not in `0.0..=1.0`.
pub fn unit(value: f32) -> Result<f32, String> {
    if (0.0..=1.0).contains(&value) {
        Ok(value)
    } else {
        Err(format!("{value} is not in 0 to 1"))
    }
}

/// The length of a pause as given from outside, in seconds.
///
/// # Errors
/// When it is not positive or over a year.
pub fn pause_time(seconds: f64) -> Result<Duration, String> {
    if seconds > 0.0 && seconds <= MAX_PAUSE_S {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(format!(
            "pause: {seconds} s is not over 0 and at most {MAX_PAUSE_S}; leave it out to pause until resumed"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Kind;

    fn error(line: &str) -> (Value, Code, String) {
        let parsed = parse(line.as_bytes());
        let error = parsed.call.expect_err(line);
        (parsed.id, error.code, error.message)
    }

    #[test]
    fn requests_become_commands() {
        fn check(line: &str, expected: Call) {
            assert_eq!(parse(line.as_bytes()).call, Ok(expected), "{line}");
        }
        check(r#"{"id":1,"method":"status"}"#, Call::Ask(Command::Status));
        check(
            r#"{"method":"status","params":null}"#,
            Call::Ask(Command::Status),
        );
        check(r#"{"method":"top"}"#, Call::Ask(Command::Top { n: 10 }));
        check(
            r#"{"method":"history","params":{"n":1000}}"#,
            Call::Ask(Command::History { n: 1000 }),
        );
        check(
            r#"{"method":"pause","params":{"seconds":1.5}}"#,
            Call::Ask(Command::Pause {
                duration: Some(Duration::from_millis(1500)),
            }),
        );
        check(
            r#"{"method":"pause"}"#,
            Call::Ask(Command::Pause { duration: None }),
        );
        check(
            r#"{"method":"threshold_set","params":{"rule":"alarm","threshold":1}}"#,
            Call::Ask(Command::SetThreshold {
                rule: "alarm".into(),
                threshold: 1.0,
            }),
        );
        check(r#"{"method":"prompts"}"#, Call::Ask(Command::Prompts));
        check(
            r#"{"method":"prompt_add","params":{"name":"kettle","phrases":["a kettle"],"threshold":0.5,"replace":true}}"#,
            Call::Ask(Command::AddPrompt {
                label: PromptLabel {
                    name: "kettle".into(),
                    phrases: vec!["a kettle".into()],
                    threshold: Some(0.5),
                },
                replace: true,
            }),
        );
        check(
            r#"{"method":"prompt_remove","params":{"name":"kettle"}}"#,
            Call::Ask(Command::RemovePrompt {
                name: "kettle".into(),
            }),
        );
        check(
            r#"{"method":"teach","params":{"name":"bell","files":["/a.wav"]}}"#,
            Call::Ask(Command::Teach {
                name: "bell".into(),
                kind: TaughtKind::Sound,
                files: vec!["/a.wav".into()],
                replace: false,
            }),
        );
        check(
            r#"{"method":"forget","params":{"name":"bell"}}"#,
            Call::Ask(Command::Forget {
                name: "bell".into(),
            }),
        );
        check(
            r#"{"method":"subscribe","params":{"kinds":["keyword"],"labels":["yes"],"min_score":0.5,"live":true}}"#,
            Call::Subscribe(Filter::new(
                vec![Kind::Keyword],
                vec!["yes".into()],
                0.5,
                true,
            )),
        );
    }

    #[test]
    fn nonsense_is_named() {
        fn check(line: &str, code: Code, needle: &str) {
            let (_, got, message) = error(line);
            assert_eq!(got, code, "{line}");
            assert!(message.contains(needle), "{line}: {message}");
            assert!(!message.contains('\n'), "{message}");
            assert!(message.len() < 400, "{message}");
        }
        let bad = Code::BadParams;
        check("", bad, "not JSON");
        check("{", bad, "not JSON");
        check("[]", bad, "a request is an object");
        check("{}", bad, "missing field `method`");
        check(r#"{"method":1}"#, bad, "expected a string");
        check(r#"{"id":[1],"method":"status"}"#, bad, "id: expected");
        check(
            r#"{"method":"status","extra":1}"#,
            bad,
            "unknown field `extra`",
        );
        check(r#"{"method":"status","params":[]}"#, bad, "expected a map");
        check(
            r#"{"method":"status","params":{"a":1}}"#,
            bad,
            "status: unknown field `a`",
        );
        check(r#"{"method":"top","params":{"n":-1}}"#, bad, "top:");
        check(
            r#"{"method":"top","params":{"n":0}}"#,
            bad,
            "expected 1 to 1000",
        );
        check(
            r#"{"method":"history","params":{"n":1e9}}"#,
            bad,
            "history:",
        );
        check(
            r#"{"method":"pause","params":{"seconds":0}}"#,
            bad,
            "not over 0",
        );
        check(
            r#"{"method":"pause","params":{"seconds":1e300}}"#,
            bad,
            "not over 0",
        );
        check(
            r#"{"method":"inhibit","params":{"who":"x"}}"#,
            bad,
            "missing field `why`",
        );
        check(
            r#"{"method":"inhibit","params":{"who":" ","why":""}}"#,
            bad,
            "who is empty",
        );
        check(
            r#"{"method":"threshold_set","params":{"rule":"a","threshold":1.1}}"#,
            bad,
            "not in 0 to 1",
        );
        check(
            r#"{"method":"subscribe","params":{"kinds":["smell"]}}"#,
            bad,
            "unknown kind 'smell'",
        );
        check(
            r#"{"method":"subscribe","params":{"min_score":-0.1}}"#,
            bad,
            "min_score",
        );
        check(
            r#"{"method":"sing"}"#,
            Code::UnknownMethod,
            "unknown method 'sing'",
        );
        check(
            &format!(r#"{{"method":"{}"}}"#, "x".repeat(9999)),
            Code::UnknownMethod,
            "xxx'",
        );
        check(
            r#"{"method":"teach","params":{"x":1}}"#,
            bad,
            "teach: unknown field `x`",
        );
        check(
            r#"{"method":"teach","params":{"name":"a","files":[]}}"#,
            bad,
            "teach: files: 0 examples; expected 1 to 64",
        );
        check(
            r#"{"method":"teach","params":{"name":"a","files":["b.wav"]}}"#,
            bad,
            "teach: files: 'b.wav' is not an absolute path",
        );
        check(
            r#"{"method":"teach","params":{"name":"a","files":["/b"],"kind":"smell"}}"#,
            bad,
            "teach: kind: unknown kind 'smell'",
        );
        check(
            r#"{"method":"prompt_add","params":{"name":"a","phrases":[""]}}"#,
            bad,
            "prompt_add: phrases.0: the phrase is empty",
        );
        check(&"[".repeat(MAX_LINE), bad, "not JSON");
        assert_eq!(
            parse(b"\"\xff\"").call.unwrap_err().message,
            "the line is not UTF-8"
        );
    }

    #[test]
    fn the_id_survives_a_bad_request() {
        assert_eq!(error(r#"{"id":7,"method":"sing"}"#).0, Value::from(7));
        assert_eq!(
            error(r#"{"id":"q","method":"top","params":{"m":1}}"#).0,
            Value::from("q")
        );
    }
}
