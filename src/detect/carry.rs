//! An engine with other rules or other models goes on where the old one stood.
//!
//! What stays the same (an equal rule, the same label of the model of the same name and kind) keeps its
//! state: confirmation so far, the open episode, refractory time, smoothing. What is gone ends. So a
//! label that is added, a model that comes or a configuration that is read again ends no alarm whose
//! rule is as it was. Models are known by name here, not by weights.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Decision;
use super::engine::{Engine, Stream, Watch};
use crate::config::KnownModel;

impl Engine {
    /// Takes over the state of `old`, and ends what it had open and this engine does not watch; the
    /// decisions name models by their place in the list that `old` was told. To be called before the
    /// first observation. Allocates, by the number of labels.
    ///
    /// Numbers of episodes go on, and those that stay open keep theirs. A label whose own threshold is
    /// another now is judged by the new one from the next observation on.
    pub fn carry_over(&mut self, old: Engine, emit: &mut dyn FnMut(Decision)) {
        let Engine {
            rules: old_rules,
            watches: mut old_watches,
            models: old_models,
            streams: old_streams,
            next_episode,
            resumed_at,
            // It was told of the old models by their numbers.
            witness: _,
        } = old;
        self.next_episode = self.next_episode.max(next_episode);
        self.resumed_at = self.resumed_at.max(resumed_at);
        for (stream, model) in self.streams.iter_mut().zip(&self.models) {
            let before = old_models.iter().position(|other| is_same(other, model));
            if let Some(at) = before {
                stream.carry_over(model, &old_streams[at], &old_models[at]);
            }
        }
        for watch in &mut self.watches {
            let rule = &self.rules[watch.rule];
            let model = &self.models[watch.stream];
            let before = old_watches.iter_mut().find(|old| {
                old_rules[old.rule] == *rule && is_same(&old_models[old.stream], model)
            });
            if let Some(before) = before {
                watch.carry_over(before);
            }
        }
        for watch in &mut old_watches {
            watch.interrupt(&old_rules[watch.rule], emit);
        }
    }
}

fn is_same(model: &KnownModel, other: &KnownModel) -> bool {
    model.kind == other.kind && model.name == other.name
}

impl Stream {
    fn carry_over(&mut self, model: &KnownModel, old: &Stream, old_model: &KnownModel) {
        self.end = old.end;
        self.len = old.len;
        if model.labels == old_model.labels {
            self.scores.copy_from_slice(&old.scores);
            return;
        }
        let known: BTreeMap<&Arc<str>, f32> = old_model
            .labels
            .iter()
            .zip(old.scores.iter().copied())
            .collect();
        for (score, label) in self.scores.iter_mut().zip(model.labels.iter()) {
            *score = known.get(label).copied().unwrap_or(0.0);
        }
    }
}

impl Watch {
    /// Goes on where `old` stood, a watch of an equal rule; tracks that are taken over have nothing
    /// open there any more. Labels that are new count as never heard.
    fn carry_over(&mut self, old: &mut Watch) {
        self.turn = old.turn;
        self.locked_until = old.locked_until;
        self.starts.copy_from_slice(&old.starts);
        let (tracks, old_tracks) = (self.tracks.len(), old.tracks.len());
        let places: BTreeMap<Arc<str>, usize> = old
            .tracks
            .iter()
            .map(|track| Arc::clone(&track.label))
            .zip(0..)
            .collect();
        for (at, track) in self.tracks.iter_mut().enumerate() {
            let Some(&from) = places.get(&track.label) else {
                continue;
            };
            track.carry_over(&mut old.tracks[from]);
            for (rows, old_rows) in [(&mut self.recent, &old.recent), (&mut self.raw, &old.raw)] {
                let values = old_rows.iter().skip(from).step_by(old_tracks);
                for (slot, value) in rows.iter_mut().skip(at).step_by(tracks).zip(values) {
                    *slot = *value;
                }
            }
        }
    }
}
