//! Blocks of numbers that look random, in each encoding.

/// Name, number in GGUF, numbers in a block, bytes of it.
pub(crate) const ENCODINGS: [(&str, u32, usize, usize); 8] = [
    ("Q4_0", 2, 32, 18),
    ("Q4_1", 3, 32, 20),
    ("Q5_0", 6, 32, 22),
    ("Q5_1", 7, 32, 24),
    ("Q8_0", 8, 32, 34),
    ("Q4_K", 12, 256, 144),
    ("Q5_K", 13, 256, 176),
    ("Q6_K", 14, 256, 210),
];

/// Where the f16 of a block lie; all else may hold any bits.
fn halves(name: &str) -> &'static [usize] {
    match name {
        "Q4_0" | "Q5_0" | "Q8_0" => &[0],
        "Q6_K" => &[208],
        _ => &[0, 2],
    }
}

/// Blocks of any integers, and of scales around a hundredth.
pub(crate) fn random(name: &str, blocks: usize, mut state: u64) -> Vec<u8> {
    let (_, _, _, bytes) = ENCODINGS.iter().find(|(known, ..)| *known == name).unwrap();
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let mut out: Vec<u8> = (0..blocks * bytes).map(|_| next()).collect();
    for block in out.chunks_mut(*bytes) {
        for at in halves(name) {
            // 2⁻⁷ times 1 to 2, of either sign.
            let bits = 0x2000 | u16::from_le_bytes([block[*at], block[at + 1]]) & 0x83ff;
            block[*at..at + 2].copy_from_slice(&bits.to_le_bytes());
        }
    }
    out
}
