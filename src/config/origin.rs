//! Where each value of the merged configuration was written.
//!
//! Every layer is parsed at an offset of its own in one imaginary text, so the spans that the TOML
//! reader keeps, and those in its errors, name layer and position at once, also after merging.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One layer of the configuration as text.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    /// Path of the file, or name of the variable or flag.
    pub name: String,
    /// Its text, after `base` blanks: they are no part of the grammar and shift every span.
    shifted: String,
    base: usize,
    /// Whether line and column mean something to the reader.
    positions: bool,
}

/// The layers in their order, the weakest first.
#[derive(Debug, Clone, Default)]
pub(super) struct Layers(Vec<Layer>);

impl Layers {
    /// Adds a file.
    pub fn push_file(&mut self, name: String, text: &str) {
        self.push(name, text, true);
    }

    /// Adds what an environment variable or a flag amounts to.
    pub fn push_words(&mut self, name: String, text: &str) {
        self.push(name, text, false);
    }

    fn push(&mut self, name: String, text: &str, positions: bool) {
        let base = self.0.last().map_or(0, |last| last.shifted.len() + 1);
        self.0.push(Layer {
            name,
            shifted: format!("{:base$}{text}", ""),
            base,
            positions,
        });
    }

    /// The layers, the weakest first.
    pub fn iter(&self) -> impl Iterator<Item = &Layer> {
        self.0.iter()
    }

    /// Whether an offset lies in the weakest layer.
    pub fn is_weakest(&self, offset: usize) -> bool {
        self.0.get(1).is_none_or(|next| offset < next.base)
    }

    /// The layer that holds an offset.
    pub fn at(&self, offset: usize) -> Option<&Layer> {
        self.0.iter().rev().find(|layer| layer.base <= offset)
    }

    /// The place of an offset: `path:line:column`, counted from 1 in characters, or the name of a
    /// variable or flag.
    pub fn place(&self, offset: usize) -> String {
        let layer = self.at(offset);
        layer.map_or_else(String::new, |layer| layer.place(offset))
    }
}

impl Layer {
    /// The text with its blanks, for the TOML reader.
    pub fn shifted(&self) -> &str {
        &self.shifted
    }

    /// The place of an offset into the imaginary text, the start without one.
    pub fn place(&self, offset: impl Into<Option<usize>>) -> String {
        if !self.positions {
            return self.name.clone();
        }
        let offset = offset.into().unwrap_or(self.base);
        let before = self
            .shifted
            .get(self.base..offset)
            .unwrap_or(&self.shifted[self.base..]);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()) + 1;
        format!("{}:{line}:{column}", self.name)
    }
}

/// Offsets of keys in the merged configuration.
#[derive(Debug, Clone, Default)]
pub(super) struct Origins(BTreeMap<Vec<String>, usize>);

impl Origins {
    /// Collects the offsets of every value under `table`.
    pub fn of(table: &DeTable<'_>) -> Self {
        let mut origins = Origins::default();
        origins.table(&mut Vec::new(), table);
        origins
    }

    /// The offset of the value at `key`, or of the nearest value around it.
    pub fn offset(&self, key: &[String]) -> usize {
        (0..=key.len())
            .rev()
            .find_map(|n| self.0.get(&key[..n]))
            .copied()
            .unwrap_or(0)
    }

    fn table(&mut self, key: &mut Vec<String>, table: &DeTable<'_>) {
        for (name, value) in table {
            key.push(name.get_ref().to_string());
            self.value(key, value);
            key.pop();
        }
    }

    fn value(&mut self, key: &mut Vec<String>, value: &Spanned<DeValue<'_>>) {
        self.0.insert(key.clone(), value.span().start);
        match value.get_ref() {
            DeValue::Table(table) => self.table(key, table),
            DeValue::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    key.push(at.to_string());
                    self.value(key, item);
                    key.pop();
                }
            }
            _ => {}
        }
    }
}
