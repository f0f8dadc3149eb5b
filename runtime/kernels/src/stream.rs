//! Reading memory for its own sake: what a kernel can be measured against.

use crate::isa::Isa;

/// Bytes of four lines, whose sums are independent.
const STEP: usize = 256;

impl Isa {
    /// Reads all of `bytes` as fast as the memory gives them.
    ///
    /// What it returns depends on each byte, so that no read is left out, and means nothing.
    #[must_use]
    pub fn read(self, bytes: &[u8]) -> u64 {
        self.run(
            #[inline(always)]
            || read(bytes),
        )
    }
}

#[inline(always)]
fn read(bytes: &[u8]) -> u64 {
    let (steps, tail) = bytes.as_chunks::<STEP>();
    let mut sums = [0_u64; STEP / 8];
    for step in steps {
        for (sum, word) in sums.iter_mut().zip(step.as_chunks::<8>().0) {
            *sum ^= u64::from_le_bytes(*word);
        }
    }
    let tail: u64 = tail.iter().copied().map(u64::from).sum();
    sums.into_iter().fold(tail, |all, sum| all ^ sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_counts() {
        for isa in Isa::available() {
            let mut bytes = [7_u8; 2 * STEP + 9];
            let before = isa.read(&bytes);
            for at in [0, 8, STEP - 1, STEP, 2 * STEP, 2 * STEP + 8] {
                bytes[at] ^= 1;
                assert_ne!(isa.read(&bytes), before, "{isa:?}: byte {at}");
                bytes[at] ^= 1;
            }
        }
    }
}
