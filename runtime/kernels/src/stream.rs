//! Reading memory for its own sake: what a kernel can be measured against.

use crate::isa::Isa;

impl Isa {
    /// Reads all of `words` as fast as the memory gives them, and returns their exclusive or, so that no read is left out.
    #[must_use]
    pub fn read(self, words: &[u64]) -> u64 {
        self.run(
            #[inline(always)]
            || read(words),
        )
    }
}

/// As plain as can be, which the compiler unrolls itself: with sums laid out by hand it was ten times slower under AVX-512.
#[inline(always)]
fn read(words: &[u64]) -> u64 {
    words.iter().fold(0, |all, word| all ^ word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_counts() {
        for isa in Isa::available() {
            let mut words = [7; 67];
            let before = isa.read(&words);
            for at in [0, 1, 31, 32, 64, 66] {
                words[at] ^= 1;
                assert_ne!(isa.read(&words), before, "{isa:?}: word {at}");
                words[at] ^= 1;
            }
        }
    }
}
