//! Capture: from a backbone's step to the Program that devices run.
//!
//! The step runs once on Burn's capture device, which computes nothing and records the operators it was asked for.
//! The recording is then lowered, one operator at a time:
//!
//! | recorded | becomes |
//! |---|---|
//! | an operator of [`dynamax_burn::ops`], `+` | the operator of the same name |
//! | a parameter of the module | a weight, with the parameter's path, however often it is used |
//! | a constant in a plain operand (`inv_freq`) | a weight, with its numbers |
//! | a state that went in and came out | one state, updated in place |
//! | `reshape` that keeps the rows | nothing |
//! | anything else | [`CaptureError`], which says what to use instead |
//!
//! No weight is read, so that a model of any size is captured in milliseconds.

mod decode;
mod error;
mod lower;
mod record;
mod weights;

use burn::module::Module;
use burn::tensor::Device;
use dynamax_bundle::{DType, ProgramBuf};

pub use error::CaptureError;
pub use weights::{Store, WeightSpec};

use crate::step::Step;

/// What may be chosen about a Program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureOptions {
    /// How matrices are stored.
    pub quant: DType,
    /// How caches of attention are stored: [`DType::F32`] or [`DType::F16`].
    pub kv: DType,
    /// Layers after which an exit may look at the residual stream, ascending; the end is always one.
    pub exits: Vec<usize>,
}

impl Default for CaptureOptions {
    fn default() -> Self {
        Self { quant: DType::F32, kv: DType::F32, exits: Vec::new() }
    }
}

/// A captured step.
#[derive(Clone, Debug, PartialEq)]
pub struct Captured {
    /// The Program. The section of a weight is its index in `weights`.
    pub program: ProgramBuf,
    /// Where the weights' numbers come from.
    pub weights: Vec<WeightSpec>,
}

/// Captures the step of the model that `init` makes on the device it is given.
///
/// A model that is initialised there, lazily as Burn's modules are, takes no memory for its weights. One that is moved
/// there takes its size once more.
///
/// # Errors
///
/// The first thing that no device could run.
pub fn capture<M: Step + Module>(
    init: impl FnOnce(&Device) -> M,
    options: &CaptureOptions,
) -> Result<Captured, CaptureError> {
    lower::lower(&record::record(init)?, options)
}
