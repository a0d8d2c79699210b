//! Logistic calibration of a prompt's margin, where clips are known that are the sound and clips that
//! are not.
//!
//! Platt, *Probabilistic Outputs for Support Vector Machines and Comparisons to Regularized Likelihood
//! Methods*, 1999, fitted by the safeguarded Newton method of Lin, Lin and Weng, *A Note on Platt's
//! Probabilistic Outputs for Support Vector Machines*, Machine Learning 68, 2007 (their appendix). Signs
//! are turned here, so that a larger slope is a steeper rise.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::models::ModelError;

/// The most steps of Newton's method; Lin et al. use 100 and a handful are needed.
const MAX_STEPS: usize = 100;
/// The shortest step that is tried; below it the fit is as good as it gets (Lin et al.).
const MIN_STEP: f64 = 1e-10;
/// Added to the diagonal of the second derivatives, so that they can be inverted (Lin et al.).
const SIGMA: f64 = 1e-12;
/// A gradient below this is none (Lin et al.).
const MIN_GRADIENT: f64 = 1e-5;
/// The flattest slope that still says that more similar is more probable. Margins span a few tens at
/// most, so below it the clips did not tell the sound from the others.
const MIN_SLOPE: f64 = 0.01;
/// The largest file of calibrations that is read, in bytes; a thousand prompts have a tenth of it.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// What makes a probability of a margin: `1 / (1 + exp(-(slope * margin + offset)))`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Log-odds for each unit of the margin; above 0.
    pub slope: f32,
    /// Log-odds at a margin of 0.
    pub offset: f32,
}

impl Calibration {
    /// What is taken where nothing was measured: the margin is the log-odds.
    pub const NONE: Calibration = Calibration {
        slope: 1.0,
        offset: 0.0,
    };

    /// Fits margins of clips that are the sound and of clips that are not. The targets are not 1 and 0
    /// but `(P + 1) / (P + 2)` and `1 / (N + 2)` of P and N clips, so that a few clips make no certainty.
    /// Margins that are no numbers are left out.
    ///
    /// `None` where a side has no clips, or the clips of the sound do not have larger margins than the
    /// others.
    pub fn fit(positives: &[f32], negatives: &[f32]) -> Option<Self> {
        let finite = |margins: &[f32]| -> Vec<f64> {
            let numbers = margins.iter().filter(|margin| margin.is_finite());
            numbers.map(|&margin| f64::from(margin)).collect()
        };
        let (positives, negatives) = (finite(positives), finite(negatives));
        if positives.is_empty() || negatives.is_empty() {
            return None;
        }
        let (p, n) = (positives.len() as f64, negatives.len() as f64);
        let points: Vec<(f64, f64)> = positives
            .into_iter()
            .map(|margin| (margin, (p + 1.0) / (p + 2.0)))
            .chain(
                negatives
                    .into_iter()
                    .map(|margin| (margin, 1.0 / (n + 2.0))),
            )
            .collect();
        let (slope, offset) = newton(&points, ((p + 1.0) / (n + 1.0)).ln());
        let usable = slope >= MIN_SLOPE && slope.is_finite() && offset.is_finite();
        usable.then_some(Calibration {
            slope: slope as f32,
            offset: offset as f32,
        })
    }

    /// Whether it can be used: numbers, and a rise.
    pub fn is_sound(self) -> bool {
        self.slope.is_finite() && self.offset.is_finite() && self.slope > 0.0
    }

    /// The log-odds of a margin.
    pub fn log_odds(self, margin: f32) -> f32 {
        self.slope * margin + self.offset
    }
}

/// The cross entropy of targets and `sigmoid(slope * x + offset)`, written so that nothing overflows.
fn loss(points: &[(f64, f64)], slope: f64, offset: f64) -> f64 {
    let one = |&(x, target): &(f64, f64)| {
        let z = slope * x + offset;
        z.max(0.0) - target * z + (-z.abs()).exp().ln_1p()
    };
    points.iter().map(one).sum()
}

