//! How sure a count is: exact bounds of a Poisson rate.
//!
//! F. Garwood, *Fiducial limits for the Poisson distribution*, Biometrika 28 (1936): the upper limit
//! of the mean at confidence `c` after `n` events is where `P(X <= n)` falls to `1 - c`. One-sided, as
//! nobody minds fewer false accepts.

/// The confidence of every bound that is shown.
pub const CONFIDENCE: f64 = 0.95;

/// Probability of at most `n` events where `mean` are expected.
fn at_most(n: u32, mean: f64) -> f64 {
    if mean <= 0.0 {
        return 1.0;
    }
    // In logarithms, for e^-mean and the powers leave the range of numbers long before their product.
    let mut log_term = -mean;
    let mut sum = log_term.exp();
    for k in 1..=n {
        log_term += mean.ln() - f64::from(k).ln();
        sum += log_term.exp();
    }
    sum.min(1.0)
}

/// The largest mean that [`CONFIDENCE`] leaves possible after `n` events: 3.00 after none, 4.74 after
/// one.
pub fn upper_mean(n: u32) -> f64 {
    let mut low = f64::from(n);
    // Ten standard deviations and more above what was counted.
    let mut high = low + 10.0 * (low + 1.0).sqrt() + 10.0;
    // Each round halves the range: after 80 of them nothing of it is left in an f64.
    for _ in 0..80 {
        let middle = f64::midpoint(low, high);
        if at_most(n, middle) > 1.0 - CONFIDENCE {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// The largest rate an hour that [`CONFIDENCE`] leaves possible after `n` events in `hours`; boundless
/// after no time.
pub fn upper_per_hour(n: u32, hours: f64) -> f64 {
    if hours > 0.0 {
        upper_mean(n) / hours
    } else {
        f64::INFINITY
    }
}

/// Hours that must pass with at most `n` events to show that the rate is at most `per_hour`.
pub fn hours_to_show(n: u32, per_hour: f64) -> f64 {
    upper_mean(n) / per_hour
}

/// The most events in `hours` that still show a rate of at most `per_hour`; `None` where even none at
/// all shows nothing yet.
pub fn most_that_shows(per_hour: f64, hours: f64) -> Option<u32> {
    let shows = |n: u32| upper_mean(n) <= per_hour * hours;
    if !shows(0) {
        return None;
    }
    // The bound rises with `n` and lies over it.
    let (mut most, mut too_many) = (0, (per_hour * hours) as u32 + 1);
    while too_many - most > 1 {
        let middle = u32::midpoint(most, too_many);
        if shows(middle) {
            most = middle;
        } else {
            too_many = middle;
        }
    }
    Some(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_are_those_of_the_tables() {
        // Half of the chi-squared quantile with 2 (n + 1) degrees of freedom at 0.95.
        for (n, expected) in [
            (0, 2.995_732),
            (1, 4.743_865),
            (2, 6.295_794),
            (3, 7.753_657),
            (5, 10.513_035),
            (10, 16.962_219),
            (50, 63.287_074),
            (100, 118.079_273),
        ] {
            let got = upper_mean(n);
            assert!((got - expected).abs() < 1e-5, "{n}: {got}");
        }
        assert!((upper_mean(0) - -(0.05_f64.ln())).abs() < 1e-12);
    }

    #[test]
    fn a_bound_covers_what_it_claims() {
        // Of counts that a rate gives, one in twenty at most has a bound below that rate.
        let mut rng = fastrand::Rng::with_seed(5);
        for mean in [0.5, 3.2, 12.0] {
            let draw = |rng: &mut fastrand::Rng| {
                let (limit, mut product, mut n) = (f64::exp(-mean), rng.f64(), 0);
                while product > limit {
                    product *= rng.f64();
                    n += 1;
                }
                n
            };
            let missed = (0..20_000)
                .filter(|_| upper_mean(draw(&mut rng)) < mean)
                .count();
            // Five standard deviations above a twentieth.
            assert!(missed < 1000 + 155, "{mean}: {missed}");
        }
    }

    #[test]
    fn more_events_and_less_time_bound_less() {
        assert!((1..200).all(|n| upper_mean(n) > upper_mean(n - 1)));
        assert_eq!(upper_per_hour(0, 0.0), f64::INFINITY);
        assert!((upper_per_hour(0, 0.5) - 5.991_465).abs() < 1e-5);
        assert!((hours_to_show(0, 1.0) - 2.995_732).abs() < 1e-5);
    }

    #[test]
    fn what_a_time_can_show_is_what_the_bound_allows() {
        assert_eq!(most_that_shows(1.0, 2.9), None);
        assert_eq!(most_that_shows(1.0, 3.0), Some(0));
        assert_eq!(most_that_shows(1.0, 4.8), Some(1));
        assert_eq!(most_that_shows(2.0, 10.0), Some(12));
        assert_eq!(most_that_shows(1.0, 0.0), None);
    }
}
