//! Tries again what may work the next time, with longer and longer waits, and says when it is enough.

use std::time::Duration;

use super::error::HubError;
use super::http::{Again, Fault};
use super::progress::{Progress, Tell};
use super::settings::Patience;

/// An attempt that brought this much counts as getting on, however it ended.
const GAIN: u64 = 1 << 20;

/// Runs `attempt` until it succeeds, fails for good, or has brought nothing `patience.attempts` times.
///
/// # Errors
/// With the last failure.
pub fn persist<T>(
    what: &str,
    patience: Patience,
    tell: &mut Tell<'_>,
    mut attempt: impl FnMut(&mut Tell<'_>) -> Result<T, Fault>,
) -> Result<T, HubError> {
    let mut failures = 0;
    let mut connected = false;
    loop {
        let again = match attempt(tell) {
            Ok(done) => return Ok(done),
            Err(Fault::Final(error)) => return Err(error),
            Err(Fault::Again(again)) => again,
        };
        if again.gained >= GAIN {
            failures = 0;
        }
        failures += 1;
        connected |= again.unreachable.is_none();
        // A host that was never there will not be there in five seconds.
        if failures >= patience.attempts || !connected {
            return Err(give_up(what, again, failures));
        }
        let wait = again
            .wait
            .unwrap_or_else(|| backoff(patience.first_wait, failures));
        if wait > patience.longest_wait {
            return Err(HubError::Busy {
                what: what.to_owned(),
                wait_s: wait.as_secs(),
            });
        }
        tell(Progress::Again {
            what,
            reason: &again.reason,
            wait,
        });
        (patience.wait)(wait);
    }
}

fn give_up(what: &str, again: Again, attempts: u32) -> HubError {
    let what = what.to_owned();
    match again.unreachable {
        Some(host) => HubError::Unreachable {
            what,
            host,
            reason: again.reason,
        },
        None => HubError::GaveUp {
            what,
            reason: again.reason,
            attempts,
        },
    }
}

/// Doubles for each failure, and up to a quarter more so that many clients do not come back at once.
fn backoff(first: Duration, failures: u32) -> Duration {
    let doubled = first.saturating_mul(1 << (failures - 1).min(6));
    doubled + doubled.mul_f64(0.25 * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patience() -> Patience {
        Patience {
            attempts: 4,
            wait: |_| {},
            ..Patience::default()
        }
    }

    fn again(wait_s: Option<u64>, gained: u64) -> Fault {
        Fault::Again(Again {
            reason: "cut".into(),
            wait: wait_s.map(Duration::from_secs),
            unreachable: None,
            gained,
        })
    }

    #[test]
    fn waits_grow_and_end() {
        let mut waits = Vec::new();
        let result = persist(
            "x",
            patience(),
            &mut |said| {
                if let Progress::Again { wait, .. } = said {
                    waits.push(wait.as_secs_f64());
                }
            },
            |_| Err::<(), _>(again(None, 0)),
        );
        assert!(
            matches!(result, Err(HubError::GaveUp { attempts: 4, .. })),
            "{result:?}"
        );
        assert_eq!(waits.len(), 3);
        for (wait, base) in waits.iter().zip([1.0, 2.0, 4.0]) {
            assert!((base..=1.25 * base).contains(wait), "{waits:?}");
        }
    }

    #[test]
    fn getting_on_is_not_failing() {
        let mut left = 20;
        let result = persist("x", patience(), &mut |_| {}, |_| {
            left -= 1;
            if left == 0 {
                Ok("whole")
            } else {
                Err(again(None, GAIN))
            }
        });
        assert_eq!(result.unwrap(), "whole");
    }

    #[test]
    fn a_server_says_how_long_to_wait_within_reason() {
        let mut asked = vec![];
        let mut first = true;
        persist(
            "x",
            patience(),
            &mut |said| {
                if let Progress::Again { wait, .. } = said {
                    asked.push(wait.as_secs());
                }
            },
            |_| {
                if std::mem::take(&mut first) {
                    Err(again(Some(7), 0))
                } else {
                    Ok(())
                }
            },
        )
        .unwrap();
        assert_eq!(asked, [7]);
        let long = persist("x", patience(), &mut |_| {}, |_| {
            Err::<(), _>(again(Some(3600), 0))
        });
        assert!(
            matches!(long, Err(HubError::Busy { wait_s: 3600, .. })),
            "{long:?}"
        );
    }
}
