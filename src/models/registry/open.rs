//! From a directory or file of weights to a running model: the one place that knows every family.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::guess::task_of;
use super::{Model, Row};
use crate::models::ast::Ast;
use crate::models::audioset::audioset_labels;
use crate::models::clap::ClapAudio;
use crate::models::ecapa::Ecapa;
use crate::models::efficientat::EfficientAt;
use crate::models::embedding::{ColumnEmbedder, YamnetEmbedder};
use crate::models::layout::{Activated, Layout};
use crate::models::network::{Network, Published};
use crate::models::silero::Silero;
use crate::models::verify::{blob_sha256, hex, hex_sha256};
use crate::models::whisper::Whisper;
use crate::models::yamnet::Yamnet;
use crate::models::{Embedder, Input, ModelError, ModelInfo, Task, hubert, wav2vec2, wavlm};
use crate::models::{event::EventModel, keyword::KeywordModel};
use crate::nn::params::Params;
use crate::nn::weights::Checkpoint;

/// A network with what its files say of it.
struct Opened {
    network: Box<dyn Network>,
    labels: Arc<[Arc<str>]>,
    scores: Activated,
    parameters: usize,
    /// The file whose checksum stands for the model.
    weights: PathBuf,
}

/// Loads the model of a directory or file; `row` names it where it has one.
///
/// # Errors
/// When the weights are of no known family, or damaged.
pub fn open_path(path: &Path, row: Option<&'static Row>) -> Result<Model, ModelError> {
    let name = row.map_or_else(|| path.display().to_string(), |row| row.name.to_owned());
    let extension = path
        .extension()
        .and_then(|end| end.to_str())
        .unwrap_or_default();
    if path.is_dir() {
        let own = path.join("model.safetensors");
        if path.join("config.json").is_file() {
            return finish(open_layout(&Layout::open(path)?, row)?, &name, row);
        }
        if path.join(SPEECHBRAIN).is_file() {
            return finish(open_ecapa(path)?, &name, row);
        }
        if own.is_file() {
            return open_own(&own);
        }
        return Err(ModelError::Format(format!(
            "{}: no model: expected config.json and weights in the Hugging Face layout, {SPEECHBRAIN} of SpeechBrain, or model.safetensors written by hark train",
            path.display()
        )));
    }
    match extension {
        "tflite" => finish(open_yamnet(path)?, &name, row),
        "safetensors" if Params::open_file(path)?.has(SILERO) => {
            finish(open_silero(path)?, &name, row)
        }
        "pt" | "pth" => finish(open_efficientat(path)?, &name, row),
        _ => open_own(path),
    }
}

/// The network of a directory in the Hugging Face layout.
fn open_layout(layout: &Layout, row: Option<&Row>) -> Result<Opened, ModelError> {
    let network: Box<dyn Network> = match layout.model_type() {
        "audio-spectrogram-transformer" => Box::new(Ast::load(layout)?),
        "clap" => Box::new(ClapAudio::load(layout, &layout.params()?)?),
        "hubert" => Box::new(hubert::load(layout)?),
        "wav2vec2" => Box::new(wav2vec2::load(layout)?),
        "wavlm" => Box::new(wavlm::load(layout)?),
        "whisper" => Box::new(Whisper::load(layout)?),
        other => {
            return Err(layout.wrong(
                "model_type",
                &format!("expected one of {}, got '{other}'", FAMILIES.join(", ")),
            ));
        }
    };
    let params = layout.params()?;
    Ok(Opened {
        labels: match network.classifies() {
            true => layout.labels()?,
            false => Arc::new([]),
        },
        scores: match row.and_then(|row| row.scores) {
            Some(scores) if !layout.says_scores() => scores,
            _ => layout.scores(),
        },
        network,
        parameters: params.parameters(),
        weights: params.path().to_owned(),
    })
}

/// The values of `model_type` that are known.
const FAMILIES: [&str; 6] = [
    "audio-spectrogram-transformer",
    "clap",
    "hubert",
    "wav2vec2",
    "wavlm",
    "whisper",
];

/// The weights of a speaker model of SpeechBrain.
const SPEECHBRAIN: &str = "embedding_model.ckpt";

/// ECAPA-TDNN in the layout of SpeechBrain.
fn open_ecapa(dir: &Path) -> Result<Opened, ModelError> {
    let ecapa = Ecapa::open_dir(dir)?;
    Ok(Opened {
        labels: Arc::new([]),
        scores: Activated::Raw,
        parameters: ecapa.parameters(),
        weights: dir.join(SPEECHBRAIN),
        network: Box::new(ecapa),
    })
}

/// EfficientAT, the only network that is read from a bare file of `torch.save`.
fn open_efficientat(path: &Path) -> Result<Opened, ModelError> {
    let efficientat = EfficientAt::open_file(path)?;
    let names = audioset_labels();
    if efficientat.labels() != names.len() {
        return Err(ModelError::Format(format!(
            "{}: expected {} labels, those of AudioSet, got {}",
            path.display(),
            names.len(),
            efficientat.labels()
        )));
    }
    Ok(Opened {
        labels: names.iter().map(|label| Arc::from(label.name)).collect(),
        scores: Activated::Sigmoid,
        parameters: efficientat.parameters(),
        weights: path.to_owned(),
        network: Box::new(efficientat),
    })
}