/// Minimises the loss from a slope of 0: Newton's direction, halved until the loss falls enough.
fn newton(points: &[(f64, f64)], offset: f64) -> (f64, f64) {
    let (mut slope, mut offset) = (0.0, offset);
    let mut value = loss(points, slope, offset);
    for _ in 0..MAX_STEPS {
        let (mut h11, mut h22, mut h21) = (SIGMA, SIGMA, 0.0);
        let (mut g1, mut g2) = (0.0, 0.0);
        for &(x, target) in points {
            let p = 1.0 / (1.0 + (-(slope * x + offset)).exp());
            let (curve, slant) = (p * (1.0 - p), p - target);
            h11 += x * x * curve;
            h22 += curve;
            h21 += x * curve;
            g1 += x * slant;
            g2 += slant;
        }
        if g1.abs() < MIN_GRADIENT && g2.abs() < MIN_GRADIENT {
            break;
        }
        let determinant = h11 * h22 - h21 * h21;
        let d1 = -(h22 * g1 - h21 * g2) / determinant;
        let d2 = -(-h21 * g1 + h11 * g2) / determinant;
        let descent = g1 * d1 + g2 * d2;
        let mut step = 1.0;
        while step >= MIN_STEP {
            let tried = loss(points, slope + step * d1, offset + step * d2);
            if tried < value + 1e-4 * step * descent {
                (slope, offset, value) = (slope + step * d1, offset + step * d2, tried);
                break;
            }
            step /= 2.0;
        }
        if step < MIN_STEP {
            break;
        }
    }
    (slope, offset)
}

/// The calibrations of prompts by one model, as they lie on the disk.
///
/// A calibration holds for the phrases that it was fitted with: a prompt of the same name with other
/// phrases has none.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibrations {
    /// By the name of the prompt.
    prompt: BTreeMap<String, Entry>,
}

/// A calibration and the phrases that it holds for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    phrases: Vec<String>,
    slope: f32,
    offset: f32,
}

impl Calibrations {
    /// The file for a model in `$XDG_DATA_HOME/hark`, which is `data`.
    pub fn path(data: &Path, sha256: &str) -> PathBuf {
        data.join("calibration").join(format!("{sha256}.toml"))
    }

