//! Which sounds and texts belong together, and the batches that are drawn of them.
//!
//! A clip has names: its captions, or its label and the AudioSet names that stand with it. For each
//! clip of a batch one name and one of its texts are drawn. Every text of the batch that stands for
//! a name of a clip is right for it, not only the one that was drawn for it: else two clips of dogs
//! would push each other's sentences away (a false negative). Clips of one batch are of different
//! labels as far as there are as many.

use std::collections::HashMap;

use fastrand::Rng;

use super::names::{Names, plain};
use super::ontology::Ontology;
use crate::train::Clip;

/// How often a label's own sentences are drawn rather than those of its other names.
const OWN_SHARE: f32 = 0.5;

/// A sound with its names.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Its names; those before `own` describe it best.
    pub names: Vec<usize>,
    /// How many of the names are captions or labels of its own.
    pub own: usize,
}

/// The sounds of a data set with their names; the sounds themselves are kept elsewhere, in the order
/// of [`Pairs::items`].
#[derive(Debug, Clone, Default)]
pub struct Pairs {
    /// Every name.
    pub names: Names,
    /// Every sound.
    pub items: Vec<Item>,
    /// Sounds by the first of their names.
    groups: Vec<Vec<usize>>,
    /// The group of a first name.
    group_of: HashMap<usize, usize>,
}

/// What a step learns from.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawn {
    /// The sounds.
    pub items: Vec<usize>,
    /// The texts, each once.
    pub texts: Vec<String>,
    /// `(items, texts)`: 1 where a text is right for a sound, else 0.
    pub right: Vec<f32>,
}

/// Whether a sound with this label and these further names is kept from training.
pub fn is_held_out(clip_names: &[&str], held_out: &[String]) -> bool {
    clip_names
        .iter()
        .any(|name| held_out.iter().any(|held| plain(held) == plain(name)))
}

