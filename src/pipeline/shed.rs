//! Who gives way when several models want more of the machine than there is.
//!
//! A model most of whose windows are skipped is behind. While one that goes before others is behind, the
//! one that goes last is set aside: its windows are not handed over, and after a while it is tried
//! again, after longer each time that it did not go well. Models of label prompts go last, whatever
//! they cost; otherwise the cheapest goes first, and it is never set aside. Counts of windows alone
//! decide here; there is no clock.

/// Windows looked back on when asking whether a model keeps up.
const KEEP_UP_OF: u32 = 20;
/// Windows that a model misses when it is set aside for the first time: 8 s with a hop of half a
/// second, 80 s with the five seconds of the large ones.
const FIRST_PAUSE: u32 = 16;
/// And at most.
const LAST_PAUSE: u32 = 256;
/// Windows after which a model that was tried again has stood the test.
const STOOD: u32 = 2 * KEEP_UP_OF;

/// What is lost with a model and what is won: they are set aside in this order from the greatest.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub(super) struct Rank {
    /// Whether it answers label prompts.
    pub is_prompt: bool,
    /// What it takes of the machine, in any unit.
    pub cost: f32,
}

/// What is known of one model.
#[derive(Debug, Clone)]
struct Load {
    /// One bit a window, the newest lowest; set for those that were skipped.
    skips: u32,
    /// Whether most windows are skipped: from over a half until no more than a quarter are.
    is_behind: bool,
    /// Windows that it still misses, and the model that it has made room for.
    aside: Option<(u32, usize)>,
    /// How many it misses the next time.
    pause: u32,
    /// Windows since it was tried again.
    tried: u32,
}

impl Load {
    /// It is tried again after it was set aside.
    fn begin_again(&mut self) {
        self.tried = 0;
        self.skips = 0;
        self.is_behind = false;
    }
}

/// The models that run on windows, by their number.
#[derive(Debug, Clone)]
pub(super) struct Shedding(Vec<Load>);

impl Shedding {
    /// So many models, all of them well.
    pub fn new(models: usize) -> Self {
        Shedding(vec![
            Load {
                skips: 0,
                is_behind: false,
                aside: None,
                pause: FIRST_PAUSE,
                tried: 0,
            };
            models
        ])
    }

    /// Whether a window of this model may be handed over; to be asked once for each. Allocates nothing.
    pub fn admits(&mut self, model: usize) -> bool {
        let Some(load) = self.0.get_mut(model) else {
            return false;
        };
        match &mut load.aside {
            Some((left, _)) if *left > 0 => {
                *left -= 1;
                false
            }
            aside => {
                if aside.take().is_some() {
                    load.begin_again();
                }
                true
            }
        }
    }

    /// Goes on where `old` stood: model `n` here was `from[n]` there. Allocates nothing.
    pub fn carry_over(
        &mut self,
        old: &Shedding,
        from: impl Iterator<Item = Option<usize>> + Clone,
    ) {
        let now = |then: usize| from.clone().position(|from| from == Some(then));
        for (load, from) in self.0.iter_mut().zip(from.clone()) {
            let Some(before) = from.and_then(|from| old.0.get(from)) else {
                continue;
            };
            *load = before.clone();
            if let Some((left, other)) = before.aside {
                load.aside = now(other).map(|other| (left, other));
                // Whoever it has made room for is gone.
                if load.aside.is_none() {
                    load.begin_again();
                }
            }
        }
    }

    /// Takes in that a window of this model was handed over, and whether an older one was skipped for
    /// it; gives the model that is set aside now. `rank` gives `None` for a model that takes nothing at
    /// the moment. Allocates nothing.
    pub fn note(
        &mut self,
        model: usize,
        is_skipped: bool,
        rank: impl Fn(usize) -> Option<Rank>,
    ) -> Option<usize> {
        let load = self.0.get_mut(model)?;
        load.tried = load.tried.saturating_add(1);
        if load.tried >= STOOD {
            load.pause = FIRST_PAUSE;
        }
        load.skips = (load.skips << 1 | u32::from(is_skipped)) & ((1 << KEEP_UP_OF) - 1);
        load.is_behind = match load.skips.count_ones() {
            few if few * 4 <= KEEP_UP_OF => false,
            many if many * 2 > KEEP_UP_OF => true,
            _ => load.is_behind,
        };
        if !load.is_behind {
            return None;
        }
        let own = rank(model)?;
        let (_, last) = (0..self.0.len())
            .filter(|&other| other != model && self.0[other].aside.is_none())
            .filter_map(|other| Some((rank(other)?, other)))
            .filter(|(rank, _)| *rank > own)
            .max_by(|a, b| {
                let by_kind = a.0.is_prompt.cmp(&b.0.is_prompt);
                by_kind.then(a.0.cost.total_cmp(&b.0.cost))
            })?;
        let given_up = &mut self.0[last];
        given_up.aside = Some((given_up.pause, model));
        given_up.pause = (given_up.pause * 2).min(LAST_PAUSE);
        // Whether that was enough is judged by the windows from now on.
        self.0[model].skips = 0;
        self.0[model].is_behind = false;
        Some(last)
    }

    /// The first model that is behind.
    pub fn behind(&self) -> Option<usize> {
        self.0.iter().position(|load| load.is_behind)
    }

    /// Whether this model is set aside.
    pub fn is_aside(&self, model: usize) -> bool {
        self.0.get(model).is_some_and(|load| load.aside.is_some())
    }

