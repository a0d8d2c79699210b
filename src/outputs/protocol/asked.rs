//! The part of the wire format that tells what is asked to be listened for: prompts and taught sounds.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::score;
use crate::command::{PromptStatus, TaughtStatus};

/// A prompt: in `prompts`, in `status`, and in the property `Prompts` on D-Bus.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PromptRecord<'a> {
    /// Its name, the label of its events.
    pub name: Cow<'a, str>,
    /// What it sounds like, in plain words.
    pub phrases: Vec<Cow<'a, str>>,
    /// Threshold in force.
    pub threshold: f64,
    /// `ready`, `loading`, `waiting`, `fallback` or `failed`.
    pub state: Cow<'a, str>,
    /// The model that answers; empty where none does.
    pub by: Cow<'a, str>,
    /// The labels that answer, the command that helps, or why it failed.
    pub detail: Cow<'a, str>,
    /// Whether its scores take the room into account.
    pub calibrated: bool,
    /// Where it stands in the configuration; empty where it was added while the daemon ran.
    pub place: Cow<'a, str>,
}

impl<'a> From<&'a PromptStatus> for PromptRecord<'a> {
    fn from(prompt: &'a PromptStatus) -> Self {
        let phrases = prompt.phrases.iter();
        PromptRecord {
            name: Cow::Borrowed(&prompt.name),
            phrases: phrases.map(|p| Cow::Borrowed(p.as_str())).collect(),
            threshold: score(prompt.threshold),
            state: Cow::Borrowed(prompt.state.as_str()),
            by: Cow::Borrowed(&prompt.by),
            detail: Cow::Borrowed(&prompt.detail),
            calibrated: prompt.calibrated,
            place: Cow::Borrowed(&prompt.place),
        }
    }
}

/// A taught sound: in `taught`, in `status`, and in the property `Taught` on D-Bus.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaughtRecord<'a> {
    /// Its name, the label of its events.
    pub name: Cow<'a, str>,
    /// `sound` or `word`.
    pub kind: Cow<'a, str>,
    /// How many examples it was learned from.
    pub examples: usize,
    /// Threshold in force.
    pub threshold: f64,
    /// As in [`PromptRecord`].
    pub state: Cow<'a, str>,
    /// The model whose embedding it is of.
    pub by: Cow<'a, str>,
    /// The command that helps, or why it failed.
    pub detail: Cow<'a, str>,
}

impl<'a> From<&'a TaughtStatus> for TaughtRecord<'a> {
    fn from(taught: &'a TaughtStatus) -> Self {
        TaughtRecord {
            name: Cow::Borrowed(&taught.name),
            kind: Cow::Borrowed(taught.kind.as_str()),
            examples: taught.examples,
            threshold: score(taught.threshold),
            state: Cow::Borrowed(taught.state.as_str()),
            by: Cow::Borrowed(&taught.by),
            detail: Cow::Borrowed(&taught.detail),
        }
    }
}

/// The records of a list.
pub fn records<'a, T, R: From<&'a T>>(list: &'a [T]) -> Vec<R> {
    list.iter().map(R::from).collect()
}

/// The result of `prompts`, and with a `type` what subscribers with `live` are told of changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PromptsResult<'a> {
    /// `prompts` in a notice; left out in a result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#type: Option<Cow<'a, str>>,
    /// The prompts in their order.
    pub prompts: Vec<PromptRecord<'a>>,
}

impl<'a> PromptsResult<'a> {
    /// The result of `prompts`.
    pub fn new(prompts: &'a [PromptStatus]) -> Self {
        PromptsResult {
            r#type: None,
            prompts: records(prompts),
        }
    }

    /// The notice that they have changed.
    pub fn notice(prompts: &'a [PromptStatus]) -> Self {
        PromptsResult {
            r#type: Some(Cow::Borrowed("prompts")),
            prompts: records(prompts),
        }
    }
}

/// The result of `taught`, and with a `type` what subscribers with `live` are told of changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaughtResult<'a> {
    /// `taught` in a notice; left out in a result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#type: Option<Cow<'a, str>>,
    /// The taught sounds in their order.
    pub taught: Vec<TaughtRecord<'a>>,
}

impl<'a> TaughtResult<'a> {
    /// The result of `taught`.
    pub fn new(taught: &'a [TaughtStatus]) -> Self {
        TaughtResult {
            r#type: None,
            taught: records(taught),
        }
    }

    /// The notice that they have changed.
    pub fn notice(taught: &'a [TaughtStatus]) -> Self {
        TaughtResult {
            r#type: Some(Cow::Borrowed("taught")),
            taught: records(taught),
        }
    }
}

/// The result of `prompt_add`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PromptResult<'a> {
    /// What has become of it.
    pub prompt: PromptRecord<'a>,
}

/// The result of `teach`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LearnedResult<'a> {
    /// What was learned.
    pub taught: TaughtRecord<'a>,
    /// What should be looked at: examples that disagree, or resemble something else.
    pub warnings: Vec<Cow<'a, str>>,
}

#[cfg(test)]
mod tests {
    use super::super::line;
    use super::*;
    use crate::command::{AskedState, TaughtKind};

    #[test]
    fn records_read_back_and_only_notices_have_a_type() {
        let prompts = [PromptStatus {
            name: "kettle".into(),
            phrases: vec!["a kettle".into(), "water boiling".into()],
            threshold: 0.6,
            state: AskedState::Fallback,
            by: "hark-event".into(),
            detail: "answered by Water".into(),
            calibrated: false,
            place: String::new(),
        }];
        let taught = [TaughtStatus {
            name: "my doorbell".into(),
            kind: TaughtKind::Sound,
            examples: 3,
            threshold: 0.5,
            state: AskedState::Ready,
            by: "hark-event".into(),
            detail: String::new(),
        }];
        let result = line(&PromptsResult::new(&prompts));
        assert!(
            result.starts_with(r#"{"prompts":[{"name":"kettle","#),
            "{result}"
        );
        assert!(
            result.contains(r#""state":"fallback","by":"hark-event""#),
            "{result}"
        );
        let notice = line(&TaughtResult::notice(&taught));
        assert!(
            notice.starts_with(r#"{"type":"taught","taught":[{"#),
            "{notice}"
        );
        let back: PromptsResult = serde_json::from_str(&result).unwrap();
        assert_eq!(back, PromptsResult::new(&prompts));
        let back: TaughtResult = serde_json::from_str(&notice).unwrap();
        assert_eq!(back, TaughtResult::notice(&taught));
    }
}
