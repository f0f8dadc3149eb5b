//! Softmax of one row of scores, in plain loops that a compiler turns into vectors.
//!
//! Burn's graph would walk over the scores of all tokens a dozen times, and keep most of what it makes: with a small
//! model and exits, that is a third of a step.

/// Sums kept side by side, so that a loop over them is one over vectors.
const LANES: usize = 16;

/// `eˣ` for `x <= 0`, within 3e-7 of itself; 0 below -87. What is no number stays none.
///
/// `eˣ = 2ⁿ · eʳ` with `n` the integer nearest to `x / ln 2`, and `eʳ` by its series to the sixth power.
#[inline]
fn exp(x: f32) -> f32 {
    /// Adding it leaves the nearest integer in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let is_zero = x < -87.0;
    let x = if is_zero { 0.0 } else { x };
    let shifted = x * core::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    // ln 2 in two parts: the first has so few bits that its product with n is exact.
    let r = x - n * 0.693_359_4 - n * -2.121_944_4e-4;
    let series = 1.0 / 720.0;
    let series = series * r + 1.0 / 120.0;
    let series = series * r + 1.0 / 24.0;
    let series = series * r + 1.0 / 6.0;
    let series = series * r + 0.5;
    let series = series * r * r + r + 1.0;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    if is_zero { 0.0 } else { series * power }
}

/// Folds a row in lanes.
#[inline]
fn lanes(row: &[f32], start: f32, fold: impl Fn(f32, f32) -> f32) -> f32 {
    let (chunks, rest) = row.as_chunks::<LANES>();
    let mut acc = [start; LANES];
    for chunk in chunks {
        for lane in 0..LANES {
            acc[lane] = fold(acc[lane], chunk[lane]);
        }
    }
    acc.iter().chain(rest).copied().fold(start, fold)
}

/// `Σ a·b`.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut acc = [0.0; LANES];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            acc[lane] += a[lane] * b[lane];
        }
    }
    acc.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}

/// Position of the largest score; of equal ones the first. The first where all are no numbers.
pub(super) fn top(scores: &[f32]) -> usize {
    let max = lanes(scores, f32::NEG_INFINITY, |a, b| if b > a { b } else { a });
    scores.iter().position(|score| *score >= max).unwrap_or(0)
}

/// Replaces scores by `exp(scale · (score - scores[top]))`, and returns their sum; `top` is the largest.
pub(super) fn exponentials(scores: &mut [f32], top: usize, scale: f32) -> f32 {
    let max = scores[top];
    for score in scores.iter_mut() {
        *score = exp(scale * (*score - max));
    }
    lanes(scores, 0.0, |a, b| a + b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_those_of_the_standard_library() {
        let mut worst = 0.0_f64;
        for step in 0..870_000_u32 {
            let x = -(step as f32) * 1e-4;
            let expected = f64::from(x).exp();
            worst = worst.max((f64::from(exp(x)) - expected).abs() / expected);
        }
        println!("largest relative error {worst:.2e}");
        assert!(worst < 3e-7, "{worst}");
        assert_eq!(exp(0.0).to_bits(), 1.0_f32.to_bits(), "exactly one");
        assert_eq!(exp(-1e30).to_bits(), 0, "nothing is left");
        assert!(exp(f32::NAN).is_nan(), "not hidden");
    }

    #[test]
    fn rows_of_any_length_are_summed_whole() {
        for len in [1, 15, 16, 17, 40] {
            let row: Vec<f32> = (0..len).map(|i| i as f32).collect();
            let expected: f32 = row.iter().map(|x| x * x).sum();
            assert!((dot(&row, &row) - expected).abs() < 1e-3, "{len} squares");
            assert_eq!(top(&row), len - 1, "the last is the largest");
            let mut equal = vec![3.0; len];
            assert_eq!(top(&equal), 0, "the first of equals");
            assert!((exponentials(&mut equal, 0, 1.0) - len as f32).abs() < 1e-5, "{len} ones");
        }
    }
}
