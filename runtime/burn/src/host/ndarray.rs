//! `NdArray`, Burn's former CPU backend: a second reference.
#![expect(deprecated, reason = "its last release is the one that is pinned")]

use std::borrow::Cow;

use burn::backend::NdArray;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::TensorData;
use burn_ndarray::NdArrayTensor;

use super::*;
use crate::stored::MatrixShape;

/// The numbers of a storage, in row-major order; where they lie, if nobody else has them. A macro, because the types are
/// not named outside their crates.
macro_rules! numbers {
    ($storage:expr) => {{
        let array = $storage.into_owned();
        let (len, in_order) = (array.len(), array.is_standard_layout());
        match array.try_into_owned_nocopy() {
            Ok(array) if in_order => {
                let (mut numbers, start) = array.into_raw_vec_and_offset();
                numbers.drain(..start.unwrap_or(0));
                numbers.truncate(len);
                numbers
            }
            Ok(array) => array.iter().copied().collect(),
            Err(array) => array.iter().copied().collect(),
        }
    }};
}

impl Host for NdArray {
    fn floats(tensor: &FloatTensor<Self>) -> Cow<'_, [f32]> {
        match tensor {
            NdArrayTensor::F32(storage) => {
                let view = storage.view();
                view.to_slice()
                    .map_or_else(|| Cow::Owned(view.iter().copied().collect()), Cow::Borrowed)
            }
            NdArrayTensor::F64(storage) => {
                Cow::Owned(storage.view().iter().map(|&number| number as f32).collect())
            }
            other => panic!("operators read floats, not {other:?}"),
        }
    }

    fn into_floats(tensor: FloatTensor<Self>) -> Vec<f32> {
        match tensor {
            NdArrayTensor::F32(storage) => numbers!(storage),
            other => Self::floats(&other).into_owned(),
        }
    }

    fn bytes(tensor: &IntTensor<Self>) -> &[u8] {
        let NdArrayTensor::U8(storage) = tensor else { panic!("bytes are not {tensor:?}") };
        storage.view().to_slice().unwrap_or_else(|| panic!("bytes lie in a row"))
    }

    fn into_halves(tensor: IntTensor<Self>) -> Vec<u16> {
        match tensor {
            NdArrayTensor::U16(storage) => numbers!(storage),
            other => panic!("a cache of halves holds u16, not {other:?}"),
        }
    }

    fn halves(numbers: Vec<u16>, shape: [usize; 2]) -> IntTensor<Self> {
        NdArrayTensor::from_data(TensorData::new(numbers, shape))
    }

    fn integers(tensor: IntTensor<Self>) -> Vec<i64> {
        match tensor {
            NdArrayTensor::I64(storage) => storage.view().iter().copied().collect(),
            NdArrayTensor::I32(storage) => storage.view().iter().copied().map(i64::from).collect(),
            NdArrayTensor::U32(storage) => storage.view().iter().copied().map(i64::from).collect(),
            other => panic!("operators read integers of 32 or 64 bits, not {other:?}"),
        }
    }

    fn tensor(numbers: Vec<f32>, shape: [usize; 2]) -> FloatTensor<Self> {
        NdArrayTensor::from_data(TensorData::new(numbers, shape))
    }
}

implement_operators!(NdArray);
implement_stored!(NdArray);
