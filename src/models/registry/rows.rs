//! One row for every known checkpoint.
//!
//! Sizes and numbers of labels are what the published files have; what was measured of them is in
//! their own model cards.

use super::{Origin, Row};
use crate::models::Task;
use crate::models::layout::Activated;

const APACHE: &str = "Apache-2.0";
const BSD: &str = "BSD-3-Clause";
const MIT: &str = "MIT";
const CC_BY_SA: &str = "CC-BY-SA-3.0";

/// A checkpoint on a hub, at its main revision.
const fn hub(repo: &'static str) -> Origin {
    Origin::Hub {
        repo,
        revision: "main",
    }
}

/// A file of EfficientAT's first release.
const fn efficientat(
    url: &'static str,
    file: &'static str,
    sha256: Option<&'static str>,
) -> Origin {
    Origin::Download { url, file, sha256 }
}

/// Every known checkpoint; those of one task stand best first.
pub const ROWS: &[Row] = &[
    Row {
        name: "ast-keyword",
        task: Task::Keyword,
        about: "AST on Speech Commands v2, words of one second",
        origin: hub("MIT/ast-finetuned-speech-commands-v2"),
        labels: 35,
        bytes: 341_500_000,
        licence: BSD,
        scores: None,
    },
    Row {
        name: "wav2vec2-keyword",
        task: Task::Keyword,
        about: "wav2vec 2.0 base on Speech Commands (SUPERB keyword spotting)",
        origin: hub("superb/wav2vec2-base-superb-ks"),
        labels: 12,
        bytes: 378_400_000,
        licence: APACHE,
        scores: None,
    },
    Row {
        name: "hark-keyword",
        task: Task::Keyword,
        about: "spoken words, stepped on every 10 ms frame",
        origin: Origin::Embedded,
        labels: 15,
        bytes: 0,
        licence: APACHE,
        scores: None,
    },
    Row {
        name: "efficientat-mn10",
        task: Task::Event,
        about: "EfficientAT MobileNet on AudioSet (mAP 0.471), the best here for a CPU",
        origin: efficientat(
            "https://github.com/fschmid56/EfficientAT/releases/download/v0.0.1/mn10_as_mAP_471.pt",
            "mn10_as_mAP_471.pt",
            Some("0bd7dc2443af498c289a2e739f02ebb515d6aa3fd3ab9db539c86123ae368a4e"),
        ),
        labels: 527,
        bytes: 19_708_753,
        licence: MIT,
        scores: None,
    },
    Row {
        name: "ast-audioset",
        task: Task::Event,
        about: "AST on AudioSet (mAP 0.459)",
        origin: hub("MIT/ast-finetuned-audioset-10-10-0.4593"),
        labels: 527,
        bytes: 346_400_000,
        licence: BSD,
        scores: Some(Activated::Sigmoid),
    },
    Row {
        name: "efficientat-dymn04",
        task: Task::Event,
        about: "EfficientAT dynamic MobileNet on AudioSet (mAP 0.450)",
        origin: efficientat(
            "https://github.com/fschmid56/EfficientAT/releases/download/v0.0.1/dymn04_as.pt",
            "dymn04_as.pt",
            None,
        ),
        labels: 527,
        bytes: 8_000_000,
        licence: MIT,
        scores: None,
    },
    Row {
        name: "efficientat-mn04",
        task: Task::Event,
        about: "EfficientAT small MobileNet on AudioSet (mAP 0.432)",
        origin: efficientat(
            "https://github.com/fschmid56/EfficientAT/releases/download/v0.0.1/mn04_as_mAP_432.pt",
            "mn04_as_mAP_432.pt",
            Some("899a8c6217063f6941793102a2780b3dd788ab11fce468d9cf5f0577c453321c"),
        ),
        labels: 527,
        bytes: 4_000_000,
        licence: MIT,
        scores: None,
    },
    Row {
        name: "yamnet",
        task: Task::Event,
        about: "YAMNet on AudioSet, light, on windows of a second",
        origin: Origin::Download {
            url: "https://github.com/CherryPockyOvO/Pokonyan/raw/1e670b5ca2e2cfa77fd06cdac28a4a32ac770ee8/model/yamnet.tflite",
            file: "yamnet.tflite",
            sha256: Some("2d5e1e0577beb1fd3b6ba4cf89a7b8813340added8dae72f64fe8cd18731dd4a"),
        },
        labels: 521,
        bytes: 3_963_312,
        licence: APACHE,
        scores: None,
    },
    Row {
        name: "hark-event",
        task: Task::Event,
        about: "household sounds, speech and music, on windows of about a second",
        origin: Origin::Embedded,
        labels: 31,
        bytes: 0,
        licence: APACHE,
        scores: None,
    },
    Row {
        name: "silero-vad",
        task: Task::Event,
        about: "Silero VAD: whether somebody speaks; what speech_only asks",
        origin: Origin::Download {
            url: "https://github.com/snakers4/silero-vad/raw/d5b52843f79c97810940534f3433e162470af83d/src/silero_vad/data/silero_vad_16k.safetensors",
            file: "silero_vad_16k.safetensors",
            sha256: Some("c59271c284ae9c8335d795d60e0bfdb71aaaceec578d9bd9ffc1b8153c319ea1"),
        },
        labels: 1,
        bytes: 1_239_748,
        licence: MIT,
        scores: None,
    },
    Row {
        name: "xlsr-intent",
        task: Task::Intent,
        about: "XLS-R 300M on MInDS-14: what a caller to a bank wants, in 14 languages",
        origin: hub("anton-l/xtreme_s_xlsr_300m_minds14"),
        labels: 14,
        bytes: 1_263_000_000,
        licence: APACHE,
        scores: None,
    },
    Row {
        name: "whisper-language",
        task: Task::Language,
        about: "Whisper medium encoder on FLEURS: the language that is spoken",
        origin: hub("sanchit-gandhi/whisper-medium-fleurs-lang-id"),
        labels: 102,
        bytes: 1_230_000_000,
        licence: APACHE,
        scores: None,
    },
    Row {
        name: "ecapa-speaker",
        task: Task::Speaker,
        about: "ECAPA-TDNN on VoxCeleb: a voice as 192 numbers",
        origin: hub("speechbrain/spkrec-ecapa-voxceleb"),
        labels: 0,
        bytes: 83_300_000,
        licence: APACHE,
        scores: None,
    },
    Row {
        name: "wavlm-speaker",
        task: Task::Speaker,
        about: "WavLM base+ on VoxCeleb: a voice as an x-vector of 512 numbers",
        origin: hub("microsoft/wavlm-base-plus-sv"),
        labels: 0,
        bytes: 404_500_000,
        licence: CC_BY_SA,
        scores: None,
    },
    Row {
        name: "clap-unfused",
        task: Task::Prompt,
        about: "CLAP: sounds described in plain words, clips up to 10 s",
        origin: hub("laion/clap-htsat-unfused"),
        labels: 0,
        bytes: 614_500_000,
        licence: APACHE,
        scores: None,
    },
    Row {
        name: "clap-fused",
        task: Task::Prompt,
        about: "CLAP with fusion: sounds described in plain words, clips of any length",
        origin: hub("laion/clap-htsat-fused"),
        labels: 0,
        bytes: 614_600_000,
        licence: APACHE,
        scores: None,
    },
    Row {
        name: "clap-general",
        task: Task::Prompt,
        about: "CLAP, larger: general audio, music and speech in plain words",
        origin: hub("laion/larger_clap_general"),
        labels: 0,
        bytes: 776_000_000,
        licence: APACHE,
        scores: None,
    },
    Row {
        name: "distilhubert",
        task: Task::Base,
        about: "DistilHuBERT, a small base for training on your own labels",
        origin: hub("ntu-spml/distilhubert"),
        labels: 0,
        bytes: 94_000_000,
        licence: APACHE,
        scores: None,
    },
    Row {
        name: "hubert-base",
        task: Task::Base,
        about: "HuBERT base, a base for training on your own labels",
        origin: hub("facebook/hubert-base-ls960"),
        labels: 0,
        bytes: 377_600_000,
        licence: APACHE,
        scores: None,
    },
    Row {
        name: "wavlm-large",
        task: Task::Base,
        about: "WavLM large, the strongest base for training on your own labels",
        origin: hub("microsoft/wavlm-large"),
        labels: 0,
        bytes: 1_262_000_000,
        licence: CC_BY_SA,
        scores: None,
    },
];
