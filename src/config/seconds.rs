//! A length of time in the configuration: a number of seconds, or text such as `"500ms"`.
//!
//! Calendar units beyond hours are left out: nothing that listens waits for days.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer, Visitor};

/// A length of time in seconds, finite and not negative.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
pub struct Seconds(f64);

impl Seconds {
    /// The longest that is taken, a day: anything longer is a slip of the unit.
    pub const MAX: f64 = 86_400.0;

    /// No time at all.
    pub const ZERO: Seconds = Seconds(0.0);
    /// One second.
    pub const ONE: Seconds = Seconds(1.0);

    /// `seconds` as a length of time; `None` when it is negative, not a number or over a day.
    pub fn new(seconds: f64) -> Option<Self> {
        (0.0..=Self::MAX)
            .contains(&seconds)
            .then_some(Self(seconds))
    }

    /// The same in seconds.
    pub const fn as_secs_f64(self) -> f64 {
        self.0
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.0)
    }
}

impl FromStr for Seconds {
    type Err = String;

    /// Reads a number followed by `ms`, `s`, `m` or `h`, or a bare number of seconds.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let trimmed = text.trim();
        let digits = trimmed.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let scale = match trimmed[digits.len()..].to_ascii_lowercase().as_str() {
            "ms" => 0.001,
            "" | "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            unit => {
                return Err(format!(
                    "unknown unit '{unit}' in '{text}': use ms, s, m or h, as in \"500ms\""
                ));
            }
        };
        let number: f64 = digits
            .trim()
            .parse()
            .map_err(|_| format!("'{text}' is no length of time: write 2, \"500ms\" or \"1m\""))?;
        Seconds::new(number * scale)
            .ok_or_else(|| format!("'{text}' is out of range: allowed are 0 to 24 hours"))
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SecondsVisitor;

        impl Visitor<'_> for SecondsVisitor {
            type Value = Seconds;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of seconds or text such as \"500ms\"")
            }

            fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<Seconds, E> {
                Seconds::new(seconds).ok_or_else(|| {
                    E::custom(format!(
                        "{seconds} s is out of range: allowed are 0 to 24 hours"
                    ))
                })
            }

            fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Seconds, E> {
                self.visit_f64(seconds as f64)
            }

            fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Seconds, E> {
                self.visit_f64(seconds as f64)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Seconds, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(SecondsVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_with_a_unit_is_read() {
        let check = |text: &str, expected: Option<f64>| {
            let got = text.parse::<Seconds>().ok().map(Seconds::as_secs_f64);
            assert_eq!(got, expected, "{text}");
        };
        check("500ms", Some(0.5));
        check("2s", Some(2.0));
        check(" 1.5 m ", Some(90.0));
        check("1h", Some(3600.0));
        check("3", Some(3.0));
        check("0ms", Some(0.0));
        check("", None);
        check("s", None);
        check("-1s", None);
        check("2 weeks", None);
        check("NaN", None);
        check("inf", None);
        check("25h", None);
    }
}
