//! AVX-512 with VNNI: x86-64 servers since 2019, some desktops.

mod linear;
mod wide;

/// Proof that this machine has AVX-512 F, BW, DQ, VL and VNNI, and what [`Avx2`](super::avx2::Avx2) proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Avx512Vnni(());

impl Avx512Vnni {
    pub(crate) fn new() -> Option<Self> {
        #[cfg(feature = "std")]
        let has = std::arch::is_x86_feature_detected!("avx512f")
            && std::arch::is_x86_feature_detected!("avx512bw")
            && std::arch::is_x86_feature_detected!("avx512dq")
            && std::arch::is_x86_feature_detected!("avx512vl")
            && std::arch::is_x86_feature_detected!("avx512vnni");
        #[cfg(not(feature = "std"))]
        let has = cfg!(all(
            target_feature = "avx512f",
            target_feature = "avx512bw",
            target_feature = "avx512dq",
            target_feature = "avx512vl",
            target_feature = "avx512vnni"
        ));
        (has && super::avx2::Avx2::new().is_some()).then_some(Self(()))
    }

    /// Calls `body` as code compiled for this instruction set.
    #[inline]
    pub(crate) fn run<R>(self, body: impl FnOnce() -> R) -> R {
        // SAFETY: `self` proves that this machine has the instructions.
        unsafe { run(body) }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn run<R>(body: impl FnOnce() -> R) -> R {
    body()
}
