//! The Program, the tensor table and the bundle container.
//!
//! A bundle (`.dmx`) is one file that holds all a device needs to run a model: metadata, the [`Program`], and the
//! weights as the kernels read them, each under its own hash. `docs/FORMAT.md` has every byte.
//!
//! A bundle is untrusted input, and is checked once, in three steps that cost different amounts:
//!
//! | step | reads | proves |
//! |---|---|---|
//! | [`Bundle::parse`] | the header | lengths, offsets, sizes and the header's hash are right |
//! | [`Bundle::read_program`] | the header | the Program is sound ([`check`]): its step cannot fail |
//! | [`Bundle::verify`] | everything | every section holds the bytes that the header promised |
//!
//! Who vouches for a bundle is behind its last byte ([`Signature`]); checking that takes the feature `signature`.
//!
//! Nothing here copies a weight, and nothing allocates without the feature `alloc`, which adds [`ProgramBuf`] and
//! the writer. Nothing here runs a Program either.
#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::panic,
        clippy::unwrap_used,
        clippy::expect_used
    )
)]

#[cfg(feature = "alloc")]
extern crate alloc;

mod calibration;
pub mod check;
mod error;
mod hash;
mod header;
mod meta;
mod prelude;
pub mod program;
mod section;
mod signature;
mod stored;
mod verify;
mod view;
#[cfg(feature = "alloc")]
mod writer;

pub use calibration::{Calibration, Certificate, Point, Unit};
pub use check::{MAX_EXITS, OpAt, ProgramError};
pub use error::BundleError;
pub use hash::{Hash, Hasher};
pub use header::Counts;
#[cfg(feature = "alloc")]
pub use meta::MetaBuf;
pub use meta::{Meta, TokenIds};
pub use prelude::{FORMAT_VERSION, MAGIC, PRELUDE_BYTES};
#[cfg(feature = "alloc")]
pub use program::ProgramBuf;
pub use program::{
    Activation, Classifier, DType, Exit, Kind, Layout, Op, Operands, Program, Rows, Segment,
    StateMode, Tensor, TensorId,
};
pub use section::{Section, SectionKind, Sections};
pub use signature::{KeyId, SIGNATURE_BYTES, SIGNATURE_MAGIC, Signature};
#[cfg(feature = "signature")]
pub use signature::{PublicKey, SecretKey, TrustError, check_trust};
pub use stored::{ALIGN_BYTES, BLOCK_INPUTS, PANEL_ROWS, panel_bytes};
pub use view::Bundle;
#[cfg(feature = "alloc")]
pub use writer::{SectionSpec, Writer};
