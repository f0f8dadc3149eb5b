//! One module per instruction set, named like the token in it.
//!
//! A token is built only by its `new`, which asks the machine; so a method of it may use the instructions.

use crate::quantize::QuantizedBlock;

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[expect(unsafe_code, reason = "prefetch instructions")]
pub(crate) mod ahead;
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "AVX2 intrinsics")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "AVX-512 intrinsics")]
pub(crate) mod avx512_vnni;
#[cfg(target_arch = "aarch64")]
#[expect(unsafe_code, reason = "NEON intrinsics")]
pub(crate) mod neon;
#[cfg(target_arch = "aarch64")]
#[expect(unsafe_code, reason = "NEON intrinsics and inline assembly")]
pub(crate) mod neon_dotprod;
#[cfg(target_arch = "aarch64")]
#[expect(unsafe_code, reason = "NEON intrinsics and inline assembly")]
pub(crate) mod neon_i8mm;

/// Block `block` of some rows.
#[inline(always)]
fn at<'a, const R: usize>(x: &[&'a [QuantizedBlock]; R], block: usize) -> [&'a QuantizedBlock; R] {
    core::array::from_fn(|r| &x[r][block])
}

/// As many blocks of each row as the first one has, so that one check serves all indices.
#[inline(always)]
fn cut<const R: usize>(mut x: [&[QuantizedBlock]; R]) -> [&[QuantizedBlock]; R] {
    for r in 1..R {
        x[r] = &x[r][..x[0].len()];
    }
    x
}
