//! The Program: a model's decode step as a flat list of operators over numbered tensors.
//!
//! A backbone is defined once, in Burn; its step is captured as a Program, which is all that a device ever sees of
//! it. The list is cut into [`Segment`]s at the exits, and ends with the head.
//!
//! ```text
//! tokens ─ Embed ─▶ residual ─ segment 0 ─▶ residual ─ segment 1 ─▶ … ─ Select ─ RmsNorm ─ Linear ─▶ logits
//!                                          └ exit 0                   └───────────── head ─────────────┘
//! ```
//!
//! Operators stand in this order: all segments, the head, then each exit's probe and head.
//!
//! This module holds plain data. What makes a Program sound (ids in range, widths that agree, operands written
//! before they are read) is checked by [`crate::check`], once, when a bundle is opened.

#[cfg(feature = "alloc")]
use alloc::vec::Vec;
use core::ops::Range;

use serde::{Deserialize, Serialize};

mod exit;
mod segment;

pub use exit::{Classifier, Exit, StateMode};
pub use segment::Segment;

/// Index of a tensor in the tensor table.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct TensorId(pub u16);

impl TensorId {
    /// The position in the tensor table.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// How the numbers of a tensor are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DType {
    /// 32-bit float.
    #[default]
    F32,
    /// 16-bit float.
    F16,
    /// 8-bit blocks of 32 weights with an f16 scale: 8.5 bits per weight.
    Q8,
    /// 4-bit blocks of 32 weights with an f16 scale: 4.5 bits per weight.
    Q4,
}

impl DType {
    /// The name used on the command line and in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Q8 => "q8",
            Self::Q4 => "q4",
        }
    }
}

/// How many rows a tensor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Rows {
    /// The same number in every plan: a weight, or a recurrent state.
    Fixed(u32),
    /// One row for each token of a chunk, at most `max_rows`.
    Many,
    /// One row for each position that can still be attended to. `window` is the sliding window in tokens, or 0 for
    /// the whole context.
    Cache {
        /// Sliding window in tokens; 0: none.
        window: u32,
    },
}

/// How a weight lies in its section. [`Tensor::stored_bytes`] is the size of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Layout {
    /// `[rows, width]` f32, row after row, nothing between: every vector, and what an operator reads as it lies.
    Plain,
    /// Panels of 16 output rows over blocks of 32 inputs, any dtype: [`Op::Linear`]'s weight and [`Op::Embed`]'s
    /// table.
    Tiled,
}

/// What a tensor is for, which decides where it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// Stored in the bundle, in this section, and mapped.
    Weight {
        /// Index in the section table.
        section: u16,
        /// How the section is laid out.
        layout: Layout,
    },
    /// Lives from the first token to the last; zero at the start of a sequence.
    State,
    /// Lives within a step, `[rows, width]` f32.
    Activation,
}

/// One entry of the tensor table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tensor {
    /// How the numbers are stored.
    pub dtype: DType,
    /// Number of rows.
    pub rows: Rows,
    /// Numbers in a row.
    pub width: u32,
    /// What it is for.
    pub kind: Kind,
}

impl Tensor {
    /// Fills storage before a Program is decoded into it; no checked Program holds it.
    pub const EMPTY: Self =
        Self { dtype: DType::F32, rows: Rows::Fixed(0), width: 0, kind: Kind::Activation };
}

impl Default for Tensor {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// A row is passed through [`Op::CausalConv`] as it is, or through `silu`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Activation {
    /// `y = x`.
    Identity,
    /// `y = x · sigmoid(x)`.
    Silu,
}

