//! Which instructions this machine has.

use core::fmt;

use crate::arch;

/// An instruction set that this machine has: the proof is in holding the value. Cheap to copy.
///
/// Kernels are its methods. All give the same bits; [`Isa::reference`] defines them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Isa(pub(crate) Kind);

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Reference,
    #[cfg(target_arch = "x86_64")]
    Avx2(arch::avx2::Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni(arch::avx512_vnni::Avx512Vnni),
    #[cfg(target_arch = "aarch64")]
    Neon(arch::neon::Neon),
    #[cfg(target_arch = "aarch64")]
    NeonDotprod(arch::neon_dotprod::NeonDotprod),
    #[cfg(target_arch = "aarch64")]
    NeonI8mm(arch::neon_i8mm::NeonI8mm),
}

impl Isa {
    /// The best instruction set of this machine.
    ///
    /// With feature `std` the machine is asked, otherwise it is the best that the build enables.
    #[must_use]
    pub fn detect() -> Self {
        Self::available().last().unwrap_or(Self::reference())
    }

    /// Plain Rust, compiled for the baseline of the target.
    #[must_use]
    pub const fn reference() -> Self {
        Self(Kind::Reference)
    }

    /// The instruction set with this [name](Self::name), if this machine has it.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::available().find(|isa| isa.name() == name)
    }

    /// The instruction sets of this machine, slowest first.
    pub fn available() -> impl Iterator<Item = Self> {
        [
            Some(Kind::Reference),
            #[cfg(target_arch = "x86_64")]
            arch::avx2::Avx2::new().map(Kind::Avx2),
            #[cfg(target_arch = "x86_64")]
            arch::avx512_vnni::Avx512Vnni::new().map(Kind::Avx512Vnni),
            #[cfg(target_arch = "aarch64")]
            arch::neon::Neon::new().map(Kind::Neon),
            #[cfg(target_arch = "aarch64")]
            arch::neon_dotprod::NeonDotprod::new().map(Kind::NeonDotprod),
            #[cfg(target_arch = "aarch64")]
            arch::neon_i8mm::NeonI8mm::new().map(Kind::NeonI8mm),
        ]
        .into_iter()
        .flatten()
        .map(Self)
    }

    /// Name: `reference`, `avx2`, `avx512-vnni`, `neon`, `neon-dotprod` or `neon-i8mm`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.0 {
            Kind::Reference => "reference",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Vnni(_) => "avx512-vnni",
            #[cfg(target_arch = "aarch64")]
            Kind::Neon(_) => "neon",
            #[cfg(target_arch = "aarch64")]
            Kind::NeonDotprod(_) => "neon-dotprod",
            #[cfg(target_arch = "aarch64")]
            Kind::NeonI8mm(_) => "neon-i8mm",
        }
    }

    /// Calls `body` as code compiled for this instruction set.
    ///
    /// Pass a closure marked `#[inline(always)]` whose callees are marked so too: what is not inlined stays compiled for
    /// the baseline. Strict IEEE arithmetic gives the same bits either way.
    #[inline(always)]
    pub(crate) fn run<R>(self, body: impl FnOnce() -> R) -> R {
        match self.0 {
            Kind::Reference => body(),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(isa) => isa.run(body),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Vnni(isa) => isa.run(body),
            #[cfg(target_arch = "aarch64")]
            Kind::Neon(_) => body(),
            #[cfg(target_arch = "aarch64")]
            Kind::NeonDotprod(isa) => isa.run(body),
            #[cfg(target_arch = "aarch64")]
            Kind::NeonI8mm(isa) => isa.run(body),
        }
    }
}

impl fmt::Debug for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_available_isa_is_found_by_its_name() {
        for isa in Isa::available() {
            assert_eq!(Isa::by_name(isa.name()), Some(isa), "{isa:?}");
        }
        assert_eq!(Isa::by_name("mmx"), None, "unknown");
    }

    #[test]
    fn reference_is_always_available_and_first() {
        assert_eq!(Isa::available().next(), Some(Isa::reference()), "first");
    }

    #[test]
    fn a_body_gives_the_same_value_under_every_isa() {
        for isa in Isa::available() {
            let sum = isa.run(
                #[inline(always)]
                || (0..100_u32).sum::<u32>(),
            );
            assert_eq!(sum, 4950, "{isa:?}");
        }
    }
}