    /// The first model that is set aside, and the one that it has made room for.
    pub fn aside(&self) -> Option<(usize, usize)> {
        let aside = |(at, load): (usize, &Load)| Some((at, load.aside?.1));
        self.0.iter().enumerate().find_map(aside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three models: the second is the cheapest, the third the dearest.
    fn rank(model: usize) -> Option<Rank> {
        Some(Rank {
            is_prompt: false,
            cost: [0.5, 0.1, 0.9][model],
        })
    }

    /// Hands over `n` windows of a model; gives how many were admitted.
    fn run(shed: &mut Shedding, model: usize, n: u32, is_skipped: bool) -> u32 {
        let mut admitted = 0;
        for _ in 0..n {
            if shed.admits(model) {
                admitted += 1;
                shed.note(model, is_skipped, rank);
            }
        }
        admitted
    }

    #[test]
    fn a_model_is_behind_from_over_a_half_skipped_to_a_quarter() {
        let mut shed = Shedding::new(1);
        run(&mut shed, 0, 10, true);
        assert_eq!(shed.behind(), None);
        run(&mut shed, 0, 1, true);
        assert_eq!(shed.behind(), Some(0));
        run(&mut shed, 0, 14, false);
        assert_eq!(shed.behind(), Some(0));
        run(&mut shed, 0, 1, false);
        assert_eq!(shed.behind(), None);
        run(&mut shed, 0, 100, true);
        assert_eq!(shed.aside(), None, "the only one is never set aside");
    }

    #[test]
    fn the_dearest_gives_way_to_a_cheaper_one_and_comes_back() {
        let mut shed = Shedding::new(3);
        run(&mut shed, 1, 11, true);
        assert_eq!(shed.aside(), Some((2, 1)));
        assert_eq!(shed.behind(), None, "judged anew");
        assert_eq!(run(&mut shed, 1, 40, false), 40);
        assert_eq!(run(&mut shed, 2, FIRST_PAUSE, false), 0);
        assert!(shed.is_aside(2));
        assert_eq!(run(&mut shed, 2, 1, false), 1, "tried again");
        assert_eq!(shed.aside(), None);

        // It does not go well again: longer aside. Once it has stood the test, as at first.
        run(&mut shed, 1, 11, true);
        assert_eq!(run(&mut shed, 2, 2 * FIRST_PAUSE + 1, false), 1);
        run(&mut shed, 2, STOOD, false);
        run(&mut shed, 1, 11, true);
        assert_eq!(run(&mut shed, 2, FIRST_PAUSE + 1, false), 1);
    }

    #[test]
    fn one_after_the_other_gives_way_but_never_the_cheapest() {
        let mut shed = Shedding::new(3);
        run(&mut shed, 1, 11, true);
        run(&mut shed, 1, 11, true);
        assert!(shed.is_aside(0) && shed.is_aside(2));
        run(&mut shed, 1, 100, true);
        assert!(!shed.is_aside(1));
        assert_eq!(shed.behind(), Some(1));
    }

    #[test]
    fn a_dear_model_that_is_behind_itself_moves_no_cheaper_one() {
        let mut shed = Shedding::new(3);
        run(&mut shed, 2, 50, true);
        assert_eq!((shed.behind(), shed.aside()), (Some(2), None));
    }

    #[test]
    fn a_model_that_fails_the_test_again_and_again_still_comes_back() {
        let mut shed = Shedding::new(3);
        for _ in 0..20 {
            run(&mut shed, 1, 11, true);
            let mut missed = 0;
            while !shed.admits(2) {
                missed += 1;
            }
            assert!((FIRST_PAUSE..=LAST_PAUSE).contains(&missed));
            // The other dear one comes back too.
            run(&mut shed, 0, LAST_PAUSE + 1, false);
        }
    }

    /// Three models: a dear one, one of prompts that costs next to nothing, and a dearer one.
    fn with_prompts(model: usize) -> Option<Rank> {
        Some(Rank {
            is_prompt: model == 1,
            cost: [0.5, 0.001, 0.9][model],
        })
    }

    #[test]
    fn prompts_give_way_first_whatever_they_cost_and_then_the_dearest() {
        let mut shed = Shedding::new(3);
        let mut behind = |model: usize| {
            let mut given_up = None;
            for _ in 0..11 {
                given_up = given_up.or(shed.note(model, true, with_prompts));
            }
            given_up
        };
        assert_eq!(behind(1), None, "nobody makes room for prompts");
        assert_eq!(behind(2), Some(1), "even the dearest has them make room");
        assert_eq!(behind(0), Some(2));
        assert_eq!(behind(0), None);
    }

    #[test]
    fn a_model_that_takes_nothing_is_not_set_aside() {
        let mut shed = Shedding::new(3);
        let rank = |model: usize| with_prompts(model).filter(|rank| !rank.is_prompt);
        let given_up: Vec<usize> = (0..11).filter_map(|_| shed.note(0, true, rank)).collect();
        assert_eq!(given_up, [2]);
    }

    #[test]
    fn what_is_aside_stays_so_when_others_come_and_go() {
        let mut shed = Shedding::new(3);
        run(&mut shed, 1, 11, true);
        assert_eq!(shed.aside(), Some((2, 1)));
        let mut next = Shedding::new(4);
        next.carry_over(&shed, [None, Some(2), Some(1), None].into_iter());
        assert_eq!(next.aside(), Some((1, 2)));
        assert_eq!(run(&mut next, 1, FIRST_PAUSE, false), 0);
        // The one that it has made room for is gone.
        let mut next = Shedding::new(2);
        next.carry_over(&shed, [Some(0), Some(2)].into_iter());
        assert_eq!(next.aside(), None);
        assert_eq!(run(&mut next, 1, 1, false), 1);
    }
}