impl Pairs {
    /// Takes a clip of a data set: by its captions where it has some, else by its label and AudioSet
    /// names.
    pub fn add(&mut self, clip: &Clip, ontology: Option<&Ontology>) {
        if clip.captions.is_empty() {
            let more: Vec<&str> = clip.audioset_labels.iter().map(String::as_str).collect();
            self.add_labels(&clip.label, &more, ontology);
            return;
        }
        let mut names: Vec<usize> = Vec::new();
        for caption in &clip.captions {
            let name = self.names.caption(caption);
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let own = names.len();
        self.push(Item { names, own });
    }

    /// Takes a sound by its label and further names.
    pub fn add_labels(&mut self, label: &str, more: &[&str], ontology: Option<&Ontology>) {
        let mut names = vec![self.names.label(label)];
        let add = |names: &mut Vec<usize>, name: usize| {
            if !names.contains(&name) {
                names.push(name);
            }
        };
        for text in more {
            let name = self.names.label(text);
            add(&mut names, name);
        }
        if let Some(ontology) = ontology {
            for text in std::iter::once(&label).chain(more) {
                let Some(kind) = ontology.find(text) else {
                    continue;
                };
                let name = self.names.label(text);
                let description = &ontology.kinds()[kind].description;
                if !description.is_empty() {
                    self.names.describe(name, description);
                }
                for above in ontology.ancestors(kind) {
                    let name = self.names.label(above);
                    add(&mut names, name);
                }
            }
        }
        self.push(Item { names, own: 1 });
    }

    fn push(&mut self, item: Item) {
        let Some(&first) = item.names.first() else {
            return;
        };
        let group = *self.group_of.entry(first).or_insert(self.groups.len());
        if group == self.groups.len() {
            self.groups.push(Vec::new());
        }
        self.groups[group].push(self.items.len());
        self.items.push(item);
    }

    /// How many different labels or captions sounds have first.
    pub fn labels(&self) -> usize {
        self.groups.len()
    }

    /// The labels with the number of their sounds, the most frequent first.
    pub fn counts(&self) -> Vec<(&str, usize)> {
        let name = |group: &[usize]| {
            let first = self.items[group[0]].names[0];
            self.names.all()[first].key.as_str()
        };
        let mut counts: Vec<(&str, usize)> = self
            .groups
            .iter()
            .map(|group| (name(group), group.len()))
            .collect();
        counts.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        counts
    }

    /// Draws a batch of `size` sounds, or of all where there are fewer.
    pub fn draw(&self, size: usize, rng: &mut Rng) -> Drawn {
        let mut items = Vec::with_capacity(size);
        let mut rest: Vec<Vec<usize>> = self.groups.clone();
        while items.len() < size && !rest.is_empty() {
            // A label is the likelier the more clips it has, but far from in proportion, and comes once
            // before any comes twice (Efraimidis and Spirakis, *Weighted random sampling*, 2006).
            let mut order: Vec<(f32, usize)> = rest
                .iter()
                .enumerate()
                .map(|(at, group)| {
                    let weight = (group.len() as f32).sqrt();
                    (rng.f32().max(f32::MIN_POSITIVE).ln() / weight, at)
                })
                .collect();
            order.sort_by(|a, b| b.0.total_cmp(&a.0));
            for &(_, at) in order.iter().take(size - items.len()) {
                let group = &mut rest[at];
                items.push(group.swap_remove(rng.usize(0..group.len())));
            }
            rest.retain(|group| !group.is_empty());
        }
        let (mut texts, mut means): (Vec<String>, Vec<Vec<usize>>) = (Vec::new(), Vec::new());
        let mut seen: HashMap<&str, usize> = HashMap::new();
        for &item in &items {
            let name = self.draw_name(item, rng);
            let choices = &self.names.all()[name].texts;
            if choices.is_empty() {
                continue;
            }
            let text = choices[rng.usize(0..choices.len())].as_str();
            let at = *seen.entry(text).or_insert_with(|| {
                texts.push(text.to_owned());
                means.push(Vec::new());
                texts.len() - 1
            });
            if !means[at].contains(&name) {
                means[at].push(name);
            }
        }
        let mut right = Vec::with_capacity(items.len() * texts.len());
        for &item in &items {
            let names = &self.items[item].names;
            right.extend(means.iter().map(|meaning| {
                let holds = meaning.iter().any(|name| names.contains(name));
                f32::from(u8::from(holds))
            }));
        }
        Drawn {
            items,
            texts,
            right,
        }
    }

    fn draw_name(&self, item: usize, rng: &mut Rng) -> usize {
        let Item { names, own } = &self.items[item];
        let (first, more) = names.split_at(*own);
        if more.is_empty() || rng.f32() < OWN_SHARE {
            first[rng.usize(0..first.len())]
        } else {
            more[rng.usize(0..more.len())]
        }
    }

    /// Keeps the texts that `holds` is true of, and the names and sounds that still have one; says how
    /// many texts and sounds went, and which sounds stay, by their old numbers.
    pub fn retain_texts(&mut self, holds: impl Fn(&str) -> bool) -> (usize, Vec<usize>) {
        let gone = self.names.retain_texts(holds);
        let all = self.names.all();
        let old = std::mem::take(&mut self.items);
        self.groups.clear();
        self.group_of.clear();
        let mut kept = Vec::new();
        let mut items = Vec::new();
        for (at, mut item) in old.into_iter().enumerate() {
            let own = item.names[..item.own]
                .iter()
                .filter(|name| !all[**name].texts.is_empty())
                .count();
            item.names.retain(|name| !all[*name].texts.is_empty());
            if own > 0 {
                kept.push(at);
                items.push(Item { own, ..item });
            }
        }
        for item in items {
            self.push(item);
        }
        (gone, kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs() -> Pairs {
        let mut pairs = Pairs::default();
        for (label, more) in [
            ("dog", &["Dog", "Bark"][..]),
            ("dog", &["Dog", "Bark"]),
            ("cat", &["Cat", "Meow"]),
            ("rain", &[]),
        ] {
            pairs.add_labels(label, more, None);
        }
        pairs
    }

    fn clip(label: &str) -> Clip {
        Clip {
            path: "a.wav".into(),
            name: "a.wav".into(),
            set: String::new(),
            label: label.to_owned(),
            split: crate::train::Split::Train,
            speaker: None,
            source: String::new(),
            licence: String::new(),
            duration_s: 1.0,
            fold: None,
            audioset_labels: Vec::new(),
            captions: Vec::new(),
        }
    }

    #[test]
    fn a_batch_has_different_labels_first_and_the_same_seed_draws_it_again() {
        let pairs = pairs();
        assert_eq!(pairs.counts(), [("dog", 2), ("cat", 1), ("rain", 1)]);
        for seed in 0..20 {
            let drawn = pairs.draw(3, &mut Rng::with_seed(seed));
            assert_eq!(drawn, pairs.draw(3, &mut Rng::with_seed(seed)));
            let mut firsts: Vec<usize> = drawn
                .items
                .iter()
                .map(|&at| pairs.items[at].names[0])
                .collect();
            firsts.sort_unstable();
            firsts.dedup();
            assert_eq!(firsts.len(), 3, "{drawn:?}");
        }
        assert_eq!(pairs.draw(9, &mut Rng::with_seed(1)).items.len(), 4);
    }

    #[test]
    fn a_text_is_right_for_every_clip_of_its_name() {
        let pairs = pairs();
        for seed in 0..20 {
            let Drawn {
                items,
                texts,
                right,
            } = pairs.draw(4, &mut Rng::with_seed(seed));
            assert_eq!(right.len(), items.len() * texts.len());
            for (row, &item) in right.chunks_exact(texts.len()).zip(&items) {
                let is_dog = item < 2;
                for (value, text) in row.iter().zip(&texts) {
                    let of_dog =
                        text.contains("dog") || text.contains("bark") || text.contains("Bark");
                    if is_dog || of_dog {
                        assert_eq!(*value == 1.0, is_dog && of_dog, "{text}");
                    }
                }
                assert!(row.contains(&1.0));
            }
        }
    }

    #[test]
    fn captions_stand_for_themselves_and_what_is_too_long_goes() {
        let mut pairs = pairs();
        let mut clip = Clip {
            captions: vec!["It rains.".into(), "Water falls.".into()],
            ..clip("rain")
        };
        pairs.add(&clip, None);
        assert_eq!(pairs.items[4].own, 2);
        clip.captions = vec!["A very long caption".into()];
        pairs.add(&clip, None);
        let (gone, kept) = pairs.retain_texts(|text| !text.contains("long"));
        assert_eq!((gone, kept), (1, vec![0, 1, 2, 3, 4]));
        assert_eq!(pairs.labels(), 4);
    }

    #[test]
    fn what_is_held_out_is_known_by_any_of_its_names() {
        let held = ["church_bells".to_owned(), "Helicopter".to_owned()];
        assert!(is_held_out(&["Church bells", "Bell"], &held));
        assert!(is_held_out(&["x", "helicopter"], &held));
        assert!(!is_held_out(&["Bell"], &held));
    }

    #[test]
    fn the_ontology_adds_what_a_label_is_a_kind_of() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("o.json");
        let text = r#"[{"id":"1","name":"Animal","child_ids":["2"]},{"id":"2","name":"Dog","description":"A canid."}]"#;
        std::fs::write(&path, text).unwrap();
        let ontology = Ontology::read(&path).unwrap();
        let mut pairs = Pairs::default();
        pairs.add_labels("dog", &[], Some(&ontology));
        let keys: Vec<&str> = pairs.items[0]
            .names
            .iter()
            .map(|&name| pairs.names.all()[name].key.as_str())
            .collect();
        assert_eq!(keys, ["dog", "animal"]);
        assert!(pairs.names.all()[0].texts.contains(&"A canid.".to_owned()));
    }
}