    /// Reads those for a model; none where there is no file.
    ///
    /// # Errors
    /// When the file cannot be read or is damaged.
    pub fn load(data: &Path, sha256: &str) -> Result<Self, ModelError> {
        let path = Self::path(data, sha256);
        let failed = |error: &dyn std::fmt::Display| {
            ModelError::Read(format!("{}: {error}", path.display()))
        };
        match std::fs::metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Calibrations::default());
            }
            Err(error) => return Err(failed(&error)),
            Ok(known) if known.len() > MAX_FILE_BYTES => {
                return Err(failed(&format!(
                    "expected at most {MAX_FILE_BYTES} bytes, got {}",
                    known.len()
                )));
            }
            Ok(_) => {}
        }
        let text = std::fs::read_to_string(&path).map_err(|error| failed(&error))?;
        let read: Calibrations = toml::from_str(&text)
            .map_err(|error| ModelError::Format(format!("{}: {error}", path.display())))?;
        for (name, entry) in &read.prompt {
            let calibration = Calibration {
                slope: entry.slope,
                offset: entry.offset,
            };
            if !calibration.is_sound() {
                return Err(ModelError::Format(format!(
                    "{}: prompt.\"{name}\": expected a slope above 0 and an offset, got {} and {}: run hark calibrate again",
                    path.display(),
                    entry.slope,
                    entry.offset
                )));
            }
        }
        Ok(read)
    }

    /// Writes them, whole or not at all.
    ///
    /// # Errors
    /// When the disk does not take them.
    pub fn save(&self, data: &Path, sha256: &str) -> Result<(), ModelError> {
        let path = Self::path(data, sha256);
        let text = toml::to_string(self)
            .map_err(|error| ModelError::Format(format!("{}: {error}", path.display())))?;
        crate::config::replace(&path, text.as_bytes())
            .map_err(|error| ModelError::Read(format!("{}: {error}", path.display())))
    }

    /// That of a prompt, where there is one for its phrases.
    pub fn of(&self, prompt: &super::Prompt) -> Option<Calibration> {
        let entry = self.prompt.get(&*prompt.name)?;
        (entry.phrases == prompt.phrases).then_some(Calibration {
            slope: entry.slope,
            offset: entry.offset,
        })
    }

    /// Takes that of a prompt instead of what was there.
    pub fn set(&mut self, prompt: &super::Prompt, calibration: Calibration) {
        let entry = Entry {
            phrases: prompt.phrases.clone(),
            slope: calibration.slope,
            offset: calibration.offset,
        };
        self.prompt.insert(prompt.name.to_string(), entry);
    }

    /// Forgets that of a name.
    pub fn remove(&mut self, name: &str) {
        self.prompt.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::prompt::Prompt;

    fn prompt(phrases: &[&str]) -> Prompt {
        Prompt {
            name: "my \"doorbell\"".into(),
            phrases: phrases.iter().map(ToString::to_string).collect(),
            threshold: 0.5,
        }
    }

    /// Margins and targets as the fit sees them.
    fn points(positives: &[f32], negatives: &[f32]) -> Vec<(f64, f64)> {
        let (p, n) = (positives.len() as f64, negatives.len() as f64);
        let positive = positives
            .iter()
            .map(|&m| (f64::from(m), (p + 1.0) / (p + 2.0)));
        let negative = negatives.iter().map(|&m| (f64::from(m), 1.0 / (n + 2.0)));
        positive.chain(negative).collect()
    }

    #[track_caller]
    fn check_least(positives: &[f32], negatives: &[f32]) -> Calibration {
        let fitted = Calibration::fit(positives, negatives).unwrap();
        let points = points(positives, negatives);
        let (slope, offset) = (f64::from(fitted.slope), f64::from(fitted.offset));
        let least = loss(&points, slope, offset);
        for (by_slope, by_offset) in [(0.01, 0.0), (-0.01, 0.0), (0.0, 0.01), (0.0, -0.01)] {
            let beside = loss(&points, slope + by_slope, offset + by_offset);
            assert!(beside > least - 1e-9, "{fitted:?}: {least} {beside}");
        }
        fitted
    }

    #[test]
    fn the_fit_has_the_least_loss() {
        check_least(&[1.0, 2.0, 3.0, 0.5], &[-3.0, -1.0, 0.0, 0.7, -2.0]);
        check_least(&[40.0, 60.0], &[-50.0, -20.0, 10.0]);
        let many: Vec<f32> = (0..500).map(|n| (n as f32 * 0.37).sin() - 4.0).collect();
        let fitted = check_least(&[1.0, 1.5, 2.0], &many);
        assert!(
            fitted.log_odds(1.0) > 0.0 && fitted.log_odds(-3.0) < 0.0,
            "{fitted:?}"
        );
    }

    #[test]
    fn a_few_clips_make_no_certainty() {
        let fitted = check_least(&[5.0], &[-5.0]);
        // The targets are 2/3 and 1/3.
        assert!(
            (fitted.log_odds(5.0) - 2.0f32.ln()).abs() < 1e-3,
            "{fitted:?}"
        );
        assert!(
            (fitted.log_odds(-5.0) + 2.0f32.ln()).abs() < 1e-3,
            "{fitted:?}"
        );
    }

    #[test]
    fn clips_that_do_not_tell_have_no_fit() {
        assert_eq!(Calibration::fit(&[], &[1.0]), None);
        assert_eq!(Calibration::fit(&[1.0], &[]), None);
        assert_eq!(Calibration::fit(&[f32::NAN], &[1.0]), None);
        assert_eq!(Calibration::fit(&[-1.0, -2.0], &[1.0, 2.0]), None);
        assert_eq!(Calibration::fit(&[1.0, 1.0], &[1.0, 1.0]), None);
    }

    #[test]
    fn calibrations_hold_for_their_phrases_and_last() {
        let dir = tempfile::tempdir().unwrap();
        let mut known = Calibrations::load(dir.path(), "abc").unwrap();
        assert_eq!(known, Calibrations::default());
        let fitted = Calibration {
            slope: 1.5,
            offset: -0.25,
        };
        known.set(&prompt(&["a bell", "ding"]), fitted);
        known.save(dir.path(), "abc").unwrap();
        let read = Calibrations::load(dir.path(), "abc").unwrap();
        assert_eq!(read.of(&prompt(&["a bell", "ding"])), Some(fitted));
        assert_eq!(read.of(&prompt(&["a bell"])), None);
        assert_eq!(
            Calibrations::load(dir.path(), "abd").unwrap(),
            Calibrations::default()
        );
        known.remove("my \"doorbell\"");
        assert_eq!(known, Calibrations::default());
    }

    #[test]
    fn a_damaged_file_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = Calibrations::path(dir.path(), "abc");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        for (text, expected) in [
            ("[prompt.a]\nphrases = 7", "phrases"),
            (
                "[prompt.a]\nphrases = []\nslope = -1.0\noffset = 0.0",
                "a slope above 0",
            ),
            (
                "[prompt.a]\nphrases = []\nslope = 1.0\noffset = nan",
                "an offset",
            ),
            ("[other]", "other"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = Calibrations::load(dir.path(), "abc")
                .unwrap_err()
                .to_string();
            assert!(
                error.contains("abc.toml") && error.contains(expected),
                "{error}"
            );
        }
        std::fs::write(&path, " ".repeat(2 << 20)).unwrap();
        let error = Calibrations::load(dir.path(), "abc")
            .unwrap_err()
            .to_string();
        assert!(error.contains("at most"), "{error}");
    }
}
