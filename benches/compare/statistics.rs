//! The middle of several figures, and how far they lie apart.

/// What the rounds say together: the figure in the middle, and the two between which half of them lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Spread {
    /// # Panics
    ///
    /// When there are no figures.
    pub(crate) fn of(figures: &[f64]) -> Self {
        let mut sorted = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        Self {
            median: quantile(&sorted, 0.5),
            low: quantile(&sorted, 0.25),
            high: quantile(&sorted, 0.75),
        }
    }

    /// How one thing compares with another that was measured in the same rounds: each round gives a ratio of
    /// its own, so what slows both down for some rounds, as a neighbour does, is in neither.
    pub(crate) fn of_ratios(figures: &[f64], to: &[f64]) -> Self {
        assert_eq!(figures.len(), to.len(), "both are of the same rounds");
        let pairs = figures.iter().zip(to);
        Self::of(&pairs.map(|(figure, to)| figure / to).collect::<Vec<_>>())
    }
}

/// The figure that so large a share of the others lie below; between two, in proportion.
///
/// # Panics
///
/// When there are no figures.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    sorted[below] + (sorted[above] - sorted[below]) * place.fract()
}
