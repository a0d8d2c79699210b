//! Indexes of checkpoints in several files: `model.safetensors.index.json`,
//! `pytorch_model.bin.index.json` (transformers 5).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use serde::Deserialize;

use super::{Tensors, read_file, wrong};
use crate::nn::weights::WeightsError;

/// The content of the file; its other keys do not matter.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The tensors of every file that an index names.
pub(super) fn read(path: &Path) -> Result<Tensors, WeightsError> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|source| WeightsError::Io {
        path: name.clone(),
        source,
    })?;
    let index: Index = serde_json::from_str(&text).map_err(|error| {
        wrong(
            &name,
            format!("expected {{\"weight_map\": {{key: file}}}}, got {error}"),
        )
    })?;
    let shards: BTreeSet<&String> = index.weight_map.values().collect();
    let mut tensors = Tensors::new();
    for shard in shards {
        let mut parts = Path::new(shard).components();
        if !matches!(
            (parts.next(), parts.next()),
            (Some(Component::Normal(_)), None)
        ) {
            return Err(wrong(
                &name,
                format!("weight_map: expected names of files beside the index, got '{shard}'"),
            ));
        }
        let mut found = read_file(&path.with_file_name(shard))?;
        found.retain(|key, _| index.weight_map.get(key) == Some(shard));
        tensors.append(&mut found);
    }
    match index
        .weight_map
        .iter()
        .find(|(key, _)| !tensors.contains_key(*key))
    {
        None => Ok(tensors),
        Some((key, shard)) => Err(wrong(
            &name,
            format!("{key}: expected it in {shard}, got no such tensor"),
        )),
    }
}
