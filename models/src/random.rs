//! Numbers drawn from a seed: the same on every machine for ever, whatever else a process draws.

/// Steele, Lea & Flood 2014: small, and good enough to shuffle and to start from.
#[derive(Clone, Debug)]
pub(crate) struct SplitMix(u64);

impl SplitMix {
    /// A generator of its own.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; the bias is that of a modulus of 64 bits.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// Uniform in `0.0..1.0`.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Normal around zero with a deviation of one (Box & Muller 1958).
    pub(crate) fn normal(&mut self) -> f64 {
        // 1 - u is never zero, so its logarithm is finite.
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (core::f64::consts::TAU * self.unit()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_spread_as_their_names_say() {
        let mut random = SplitMix::new(3);
        let count = 20_000;
        let moments = |numbers: &[f64]| {
            let mean = numbers.iter().sum::<f64>() / f64::from(count);
            (mean, numbers.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / f64::from(count))
        };
        let units: Vec<f64> = (0..count).map(|_| random.unit()).collect();
        let normals: Vec<f64> = (0..count).map(|_| random.normal()).collect();
        assert!(units.iter().all(|unit| (0.0..1.0).contains(unit)), "between 0 and 1");
        let ((mean, variance), (normal_mean, normal_variance)) =
            (moments(&units), moments(&normals));
        assert!((mean - 0.5).abs() < 0.01 && (variance - 1.0 / 12.0).abs() < 0.01, "uniform");
        assert!(normal_mean.abs() < 0.03 && (normal_variance - 1.0).abs() < 0.05, "normal");
    }
}
