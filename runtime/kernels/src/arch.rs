//! One module per instruction set, named like the token in it.
//!
//! A token is built only by its `new`, which asks the machine; so a method of it may use the instructions.

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
