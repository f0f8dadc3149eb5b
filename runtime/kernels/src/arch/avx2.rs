//! AVX2 with FMA and F16C: x86-64 since 2013.

mod linear;
mod wide;

pub(crate) use wide::sum_eights;

/// Proof that this machine has AVX2, FMA and F16C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Avx2(());

impl Avx2 {
    pub(crate) fn new() -> Option<Self> {
        #[cfg(feature = "std")]
        let has = std::arch::is_x86_feature_detected!("avx2")
            && std::arch::is_x86_feature_detected!("fma")
            && std::arch::is_x86_feature_detected!("f16c");
        #[cfg(not(feature = "std"))]
        let has =
            cfg!(all(target_feature = "avx2", target_feature = "fma", target_feature = "f16c"));
        has.then_some(Self(()))
    }

    /// Calls `body` as code compiled for this instruction set.
    #[inline]
    pub(crate) fn run<R>(self, body: impl FnOnce() -> R) -> R {
        // SAFETY: `self` proves that this machine has the instructions.
        unsafe { run(body) }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn run<R>(body: impl FnOnce() -> R) -> R {
    body()
}
