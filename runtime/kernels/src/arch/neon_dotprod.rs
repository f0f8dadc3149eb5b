//! NEON with the `dotprod` extension (`sdot`): optional since Armv8.1, in every board that we aim at.

pub(super) mod linear;

/// Proof that this machine has NEON and `sdot`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NeonDotprod(());

impl NeonDotprod {
    pub(crate) fn new() -> Option<Self> {
        #[cfg(feature = "std")]
        let has = std::arch::is_aarch64_feature_detected!("dotprod");
        #[cfg(not(feature = "std"))]
        let has = cfg!(target_feature = "dotprod");
        (has && super::neon::Neon::new().is_some()).then_some(Self(()))
    }

    /// Calls `body` as code compiled for this instruction set.
    #[inline]
    pub(crate) fn run<R>(self, body: impl FnOnce() -> R) -> R {
        // SAFETY: `self` proves that this machine has the instructions.
        unsafe { run(body) }
    }
}

#[target_feature(enable = "neon,dotprod")]
fn run<R>(body: impl FnOnce() -> R) -> R {
    body()
}
