//! What the known checkpoints answer, label by label, without their weights: for advice before
//! anything is fetched.

use super::Row;
use crate::models::audioset;
use crate::models::registry::{Origin, load};

/// Speech Commands v2 (Warden, 2018), in the order of its words.
const SPEECH_COMMANDS: &[&str] = &[
    "backward", "bed", "bird", "cat", "dog", "down", "eight", "five", "follow", "forward", "four",
    "go", "happy", "house", "learn", "left", "marvin", "nine", "no", "off", "on", "one", "right",
    "seven", "sheila", "six", "stop", "three", "tree", "two", "up", "visual", "wow", "yes", "zero",
];

/// The words of the twelve-label task of SUPERB (Yang et al., 2021).
const SUPERB_WORDS: &[&str] = &[
    "yes",
    "no",
    "up",
    "down",
    "left",
    "right",
    "on",
    "off",
    "stop",
    "go",
    "_unknown_",
    "_silence_",
];

/// MInDS-14 (Gerz et al., 2021).
pub(super) const MINDS_14: &[&str] = &[
    "abroad",
    "address",
    "app_error",
    "atm_limit",
    "balance",
    "business_loan",
    "card_issues",
    "cash_deposit",
    "direct_debit",
    "freeze",
    "high_value_payment",
    "joint_account",
    "latest_transactions",
    "pay_bill",
];

/// The languages of FLEURS (Conneau et al., 2022).
const FLEURS: &[&str] = &[
    "Afrikaans",
    "Amharic",
    "Arabic",
    "Armenian",
    "Assamese",
    "Asturian",
    "Azerbaijani",
    "Belarusian",
    "Bengali",
    "Bosnian",
    "Bulgarian",
    "Burmese",
    "Cantonese Chinese",
    "Catalan",
    "Cebuano",
    "Croatian",
    "Czech",
    "Danish",
    "Dutch",
    "English",
    "Estonian",
    "Filipino",
    "Finnish",
    "French",
    "Fula",
    "Galician",
    "Ganda",
    "Georgian",
    "German",
    "Greek",
    "Gujarati",
    "Hausa",
    "Hebrew",
    "Hindi",
    "Hungarian",
    "Icelandic",
    "Igbo",
    "Indonesian",
    "Irish",
    "Italian",
    "Japanese",
    "Javanese",
    "Kabuverdianu",
    "Kamba",
    "Kannada",
    "Kazakh",
    "Khmer",
    "Korean",
    "Kyrgyz",
    "Lao",
    "Latvian",
    "Lingala",
    "Lithuanian",
    "Luo",
    "Luxembourgish",
    "Macedonian",
    "Malay",
    "Malayalam",
    "Maltese",
    "Mandarin Chinese",
    "Maori",
    "Marathi",
    "Mongolian",
    "Nepali",
    "Northern-Sotho",
    "Norwegian",
    "Nyanja",
    "Occitan",
    "Oriya",
    "Oromo",
    "Pashto",
    "Persian",
    "Polish",
    "Portuguese",
    "Punjabi",
    "Romanian",
    "Russian",
    "Serbian",
    "Shona",
    "Sindhi",
    "Slovak",
    "Slovenian",
    "Somali",
    "Sorani-Kurdish",
    "Spanish",
    "Swahili",
    "Swedish",
    "Tajik",
    "Tamil",
    "Telugu",
    "Thai",
    "Turkish",
    "Ukrainian",
    "Umbundu",
    "Urdu",
    "Uzbek",
    "Vietnamese",
    "Welsh",
    "Wolof",
    "Xhosa",
    "Yoruba",
    "Zulu",
];

/// The labels of a row; none where its answer is an embedding.
pub fn labels_of(row: &'static Row) -> Vec<String> {
    let owned = |labels: &[&str]| labels.iter().map(|label| (*label).to_owned()).collect();
    match row.name {
        "ast-keyword" => owned(SPEECH_COMMANDS),
        "wav2vec2-keyword" => owned(SUPERB_WORDS),
        "xlsr-intent" => owned(MINDS_14),
        "whisper-language" => owned(FLEURS),
        "silero-vad" => owned(&["Speech"]),
        "yamnet" => owned(audioset::yamnet_labels()),
        _ if row.labels == audioset::audioset_labels().len() => audioset::audioset_labels()
            .iter()
            .map(|label| label.name.to_owned())
            .collect(),
        _ if row.origin == Origin::Embedded => load(row)
            .map(|model| {
                model
                    .info()
                    .labels
                    .iter()
                    .map(ToString::to_string)
                    .collect()
            })
            .unwrap_or_default(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::ROWS;
    use super::*;

    #[test]
    fn every_row_has_as_many_labels_as_it_says_and_none_twice() {
        for row in ROWS {
            let mut labels = labels_of(row);
            assert_eq!(labels.len(), row.labels, "{}", row.name);
            labels.sort();
            labels.dedup();
            assert_eq!(labels.len(), row.labels, "{}", row.name);
        }
    }
}