/// Loads an embedder from weights: what gives embeddings by itself, and the small networks and YAMNet
/// without their last layer.
///
/// # Errors
/// When the weights are of no known family, damaged, or give labels alone.
pub fn open_embedder_path(
    path: &Path,
    row: Option<&'static Row>,
) -> Result<Box<dyn Embedder>, ModelError> {
    let own = path.join("model.safetensors");
    let own = match path.is_dir() && !path.join("config.json").is_file() && own.is_file() {
        true => own,
        false => path.to_owned(),
    };
    let extension = own.extension().and_then(|end| end.to_str());
    if extension == Some("safetensors") && !Params::open_file(&own)?.has(SILERO) {
        let bytes = read(&own)?;
        let checkpoint = Checkpoint::from_bytes(&bytes, &own.display().to_string())?;
        let embedder = ColumnEmbedder::new(&checkpoint, hex_sha256(&bytes).into())?;
        return Ok(Box::new(embedder));
    }
    if extension == Some("tflite") {
        let yamnet = YamnetEmbedder::open(path)?;
        let opened = Opened {
            labels: Arc::new([]),
            scores: Activated::Raw,
            parameters: yamnet.parameters(),
            weights: path.to_owned(),
            network: Box::new(yamnet),
        };
        let name = row.map_or_else(|| path.display().to_string(), |row| row.name.to_owned());
        if let Model::Embedder(embedder) = finish(opened, &name, row)? {
            return Ok(embedder);
        }
    }
    match open_path(path, row)? {
        Model::Embedder(embedder) => Ok(embedder),
        other => Err(ModelError::Unknown(format!(
            "model '{}' gives labels and no embeddings: use hark-event, hark-keyword, yamnet or a CLAP",
            other.info().name
        ))),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ModelError> {
    std::fs::read(path).map_err(|error| ModelError::Read(format!("{}: {error}", path.display())))
}

/// A tensor that only the weights of Silero VAD have.
const SILERO: &str = "stft_conv.weight";

/// Silero VAD, which has no configuration.
fn open_silero(path: &Path) -> Result<Opened, ModelError> {
    Ok(Opened {
        network: Box::new(Silero::open(path)?),
        labels: Arc::new(["Speech".into()]),
        scores: Activated::Raw,
        parameters: Params::open_file(path)?.parameters(),
        weights: path.to_owned(),
    })
}

/// YAMNet, the only network that is read from a TensorFlow Lite file.
fn open_yamnet(path: &Path) -> Result<Opened, ModelError> {
    let yamnet = Yamnet::open(path)?;
    Ok(Opened {
        labels: yamnet
            .labels()
            .iter()
            .map(|label| Arc::from(*label))
            .collect(),
        scores: Activated::Raw,
        parameters: yamnet.parameters(),
        weights: path.to_owned(),
        network: Box::new(yamnet),
    })
}

/// A weights file that `hark train` has written.
fn open_own(path: &Path) -> Result<Model, ModelError> {
    let name = path.display();
    let bytes = read(path)?;
    let checkpoint = Checkpoint::from_bytes(&bytes, &name.to_string())?;
    let sha256 = hex_sha256(&bytes).into();
    match checkpoint.card.task.as_str() {
        "keyword" => Ok(Model::Spotter(Box::new(KeywordModel::new(
            &checkpoint,
            sha256,
        )?))),
        "event" => Ok(Model::Classifier(Box::new(EventModel::new(
            &checkpoint,
            sha256,
        )?))),
        other => Err(ModelError::Format(format!(
            "{name}: header entry 'harkd', task: expected keyword or event, got '{other}'"
        ))),
    }
}

/// Puts name, task and checksum to a network.
fn finish(opened: Opened, name: &str, row: Option<&'static Row>) -> Result<Model, ModelError> {
    let task = match row {
        Some(row) => row.task,
        None if !opened.network.classifies() => Task::Base,
        None => task_of(&opened.labels),
    };
    let (rate_hz, window) = (opened.network.rate_hz(), opened.network.window());
    let info = ModelInfo {
        name: name.into(),
        sha256: checksum(&opened.weights)?.into(),
        task,
        labels: opened.labels,
        input: Input::Samples { rate_hz },
        window_frames: (window * 100).div_ceil(rate_hz.max(1) as usize),
        parameters: opened.parameters,
        licence: row.map_or("unknown", |row| row.licence).into(),
    };
    let classifies = opened.network.classifies();
    let published = Box::new(Published::new(info, opened.network, opened.scores));
    Ok(if classifies {
        Model::Classifier(published)
    } else {
        Model::Embedder(published)
    })
}

/// SHA-256 of a file. In a hub's cache the weights are a link to a blob that is named by it.
pub(in crate::models) fn checksum(path: &Path) -> Result<String, ModelError> {
    if let Some(sha256) = blob_sha256(path) {
        return Ok(sha256);
    }
    let failed = |error| ModelError::Read(format!("{}: {error}", path.display()));
    let mut file = File::open(path).map_err(failed)?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer).map_err(failed)? {
            0 => return Ok(hex(&hash.finalize())),
            read => hash.update(&buffer[..read]),
        }
    }
}
