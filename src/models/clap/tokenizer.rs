//! RoBERTa's tokenizer: byte-level byte pair encoding between two special tokens, as
//! `RobertaTokenizer` of transformers 5.23 has it.
//!
//! Vocabulary and merges come from `tokenizer.json` or from `vocab.json` and `merges.txt`; the rest
//! of `tokenizer.json` is not read, as the reference does not read it either.

use serde_json::{Map, Value};
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer};

use crate::models::ModelError;
use crate::models::layout::Layout;

/// The longest list of merges that is read; the published one has half a million bytes.
const MAX_MERGES_BYTES: u64 = 16 << 20;

/// The special tokens by their keys in `tokenizer_config.json`, with their defaults.
const SPECIAL: [(&str, &str); 7] = [
    ("cls_token", "<s>"),
    ("sep_token", "</s>"),
    ("bos_token", "<s>"),
    ("eos_token", "</s>"),
    ("unk_token", "<unk>"),
    ("pad_token", "<pad>"),
    ("mask_token", "<mask>"),
];

/// Makes tokens of phrases.
pub struct RobertaTokenizer {
    bpe: Tokenizer,
    cls: u32,
    sep: u32,
    max_tokens: usize,
}

impl RobertaTokenizer {
    /// Reads the tokenizer of a directory, for a model that has `positions` positions.
    ///
    /// # Errors
    /// When a file is missing or is not what it should be.
    pub(super) fn load(layout: &Layout, positions: usize) -> Result<Self, ModelError> {
        let settings = match layout.json("tokenizer_config.json")? {
            None => Map::new(),
            Some(Value::Object(settings)) => settings,
            Some(other) => {
                let what = format!("expected an object, got {}", brief(&other));
                return Err(wrong(layout, "tokenizer_config.json", &what));
            }
        };
        let setting = |key: &str, expected: &str, got: &Value| {
            let what = format!("{key}: expected {expected}, got {}", brief(got));
            wrong(layout, "tokenizer_config.json", &what)
        };
        let (file, vocab, merges) = vocabulary(layout)?;
        let id = |token: &str| vocab.get(token).copied();
        let mut special = Vec::new();
        let mut ids = Vec::new();
        for (key, default) in SPECIAL {
            let (token, lstrip) = match settings.get(key) {
                None | Some(Value::Null) => (default, false),
                Some(value) => {
                    let text = value.as_str().or_else(|| value["content"].as_str());
                    let text = text.ok_or_else(|| setting(key, "a token", value))?;
                    (text, value["lstrip"] == Value::Bool(true))
                }
            };
            ids.push((token.to_owned(), id(token)));
            if id(token).is_some() {
                special.push(AddedToken::from(token, true).lstrip(lstrip));
            }
        }
        let needed = |at: usize| {
            let (token, id) = &ids[at];
            id.ok_or_else(|| {
                let what = format!("expected the token {token} in the vocabulary, got none");
                wrong(layout, file, &what)
            })
        };
        let (cls, sep) = (needed(0)?, needed(1)?);
        let add_prefix_space = match settings.get("add_prefix_space") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(flag)) => *flag,
            Some(other) => return Err(setting("add_prefix_space", "true or false", other)),
        };
        let max_tokens = match settings.get("model_max_length") {
            None | Some(Value::Null) => positions,
            Some(value) => match value.as_f64() {
                // Published files write a number beyond all bounds for no limit.
                Some(length) if length >= 3.0 => positions.min(length as usize),
                _ => return Err(setting("model_max_length", "a number from 3", value)),
            },
        };
        let failed = |error: tokenizers::Error| wrong(layout, file, &format!("{error}"));
        let model = BPE::builder()
            .vocab_and_merges(vocab, merges)
            .build()
            .map_err(failed)?;
        let mut bpe = Tokenizer::new(model);
        bpe.with_pre_tokenizer(Some(ByteLevel::new(add_prefix_space, true, true)));
        bpe.add_special_tokens(special).map_err(failed)?;
        Ok(RobertaTokenizer {
            bpe,
            cls,
            sep,
            max_tokens,
        })
    }

    /// The most tokens that a phrase may have, the two special ones included.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// The tokens of a phrase between the two special ones. Nothing is cut off.
    ///
    /// # Errors
    /// When there are more of them than [`RobertaTokenizer::max_tokens`].
    pub fn encode(&self, phrase: &str) -> Result<Vec<u32>, ModelError> {
        let ids = self.all_tokens(phrase)?;
        if ids.len() > self.max_tokens {
            return Err(ModelError::Shape(format!(
                "expected a phrase of at most {} tokens, got one of {}: say it in fewer words",
                self.max_tokens,
                ids.len()
            )));
        }
        Ok(ids)
    }

    /// The tokens of a phrase between the two special ones; of one that is too long the first, as the
    /// reference gives with `truncation=True`.
    ///
    /// # Errors
    /// When the phrase cannot be made into tokens.
    pub fn encode_truncated(&self, phrase: &str) -> Result<Vec<u32>, ModelError> {
        let mut ids = self.all_tokens(phrase)?;
        if ids.len() > self.max_tokens {
            ids.truncate(self.max_tokens - 1);
            ids.push(self.sep);
        }
        Ok(ids)
    }

    fn all_tokens(&self, phrase: &str) -> Result<Vec<u32>, ModelError> {
        let encoded = self.bpe.encode_fast(phrase, false).map_err(|error| {
            ModelError::Format(format!("the phrase cannot be made into tokens: {error}"))
        })?;
        let mut ids = Vec::with_capacity(encoded.len() + 2);
        ids.push(self.cls);
        ids.extend_from_slice(encoded.get_ids());
        ids.push(self.sep);
        Ok(ids)
    }
}

