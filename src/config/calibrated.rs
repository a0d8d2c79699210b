//! The file of a calibration among the others: thresholds of labels that `hark calibrate` has measured.
//!
//! It is read as every drop-in is, with one difference. It speaks of rules and labels that stand
//! elsewhere, and whoever removes or renames one of those must neither get it back as a rule over every
//! label nor be told of a fault in a file that they have not written. So what it says of rules and
//! labels that are gone is passed over. What to write into it is `hark calibrate`'s matter.

use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::paths::Paths;

/// Its name: late among the drop-ins, and before a `99-*.toml` that is to have the last word.
const FILE_NAME: &str = "90-calibrated.toml";

/// Where it lies: `$XDG_CONFIG_HOME/hark/config.d/90-calibrated.toml`.
pub fn path(paths: &Paths) -> PathBuf {
    paths.config.join("config.d").join(FILE_NAME)
}

/// Whether a file is one of these, by its name.
pub(super) fn is_named(file: &str) -> bool {
    Path::new(file)
        .file_name()
        .is_some_and(|name| name == FILE_NAME)
}

/// Removes what speaks of rules, or of labels of rules, that the layers below do not have.
pub(super) fn prune(table: &mut DeTable<'_>, below: &DeTable<'_>) {
    let rules = match below.get("rule").map(Spanned::get_ref) {
        Some(DeValue::Array(rules)) => rules.iter().collect::<Vec<_>>(),
        _ => Vec::new(),
    };
    let Some(DeValue::Array(entries)) = table.get_mut("rule").map(Spanned::get_mut) else {
        return;
    };
    let mut kept = DeArray::new();
    for entry in entries.iter() {
        let name = text(entry, "name");
        if name.is_some() && rules.iter().any(|rule| text(rule, "name") == name) {
            kept.push(entry.clone());
        }
    }
    *entries = kept;
    for entry in entries.iter_mut() {
        let name = text(entry, "name").map(str::to_owned);
        let twin = rules
            .iter()
            .find(|rule| text(rule, "name") == name.as_deref());
        let Some(watched) = twin.and_then(|rule| watched(rule)) else {
            continue;
        };
        if let DeValue::Table(entry) = entry.get_mut()
            && let Some(DeValue::Table(thresholds)) =
                entry.get_mut("thresholds").map(Spanned::get_mut)
        {
            let names = thresholds.keys().map(|label| label.get_ref().to_string());
            let gone: Vec<String> = names.filter(|label| !watched.contains(&&**label)).collect();
            for label in gone {
                thresholds.remove(label.as_str());
            }
        }
    }
}

fn text<'a>(entry: &'a Spanned<DeValue<'_>>, key: &str) -> Option<&'a str> {
    entry.get_ref().as_table()?.get(key)?.get_ref().as_str()
}

/// The labels that a rule names; `None` where it is over every label.
fn watched<'a>(rule: &'a Spanned<DeValue<'_>>) -> Option<Vec<&'a str>> {
    let single = ["prompt", "taught"].iter().find_map(|key| text(rule, key));
    if let Some(label) = single {
        return Some(vec![label]);
    }
    let Some(DeValue::Array(labels)) = rule
        .get_ref()
        .as_table()?
        .get("labels")
        .map(Spanned::get_ref)
    else {
        return None;
    };
    let names: Vec<&str> = labels
        .iter()
        .filter_map(|label| label.get_ref().as_str())
        .collect();
    (!names.is_empty()).then_some(names)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::{Flags, Loaded, load_from};
    use super::*;

    fn loaded(own: &str, calibrated: &str) -> Loaded {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths {
            system_config: dir.path().join("none"),
            config: dir.path().to_path_buf(),
            ..Paths::new(dir.path(), None, |_| None)
        };
        fs::create_dir(dir.path().join("config.d")).unwrap();
        fs::write(dir.path().join("config.toml"), own).unwrap();
        fs::write(path(&paths), calibrated).unwrap();
        load_from(&Flags::default(), &paths, []).unwrap()
    }

    const CALIBRATED: &str = r#"
        [[rule]]
        name = "mine"
        [rule.thresholds]
        "Dog" = 0.9
        "Cat" = 0.8
    "#;

    fn thresholds(loaded: &Loaded) -> Vec<(String, f32)> {
        let rule = loaded.config.rule.iter().find(|rule| rule.name == "mine");
        let all = rule.map(|rule| rule.thresholds.clone()).unwrap_or_default();
        all.into_iter().collect()
    }

    #[test]
    fn it_says_what_the_thresholds_of_labels_are() {
        let own =
            "[[rule]]\nname = \"mine\"\nlabels = [\"Dog\", \"Cat\"]\nthresholds = { Dog = 0.7 }";
        let expected = vec![("Cat".to_owned(), 0.8), ("Dog".to_owned(), 0.9)];
        assert_eq!(thresholds(&loaded(own, CALIBRATED)), expected);
        let every = "[[rule]]\nname = \"mine\"";
        assert_eq!(thresholds(&loaded(every, CALIBRATED)), expected);
    }

    #[test]
    fn a_rule_that_is_gone_does_not_come_back() {
        let loaded = loaded("", CALIBRATED);
        assert!(loaded.config.rule.iter().all(|rule| rule.name != "mine"));
    }

    #[test]
    fn a_label_that_is_gone_is_passed_over() {
        let own = "[[rule]]\nname = \"mine\"\nlabels = [\"Cat\"]";
        assert_eq!(
            thresholds(&loaded(own, CALIBRATED)),
            [("Cat".to_owned(), 0.8)]
        );
        let prompt = "[[rule]]\nname = \"mine\"\nkind = \"prompt\"\nprompt = \"Dog\"";
        assert_eq!(
            thresholds(&loaded(prompt, CALIBRATED)),
            [("Dog".to_owned(), 0.9)]
        );
    }

    #[test]
    fn a_label_that_no_model_has_any_more_is_no_fault() {
        let own = "[[rule]]\nname = \"mine\"";
        let known = [crate::config::KnownModel {
            kind: crate::event::Kind::Event,
            name: "m".into(),
            labels: ["Dog".into()].into(),
            thresholds: std::sync::Arc::default(),
        }];
        loaded(own, CALIBRATED).validate_labels(&known).unwrap();
        let by_hand = "[[rule]]\nname = \"mine\"\nthresholds = { Cat = 0.8 }";
        loaded(by_hand, "").validate_labels(&known).unwrap_err();
    }
}