/// An operator. Every one reads activations `[rows, width]`, and writes one activation; some also update a state.
///
/// The order of the fields is operands, then `out`, then constants. [`Op::operands`] is the one list of what is read,
/// written and updated.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Op {
    /// `out[r] = table[token[r]]`.
    Embed {
        /// `[vocab_size, d_model]`, any dtype.
        table: TensorId,
        /// `[rows, d_model]`.
        out: TensorId,
    },
    /// `out = x / sqrt(mean(x²) + eps) ⊙ weight`, over groups of `group` neighbours.
    ///
    /// Source: Zhang & Sennrich 2019, equation 4. A weight shorter than the row repeats (query/key norm per head).
    RmsNorm {
        /// `[rows, width]`.
        x: TensorId,
        /// `[1, width]` or `[1, group]`, f32.
        weight: TensorId,
        /// `[rows, width]`.
        out: TensorId,
        /// Numbers normalised together; divides the width.
        group: u32,
        /// Added to the mean square.
        eps: f32,
    },
    /// `out = x · weightᵀ + bias`.
    Linear {
        /// `[rows, d_in]`.
        x: TensorId,
        /// `[d_out, d_in]`, any dtype.
        weight: TensorId,
        /// `[1, d_out]` f32.
        bias: Option<TensorId>,
        /// `[rows, d_out]`.
        out: TensorId,
    },
    /// `out = a + b`.
    Add {
        /// `[rows, width]`.
        a: TensorId,
        /// `[rows, width]`.
        b: TensorId,
        /// `[rows, width]`.
        out: TensorId,
    },
    /// `out = silu(gate) ⊙ up` (Shazeer 2020, "GLU variants improve transformer").
    SwiGlu {
        /// `[rows, width]`.
        gate: TensorId,
        /// `[rows, width]`.
        up: TensorId,
        /// `[rows, width]`.
        out: TensorId,
    },
    /// `out = x · sigmoid(x)`.
    Silu {
        /// `[rows, width]`.
        x: TensorId,
        /// `[rows, width]`.
        out: TensorId,
    },
    /// Cosines, then sines, of `position · inv_freq`: once per step, for every layer.
    RopeAngles {
        /// `[1, head_dim / 2]` f32.
        inv_freq: TensorId,
        /// `[rows, head_dim]`: cosines in the first half, sines in the second.
        out: TensorId,
    },
    /// Rotates each head of `x` by its position (Su et al. 2021), first half against second half.
    Rope {
        /// `[rows, n_heads · head_dim]`.
        x: TensorId,
        /// `[rows, head_dim]`, from [`Op::RopeAngles`].
        angles: TensorId,
        /// `[rows, n_heads · head_dim]`.
        out: TensorId,
        /// Width of a head.
        head_dim: u32,
    },
    /// Appends `k` and `v` to the caches, then `out = softmax(scale · q · Kᵀ) · V`, causal, grouped queries.
    Attention {
        /// `[rows, n_heads · head_dim]`.
        q: TensorId,
        /// `[rows, n_kv_heads · head_dim]`.
        k: TensorId,
        /// `[rows, n_kv_heads · head_dim]`.
        v: TensorId,
        /// `[cache, n_kv_heads · head_dim]` f32 or f16, updated.
        k_cache: TensorId,
        /// `[cache, n_kv_heads · head_dim]` f32 or f16, updated.
        v_cache: TensorId,
        /// `[rows, n_heads · head_dim]`.
        out: TensorId,
        /// Query heads.
        n_heads: u32,
        /// Key/value heads; divides `n_heads`.
        n_kv_heads: u32,
        /// Usually `1 / sqrt(head_dim)`.
        scale: f32,
    },
    /// Depthwise causal convolution along the sequence, then the activation.
    CausalConv {
        /// `[rows, channels]`.
        x: TensorId,
        /// `[d_conv, channels]` f32; the last row meets the newest token.
        weight: TensorId,
        /// `[1, channels]` f32.
        bias: Option<TensorId>,
        /// `[d_conv - 1, channels]` f32, the last inputs, oldest first; updated.
        state: TensorId,
        /// `[rows, channels]`.
        out: TensorId,
        /// Applied to the sum.
        activation: Activation,
    },
    /// Mamba's selective scan (Gu & Dao 2023, equation 2 with the discretisation of section 3.2):
    /// `h ← exp(Δ·a) ⊙ h + Δ·b·x`, `out = h·c + d ⊙ x`, `Δ = softplus(dt)`.
    SelectiveScan {
        /// `[rows, d_inner]`.
        x: TensorId,
        /// `[rows, d_inner]`, before the softplus.
        dt: TensorId,
        /// `[rows, 2 · d_state]`: `b`, then `c`.
        bc: TensorId,
        /// `[d_state, d_inner]` f32, negative: `-exp(A_log)`, transposed so that a lane is a channel.
        a: TensorId,
        /// `[1, d_inner]` f32.
        d: TensorId,
        /// `[d_state, d_inner]` f32, updated.
        state: TensorId,
        /// `[rows, d_inner]`.
        out: TensorId,
    },
    /// Mamba-2's recurrence (Dao & Gu 2024, section 3): as the selective scan with one `a` per head, and `b`, `c`
    /// shared by the heads of a group.
    StateSpaceDual {
        /// `[rows, d_inner + 2 · n_groups · d_state]`: `x`, then `b`, then `c`.
        xbc: TensorId,
        /// `[rows, n_heads]`, before bias and softplus.
        dt: TensorId,
        /// `[1, n_heads]` f32.
        dt_bias: TensorId,
        /// `[1, n_heads]` f32, negative: `-exp(A_log)`.
        a: TensorId,
        /// `[1, n_heads]` f32.
        d: TensorId,
        /// `[n_heads · d_state, head_dim]` f32, updated.
        state: TensorId,
        /// `[rows, d_inner]`, `d_inner = n_heads · head_dim`.
        out: TensorId,
        /// Heads.
        n_heads: u32,
        /// Groups that share `b` and `c`; divides `n_heads`.
        n_groups: u32,
        /// Numbers of state per channel.
        d_state: u32,
        /// `Δ` is clamped to this range.
        dt_min: f32,
        /// See `dt_min`; may be infinite.
        dt_max: f32,
    },
    /// `out = rms_norm(x ⊙ silu(gate))`, over groups of `group` neighbours (Mamba-2's norm before the projection).
    GatedRmsNorm {
        /// `[rows, width]`.
        x: TensorId,
        /// `[rows, width]`.
        gate: TensorId,
        /// `[1, width]` f32.
        weight: TensorId,
        /// `[rows, width]`.
        out: TensorId,
        /// Numbers normalised together; divides the width.
        group: u32,
        /// Added to the mean square.
        eps: f32,
    },
    /// `out = x[row]`, for the row whose logits are wanted.
    Select {
        /// `[rows, width]`.
        x: TensorId,
        /// `[1, width]`.
        out: TensorId,
    },
}

