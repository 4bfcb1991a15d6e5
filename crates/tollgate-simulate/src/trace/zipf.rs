//! Draws ranks by Zipf's law in integers, so that a draw is the same on every machine.

/// Zipf's law with exponent 1 over the ranks `1..=n`: rank `k` has the weight `floor(2^32 / k)`.
///
/// `rand_distr::Zipf` is not used: it computes powers and logarithms of floating-point numbers, whose last bits depend
/// on the platform, and its rule may change with a release.
pub(super) struct Zipf {
    /// The cumulative weights of `1..=k`, at index `k − 1`.
    cumulative: Vec<u64>,
}

const FIRST_WEIGHT: u64 = 1 << 32;

impl Zipf {
    /// Zipf's law over `1..=ranks`; `ranks` is at least 1.
    pub(super) fn new(ranks: u32) -> Self {
        let weights = (1..=u64::from(ranks)).map(|rank| FIRST_WEIGHT / rank);
        let cumulative = weights.scan(0, |total, weight| {
            *total += weight;
            Some(*total)
        });
        Self { cumulative: cumulative.collect() }
    }

    /// The rank for the uniform draw `x`.
    pub(super) fn rank(&self, x: u64) -> usize {
        let total = self.cumulative.last().copied().unwrap_or_default();
        let point = (u128::from(x) * u128::from(total)) >> 64;
        self.cumulative.partition_point(|cumulative| u128::from(*cumulative) <= point) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_the_draw_are_the_ends_of_the_ranks() {
        for ranks in [1, 2, 5, 100, 1_000_000] {
            let zipf = Zipf::new(ranks);
            assert_eq!(zipf.rank(0), 1);
            assert_eq!(zipf.rank(u64::MAX), ranks as usize);
        }
    }

    #[test]
    fn a_rank_is_picked_by_its_share_of_the_weights() {
        // Weights 2^32, 2^31 and floor(2^32/3): the borders lie at 6/11 and 9/11.
        let zipf = Zipf::new(3);
        let at = |of_eleven: u64| u64::MAX / 11 * of_eleven;
        let (before, after) = (1 << 40, 1 << 40);
        assert_eq!(zipf.rank(at(6) - before), 1);
        assert_eq!(zipf.rank(at(6) + after), 2);
        assert_eq!(zipf.rank(at(9) - before), 2);
        assert_eq!(zipf.rank(at(9) + after), 3);
    }
}
