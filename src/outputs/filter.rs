//! Which events a subscriber of the socket wants.

use std::collections::HashMap;

use ulid::Ulid;

use crate::event::{Event, Kind, Phase};

/// Episodes a subscriber remembers at once.
const MAX_EPISODES: usize = 4096;

/// Which events a subscriber wants.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Filter {
    kinds: Vec<Kind>,
    labels: Vec<String>,
    min_score: f32,
    /// Live pictures and state changes too.
    pub live: bool,
    /// Episodes under way, and whether their start was let through.
    episodes: HashMap<Ulid, bool>,
}

impl Filter {
    /// A filter; an empty list lets every kind or label through.
    pub fn new(kinds: Vec<Kind>, labels: Vec<String>, min_score: f32, live: bool) -> Self {
        Filter {
            kinds,
            labels,
            min_score,
            live,
            episodes: HashMap::new(),
        }
    }

    /// Whether this subscriber wants `event`.
    ///
    /// The end of an episode goes where its start went, whatever its own score: what a subscriber
    /// saw begin it also sees end. An end whose start came before the subscription is judged by
    /// its peak.
    pub fn passes(&mut self, event: &Event) -> bool {
        let wanted = (self.kinds.is_empty() || self.kinds.contains(&event.kind))
            && (self.labels.is_empty() || self.labels.iter().any(|label| **label == *event.label));
        if !wanted {
            return false;
        }
        match event.phase {
            Phase::Instant => event.score >= self.min_score,
            Phase::Start => {
                let pass = event.score >= self.min_score;
                // A reader that lags can miss ends; forgetting beats growing for ever.
                if self.episodes.len() >= MAX_EPISODES {
                    self.episodes.clear();
                }
                self.episodes.insert(event.id, pass);
                pass
            }
            Phase::End => self
                .episodes
                .remove(&event.id)
                .unwrap_or(event.peak >= self.min_score),
        }
    }
}
