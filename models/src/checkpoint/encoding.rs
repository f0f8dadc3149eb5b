//! How the numbers of a checkpoint's tensors are written.
//!
//! | encoding | numbers in a block | bytes of it | a number |
//! |---|---|---|---|
//! | F32, F16, BF16 | 1 | 4, 2, 2 | itself |
//! | `Q4_0`, `Q5_0`, `Q8_0` | 32 | 18, 22, 34 | scale · integer |
//! | `Q4_1`, `Q5_1` | 32 | 20, 24 | scale · integer + least |
//! | `Q4_K`, `Q5_K` | 256 | 144, 176 | scale · integer − offset; both for 32 numbers, of 6 bits times an f16 |
//! | `Q6_K` | 256 | 210 | scale · integer; for 16 numbers, of 8 bits times an f16 |
//!
//! Those with blocks are llama.cpp's. `Q4_0`, `Q5_0` and `Q8_0` hold what our q4 and q8 can hold, and are carried over without
//! rounding; the others are rounded once more.

mod blocks;

use std::fmt;

use dynamax_bundle::DType;
use half::{bf16, f16};
use safetensors::Dtype;

/// How the numbers of a tensor are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Encoding {
    /// IEEE binary32.
    F32,
    /// IEEE binary16.
    F16,
    /// The upper half of an F32.
    Bf16,
    /// 4 bits, one scale for 32.
    Q4_0,
    /// 4 bits, one scale and one least number for 32.
    Q4_1,
    /// 5 bits, one scale for 32.
    Q5_0,
    /// 5 bits, one scale and one least number for 32.
    Q5_1,
    /// 8 bits, one scale for 32.
    Q8_0,
    /// 4 bits, scales of 6 bits for 32, two f16 for 256.
    Q4K,
    /// 5 bits, scales of 6 bits for 32, two f16 for 256.
    Q5K,
    /// 6 bits, scales of 8 bits for 16, one f16 for 256.
    Q6K,
}

/// Name and number in GGUF of each encoding that is read.
const NAMES: [(Encoding, u32, &str); 11] = [
    (Encoding::F32, 0, "F32"),
    (Encoding::F16, 1, "F16"),
    (Encoding::Bf16, 30, "BF16"),
    (Encoding::Q4_0, 2, "Q4_0"),
    (Encoding::Q4_1, 3, "Q4_1"),
    (Encoding::Q5_0, 6, "Q5_0"),
    (Encoding::Q5_1, 7, "Q5_1"),
    (Encoding::Q8_0, 8, "Q8_0"),
    (Encoding::Q4K, 12, "Q4_K"),
    (Encoding::Q5K, 13, "Q5_K"),
    (Encoding::Q6K, 14, "Q6_K"),
];

/// Names of some that are not, for a sentence.
const OTHERS: [(u32, &str); 12] = [
    (10, "Q2_K"),
    (11, "Q3_K"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (39, "MXFP4"),
];

impl Encoding {
    /// The encoding that GGUF gives a number.
    pub(crate) fn of_gguf(number: u32) -> Result<Self, String> {
        if let Some((encoding, _, _)) = NAMES.iter().find(|(_, known, _)| *known == number) {
            return Ok(*encoding);
        }
        let other = OTHERS.iter().find(|(known, _)| *known == number).map(|(_, name)| *name);
        let found = other.map_or_else(|| format!("type {number}"), Into::into);
        let known: Vec<_> = NAMES.iter().map(|(_, _, name)| *name).collect();
        Err(format!("{found} cannot be read, only {} can: take such a file", known.join(", ")))
    }

    /// The encoding of a tensor in safetensors, if it is one of those that are read.
    pub(super) fn of_safetensors(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F32 => Some(Self::F32),
            Dtype::F16 => Some(Self::F16),
            Dtype::BF16 => Some(Self::Bf16),
            _ => None,
        }
    }

    /// Numbers in a block.
    pub(crate) const fn block_numbers(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Bytes of a block.
    pub(crate) const fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    /// The stored type that holds what this does, or comes close.
    #[must_use]
    pub fn closest(self) -> DType {
        match self {
            // No f16 has the range of a BF16.
            Self::F32 | Self::Bf16 => DType::F32,
            Self::F16 => DType::F16,
            Self::Q5_0 | Self::Q5_1 | Self::Q8_0 | Self::Q5K | Self::Q6K => DType::Q8,
            Self::Q4_0 | Self::Q4_1 | Self::Q4K => DType::Q4,
        }
    }

    /// Blocks of this become blocks of `dtype` without rounding.
    #[must_use]
    pub fn is_carried_as(self, dtype: DType) -> bool {
        match dtype {
            DType::Q4 => self == Self::Q4_0,
            DType::Q8 => matches!(self, Self::Q4_0 | Self::Q5_0 | Self::Q8_0),
            DType::F16 | DType::F32 => false,
        }
    }

    /// Appends blocks as blocks of `dtype`, which [`is_carried_as`](Self::is_carried_as) allows.
    pub(super) fn carry(self, dtype: DType, bytes: &[u8], out: &mut Vec<u8>) {
        match (self, dtype) {
            (Self::Q4_0, DType::Q4) | (Self::Q8_0, _) => out.extend_from_slice(bytes),
            (Self::Q4_0, _) => blocks::widen_q4(bytes, out),
            _ => blocks::widen_q5(bytes, out),
        }
    }

    /// Appends the numbers that `bytes`, whole blocks, stand for.
    pub(crate) fn decode(self, bytes: &[u8], out: &mut Vec<f32>) {
        match self {
            Self::F32 => {
                out.extend(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)));
            }
            Self::F16 => {
                out.extend(
                    bytes.as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()),
                );
            }
            Self::Bf16 => {
                out.extend(
                    bytes.as_chunks::<2>().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()),
                );
            }
            Self::Q4_0 => bytes.as_chunks().0.iter().for_each(|block| blocks::q4_0(block, out)),
            Self::Q4_1 => bytes.as_chunks().0.iter().for_each(|block| blocks::q4_1(block, out)),
            Self::Q5_0 => bytes.as_chunks().0.iter().for_each(|block| blocks::q5_0(block, out)),
            Self::Q5_1 => bytes.as_chunks().0.iter().for_each(|block| blocks::q5_1(block, out)),
            Self::Q8_0 => bytes.as_chunks().0.iter().for_each(|block| blocks::q8_0(block, out)),
            Self::Q4K => bytes.as_chunks().0.iter().for_each(|block| blocks::q4_k(block, out)),
            Self::Q5K => bytes.as_chunks().0.iter().for_each(|block| blocks::q5_k(block, out)),
            Self::Q6K => bytes.as_chunks().0.iter().for_each(|block| blocks::q6_k(block, out)),
        }
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(encoding, _, _)| encoding == self);
        f.write_str(name.map_or("", |(_, _, name)| name))
    }
}