/// What an operator reads, writes and updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operands {
    /// Read: activations and weights.
    pub inputs: [Option<TensorId>; 5],
    /// Overwritten.
    pub output: TensorId,
    /// Read and written in place.
    pub states: [Option<TensorId>; 2],
}

impl Op {
    /// Fills storage before a Program is decoded into it.
    pub const EMPTY: Self = Self::Silu { x: TensorId(0), out: TensorId(0) };

    /// Lists what the operator reads, writes and updates.
    #[must_use]
    pub fn operands(&self) -> Operands {
        let of =
            |inputs: [Option<TensorId>; 5], output, states| Operands { inputs, output, states };
        let none = [None; 2];
        match *self {
            Self::Embed { table, out } => of([Some(table), None, None, None, None], out, none),
            Self::RmsNorm { x, weight, out, .. } => {
                of([Some(x), Some(weight), None, None, None], out, none)
            }
            Self::Linear { x, weight, bias, out } => {
                of([Some(x), Some(weight), bias, None, None], out, none)
            }
            Self::Add { a, b, out } => of([Some(a), Some(b), None, None, None], out, none),
            Self::SwiGlu { gate, up, out } => {
                of([Some(gate), Some(up), None, None, None], out, none)
            }
            Self::Silu { x, out } | Self::Select { x, out } => {
                of([Some(x), None, None, None, None], out, none)
            }
            Self::RopeAngles { inv_freq, out } => {
                of([Some(inv_freq), None, None, None, None], out, none)
            }
            Self::Rope { x, angles, out, .. } => {
                of([Some(x), Some(angles), None, None, None], out, none)
            }
            Self::Attention { q, k, v, k_cache, v_cache, out, .. } => {
                of([Some(q), Some(k), Some(v), None, None], out, [Some(k_cache), Some(v_cache)])
            }
            Self::CausalConv { x, weight, bias, state, out, .. } => {
                of([Some(x), Some(weight), bias, None, None], out, [Some(state), None])
            }
            Self::SelectiveScan { x, dt, bc, a, d, state, out } => {
                of([Some(x), Some(dt), Some(bc), Some(a), Some(d)], out, [Some(state), None])
            }
            Self::StateSpaceDual { xbc, dt, dt_bias, a, d, state, out, .. } => {
                of([Some(xbc), Some(dt), Some(dt_bias), Some(a), Some(d)], out, [Some(state), None])
            }
            Self::GatedRmsNorm { x, gate, weight, out, .. } => {
                of([Some(x), Some(gate), Some(weight), None, None], out, none)
            }
        }
    }

