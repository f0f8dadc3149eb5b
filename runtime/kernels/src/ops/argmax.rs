//! The largest of many numbers.

use crate::isa::Isa;
use crate::view::LANES;

impl Isa {
    /// Finds the first of the largest numbers.
    ///
    /// # Shapes
    ///
    /// - `x`: `[n]` f32, read
    ///
    /// # Panics
    ///
    /// Panics if there are no numbers.
    #[must_use]
    pub fn argmax(self, x: &[f32]) -> usize {
        assert!(!x.is_empty(), "no numbers");
        self.run(
            #[inline(always)]
            || argmax(x),
        )
    }
}

/// Two passes, maximum and search: each is a loop without a carried index, and so becomes vector instructions.
#[inline(always)]
fn argmax(x: &[f32]) -> usize {
    let (blocks, tail) = x.as_chunks::<LANES>();
    let mut largest = [f32::NEG_INFINITY; LANES];
    for block in blocks {
        for j in 0..LANES {
            largest[j] = larger(block[j], largest[j]);
        }
    }
    let largest = largest.iter().chain(tail).fold(f32::NEG_INFINITY, |a, &b| larger(b, a));

    for (index, block) in blocks.iter().enumerate() {
        let mut found = false;
        for &value in block {
            found |= value >= largest;
        }
        if found {
            return index * LANES + block.iter().position(|&value| value >= largest).unwrap_or(0);
        }
    }
    blocks.len() * LANES + tail.iter().position(|&value| value >= largest).unwrap_or(0)
}

#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}
