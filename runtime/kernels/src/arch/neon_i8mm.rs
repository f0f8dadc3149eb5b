//! NEON with the `i8mm` extension (`smmla`): optional since Armv8.2, in Neoverse V1 and later, and so in Jetson Thor.

mod linear;

use super::neon_dotprod::NeonDotprod;

/// Proof that this machine has NEON, `sdot` and `smmla`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NeonI8mm(NeonDotprod);

impl NeonI8mm {
    pub(crate) fn new() -> Option<Self> {
        #[cfg(feature = "std")]
        let has = std::arch::is_aarch64_feature_detected!("i8mm");
        #[cfg(not(feature = "std"))]
        let has = cfg!(target_feature = "i8mm");
        NeonDotprod::new().filter(|_| has).map(Self)
    }

    /// Calls `body` as code compiled for this instruction set, whose integer products matter to no other operator.
    #[inline]
    pub(crate) fn run<R>(self, body: impl FnOnce() -> R) -> R {
        self.0.run(body)
    }
}
