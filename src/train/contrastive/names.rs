//! What a sound may be called: labels turned into sentences, captions as they stand.

use std::collections::HashMap;

use crate::models::prompt::sentence::sentences;

/// A label or a caption, with the texts that stand for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Name {
    /// Small letters, single spaces: what makes two names one.
    pub key: String,
    /// What the text tower reads; one of them is drawn each time.
    pub texts: Vec<String>,
}

/// All names of a data set, each once.
#[derive(Debug, Clone, Default)]
pub struct Names {
    list: Vec<Name>,
    by_key: HashMap<String, usize>,
}

/// A label as it is compared: `Church_Bells ` is `church bells`.
pub fn plain(label: &str) -> String {
    let spaced = label.replace('_', " ").to_lowercase();
    spaced.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl Names {
    /// The number of a label, with its sentences.
    pub fn label(&mut self, label: &str) -> usize {
        self.entry(label, || sentences(label))
    }

    /// The number of a caption, whose text is itself.
    pub fn caption(&mut self, caption: &str) -> usize {
        self.entry(caption, || vec![caption.to_owned()])
    }

    fn entry(&mut self, name: &str, texts: impl FnOnce() -> Vec<String>) -> usize {
        let key = plain(name);
        if let Some(&at) = self.by_key.get(&key) {
            return at;
        }
        self.by_key.insert(key.clone(), self.list.len());
        self.list.push(Name {
            key,
            texts: texts(),
        });
        self.list.len() - 1
    }

    /// One more text for a name.
    pub fn describe(&mut self, at: usize, text: &str) {
        let texts = &mut self.list[at].texts;
        if !texts.iter().any(|known| known == text) {
            texts.push(text.to_owned());
        }
    }

    /// Keeps the texts that `holds` is true of; says how many went.
    pub fn retain_texts(&mut self, holds: impl Fn(&str) -> bool) -> usize {
        let mut gone = 0;
        for name in &mut self.list {
            let before = name.texts.len();
            name.texts.retain(|text| holds(text));
            gone += before - name.texts.len();
        }
        gone
    }

    /// Every name.
    pub fn all(&self) -> &[Name] {
        &self.list
    }

    /// The number of a name that is known.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.by_key.get(&plain(name)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelling_makes_no_second_name() {
        let mut names = Names::default();
        let bells = names.label("church_bells");
        assert_eq!(names.label("Church  bells"), bells);
        assert_ne!(names.label("Bell"), bells);
        assert!(names.all()[bells].texts.len() > 1);
        assert!(
            names.all()[bells]
                .texts
                .iter()
                .all(|text| text.contains("bell"))
        );
        let caption = names.caption("A dog barks, twice.");
        assert_eq!(names.all()[caption].texts, ["A dog barks, twice."]);
        names.describe(bells, "Bells.");
        names.describe(bells, "Bells.");
        assert_eq!(names.retain_texts(|text| text != "Bells."), 1);
        assert_eq!(names.find("BELL"), Some(1));
    }
}
