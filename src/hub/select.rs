//! Which files of a repository are wanted, given which ones it has.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::error::HubError;
use super::names::path_trouble;

/// A wish for a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted<'a> {
    /// A repository without it is of no use.
    Required(&'a str),
    /// Taken where it is there.
    Optional(&'a str),
    /// The first that is there, and one must be. A name that ends with `.index.json` brings the
    /// shards that it lists.
    OneOf(&'a [&'a str]),
}

/// What a model in the layout of transformers consists of; the weights as safetensors if possible.
pub const TRANSFORMERS: &[Wanted<'static>] = &[
    Wanted::Required("config.json"),
    Wanted::Optional("preprocessor_config.json"),
    Wanted::Optional("processor_config.json"),
    Wanted::Optional("tokenizer.json"),
    Wanted::Optional("tokenizer_config.json"),
    Wanted::Optional("special_tokens_map.json"),
    Wanted::Optional("added_tokens.json"),
    Wanted::Optional("vocab.json"),
    Wanted::Optional("merges.txt"),
    Wanted::Optional("vocab.txt"),
    Wanted::OneOf(&[
        "model.safetensors",
        "model.safetensors.index.json",
        "pytorch_model.bin",
        "pytorch_model.bin.index.json",
    ]),
];

/// What a speaker model of SpeechBrain consists of, as its `hyperparams.yaml` names the parts.
pub const SPEECHBRAIN: &[Wanted<'static>] = &[
    Wanted::Required("embedding_model.ckpt"),
    Wanted::Required("hyperparams.yaml"),
    Wanted::Optional("config.json"),
    Wanted::Optional("mean_var_norm_emb.ckpt"),
    Wanted::Optional("classifier.ckpt"),
    Wanted::Optional("label_encoder.txt"),
];

/// What is known of a file without asking further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// It is there.
    There,
    /// It is not.
    Absent,
    /// Nobody has looked.
    Unknown,
}

/// The names that the wishes come to, or the first wish that cannot be met. `strict` also wants to
/// be sure of what is not there.
pub fn choose<'a>(
    wanted: &[Wanted<'a>],
    strict: bool,
    known: impl Fn(&str) -> Known,
) -> Result<Vec<&'a str>, Wanted<'a>> {
    let mut chosen = Vec::new();
    for wish in wanted {
        let own;
        let names: &[&'a str] = match wish {
            Wanted::Required(name) | Wanted::Optional(name) => {
                own = [*name];
                &own
            }
            Wanted::OneOf(names) => names,
        };
        let mut found = None;
        for name in names {
            match known(name) {
                Known::There => {
                    found = Some(*name);
                    break;
                }
                Known::Unknown if strict => return Err(*wish),
                Known::Absent | Known::Unknown => {}
            }
        }
        match (found, wish) {
            (Some(name), _) => chosen.push(name),
            (None, Wanted::Optional(_)) => {}
            (None, _) => return Err(*wish),
        }
    }
    Ok(chosen)
}

/// Every name that a wish may come to.
pub fn names<'a>(wanted: &[Wanted<'a>]) -> Vec<&'a str> {
    wanted
        .iter()
        .flat_map(|wish| match wish {
            Wanted::Required(name) | Wanted::Optional(name) => vec![*name],
            Wanted::OneOf(names) => names.to_vec(),
        })
        .collect()
}

/// Whether this file lists shards.
pub fn is_index(file: &str) -> bool {
    file.ends_with(".index.json")
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The shards that an index lists, as paths inside the repository.
///
/// # Errors
/// When it is no index, or names files that are not beside it.
pub fn shards(index: &str, bytes: &[u8]) -> Result<Vec<String>, HubError> {
    let parsed: Index = serde_json::from_slice(bytes)
        .map_err(|error| HubError::refused(index, format!("no index of shards: {error}")))?;
    let folder = index.rfind('/').map_or("", |at| &index[..=at]);
    let shards: BTreeSet<String> = parsed.weight_map.into_values().collect();
    if shards.is_empty() {
        return Err(HubError::refused(
            index,
            "weight_map: expected shards, got none",
        ));
    }
    shards
        .into_iter()
        .map(|shard| match path_trouble(&shard) {
            None if !shard.contains('/') => Ok(format!("{folder}{shard}")),
            trouble => Err(HubError::refused(
                index,
                format!(
                    "weight_map: expected a file beside the index, got '{}': {}",
                    shard.escape_debug(),
                    trouble.unwrap_or("it is in another folder")
                ),
            )),
        })
        .collect()
}

/// A wish in words, for the message that it cannot be met.
pub fn described(wish: &Wanted<'_>) -> String {
    match wish {
        Wanted::Required(name) | Wanted::Optional(name) => (*name).to_owned(),
        Wanted::OneOf(names) => format!("one of {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: &[Wanted<'static>] = &[
        Wanted::Required("config.json"),
        Wanted::Optional("tokenizer.json"),
        Wanted::OneOf(&["model.safetensors", "pytorch_model.bin"]),
    ];

    fn check(there: &[&str], expected: Result<&[&str], Wanted<'static>>) {
        let chosen = choose(WANTED, true, |name| {
            if there.contains(&name) {
                Known::There
            } else {
                Known::Absent
            }
        });
        assert_eq!(
            chosen.as_deref(),
            expected.as_ref().map(|e| *e),
            "{there:?}"
        );
    }

    #[test]
    fn the_first_alternative_that_is_there_is_taken() {
        check(
            &["config.json", "pytorch_model.bin", "model.safetensors", "x"],
            Ok(&["config.json", "model.safetensors"]),
        );
        check(
            &["config.json", "pytorch_model.bin", "tokenizer.json"],
            Ok(&["config.json", "tokenizer.json", "pytorch_model.bin"]),
        );
        check(&["config.json"], Err(WANTED[2]));
        check(&["model.safetensors"], Err(WANTED[0]));
    }

    #[test]
    fn who_wants_to_be_sure_is_not_content_with_what_happens_to_be_there() {
        let known = |name: &str| match name {
            "tokenizer.json" => Known::Unknown,
            _ => Known::There,
        };
        assert_eq!(choose(WANTED, true, known), Err(WANTED[1]));
        assert_eq!(
            choose(WANTED, false, known),
            Ok(vec!["config.json", "model.safetensors"])
        );
    }

    #[test]
    fn shards_lie_beside_their_index() {
        let check = |index: &str, json: &str, expected: Option<&[&str]>| {
            let shards = shards(index, json.as_bytes());
            match (shards, expected) {
                (Ok(shards), Some(expected)) => assert_eq!(shards, expected),
                (Err(error), None) => assert!(error.to_string().contains(index), "{error}"),
                (got, _) => panic!("{json}: {got:?}"),
            }
        };
        let two = r#"{"weight_map":{"a":"s-2.bin","b":"s-1.bin","c":"s-2.bin"}}"#;
        check("m.index.json", two, Some(&["s-1.bin", "s-2.bin"]));
        check("d/m.index.json", two, Some(&["d/s-1.bin", "d/s-2.bin"]));
        for bad in [
            r#"{"weight_map":{}}"#,
            r#"{"weight_map":{"a":"../s"}}"#,
            r#"{"weight_map":{"a":"/etc/passwd"}}"#,
            r#"{"weight_map":{"a":"d/s"}}"#,
            r#"{"weight_map":{"a":7}}"#,
            r#"{"weight_map"#,
            "[]",
        ] {
            check("m.index.json", bad, None);
        }
    }
}