fn wrong(layout: &Layout, file: &str, what: &str) -> ModelError {
    ModelError::Format(format!("{}: {what}", layout.dir().join(file).display()))
}

/// A value as far as a line has room for it.
fn brief(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

type Vocabulary = (&'static str, Vocab, Vec<(String, String)>);

/// The vocabulary and the merges, and the file that the former is from.
fn vocabulary(layout: &Layout) -> Result<Vocabulary, ModelError> {
    const WHOLE: &str = "tokenizer.json";
    const VOCAB: &str = "vocab.json";
    const MERGES: &str = "merges.txt";
    if let Some(whole) = layout.json(WHOLE)? {
        let model = &whole["model"];
        if let Some(kind) = model["type"].as_str().filter(|kind| *kind != "BPE") {
            let what = format!("model.type: expected BPE, got {kind}");
            return Err(wrong(layout, WHOLE, &what));
        }
        let vocab = read_vocab(&model["vocab"])
            .map_err(|what| wrong(layout, WHOLE, &format!("model.vocab: {what}")))?;
        let merges = model["merges"].as_array().map(|merges| {
            merges
                .iter()
                .map(|merge| match merge {
                    Value::String(line) => pair(line),
                    Value::Array(parts) => match parts.as_slice() {
                        [Value::String(a), Value::String(b)] => Some((a.clone(), b.clone())),
                        _ => None,
                    },
                    _ => None,
                })
                .zip(merges)
                .map(|(pair, merge)| pair.ok_or_else(|| brief(merge)))
                .collect::<Result<Vec<_>, _>>()
        });
        let merges = merges
            .unwrap_or_else(|| Err(brief(&model["merges"])))
            .map_err(|got| {
                let what = format!("model.merges: expected pairs of tokens, got {got}");
                wrong(layout, WHOLE, &what)
            })?;
        return Ok((WHOLE, vocab, merges));
    }
    let vocab = layout.json(VOCAB)?.ok_or_else(|| {
        let what = format!("expected {WHOLE}, or {VOCAB} and {MERGES}, got none of them");
        ModelError::Read(format!("{}: {what}", layout.dir().display()))
    })?;
    let vocab = read_vocab(&vocab).map_err(|what| wrong(layout, VOCAB, &what))?;
    Ok((VOCAB, vocab, read_merges(layout, MERGES)?))
}

fn read_vocab(value: &Value) -> Result<Vocab, String> {
    let entries = value
        .as_object()
        .ok_or_else(|| format!("expected tokens with their numbers, got {}", brief(value)))?;
    entries
        .iter()
        .map(|(token, id)| {
            let number = id.as_u64().and_then(|id| u32::try_from(id).ok());
            let number =
                number.ok_or_else(|| format!("{token:?}: expected a number, got {}", brief(id)))?;
            Ok((token.clone(), number))
        })
        .collect()
}

/// Two tokens with a space between them.
fn pair(line: &str) -> Option<(String, String)> {
    let (a, b) = line.split_once(' ')?;
    (!a.is_empty() && !b.is_empty() && !b.contains(' ')).then(|| (a.to_owned(), b.to_owned()))
}

fn read_merges(layout: &Layout, name: &str) -> Result<Vec<(String, String)>, ModelError> {
    let path = layout.dir().join(name);
    let failed = |error| ModelError::Read(format!("{}: {error}", path.display()));
    let bytes = std::fs::metadata(&path).map_err(failed)?.len();
    if bytes > MAX_MERGES_BYTES {
        let what = format!("expected at most {MAX_MERGES_BYTES} bytes, got {bytes}");
        return Err(wrong(layout, name, &what));
    }
    let text = std::fs::read_to_string(&path).map_err(failed)?;
    (1..)
        .zip(text.lines())
        .filter(|(_, line)| !line.starts_with("#version") && !line.is_empty())
        .map(|(number, line)| {
            pair(line).ok_or_else(|| {
                let got = brief(&Value::from(line));
                let what = format!("line {number}: expected two tokens, got {got}");
                wrong(layout, name, &what)
            })
        })
        .collect()
}