    /// The operator's name, the same in the Program, in the kernels and in Burn.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Embed { .. } => "embed",
            Self::RmsNorm { .. } => "rms_norm",
            Self::Linear { .. } => "linear",
            Self::Add { .. } => "add",
            Self::SwiGlu { .. } => "swiglu",
            Self::Silu { .. } => "silu",
            Self::RopeAngles { .. } => "rope_angles",
            Self::Rope { .. } => "rope",
            Self::Attention { .. } => "attention",
            Self::CausalConv { .. } => "causal_conv",
            Self::SelectiveScan { .. } => "selective_scan",
            Self::StateSpaceDual { .. } => "state_space_dual",
            Self::GatedRmsNorm { .. } => "gated_rms_norm",
            Self::Select { .. } => "select",
        }
    }
}

impl Default for Op {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// A Program, borrowed from wherever its lists were decoded to.
///
/// Operators behind the last segment and before the first exit are the head: they start with [`Op::Select`] on the
/// last residual, and end by writing `logits`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Program<'a> {
    /// The tensor table.
    pub tensors: &'a [Tensor],
    /// The operators, in order of execution.
    pub ops: &'a [Op],
    /// At least one segment; the first starts at operator 0, each starts where the one before ended.
    pub segments: &'a [Segment],
    /// Where tokens may leave, in the order of their segments; often none.
    pub exits: &'a [Exit],
    /// `[1, vocab_size]`, written by the last operator of the head.
    pub logits: TensorId,
}

impl<'a> Program<'a> {
    /// The entry of a tensor.
    ///
    /// # Panics
    ///
    /// Panics if the Program was not checked and the id is out of range.
    #[must_use]
    #[expect(clippy::indexing_slicing, reason = "ids of a checked Program are in range")]
    pub fn tensor(&self, id: TensorId) -> &'a Tensor {
        &self.tensors[id.index()]
    }

    /// The operators of the head.
    #[must_use]
    pub fn head(&self) -> Range<usize> {
        let start = self.segments.last().map_or(0, |segment| usize::from(segment.end_op));
        start..self.exits.first().map_or(self.ops.len(), |exit| usize::from(exit.first_op))
    }

    /// The exit at the end of a segment.
    #[must_use]
    pub fn exit_of(&self, segment: usize) -> Option<(usize, &'a Exit)> {
        self.exits.iter().enumerate().find(|(_, exit)| usize::from(exit.segment) == segment)
    }
}

/// A Program that owns its lists: what capture builds and the writer stores.
#[cfg(feature = "alloc")]
#[derive(Clone, Debug, PartialEq)]
pub struct ProgramBuf {
    /// See [`Program::tensors`].
    pub tensors: Vec<Tensor>,
    /// See [`Program::ops`].
    pub ops: Vec<Op>,
    /// See [`Program::segments`].
    pub segments: Vec<Segment>,
    /// See [`Program::exits`].
    pub exits: Vec<Exit>,
    /// See [`Program::logits`].
    pub logits: TensorId,
}

#[cfg(feature = "alloc")]
impl ProgramBuf {
    /// Borrows the lists.
    #[must_use]
    pub fn as_program(&self) -> Program<'_> {
        Program {
            tensors: &self.tensors,
            ops: &self.ops,
            segments: &self.segments,
            exits: &self.exits,
            logits: self.logits,
        }
    }
}
