//! Random numbers that depend on their place, not on how many were drawn before.

/// A number from 0 to 1 for each seed, place and purpose.
pub(crate) fn unit(seed: u64, place: u64, purpose: u64) -> f32 {
    let mut bits = seed
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(place.wrapping_mul(0xbf58_476d_1ce4_e5b9))
        .wrapping_add(purpose.wrapping_mul(0x94d0_49bb_1331_11eb));
    // SplitMix64's finisher.
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    (bits >> 40) as f32 / (1_u64 << 24) as f32
}

/// Nearly normal, mean 0, deviation 1: a sum of four.
pub(crate) fn normal(seed: u64, place: u64, purpose: u64) -> f32 {
    let sum: f32 = (0..4).map(|index| unit(seed, place, purpose * 4 + index)).sum();
    (sum - 2.0) * 1.732
}
