//! `NdArray`, Burn's former CPU backend: a second reference.
#![expect(deprecated, reason = "its last release is the one that is pinned")]

use std::borrow::Cow;

use burn::backend::NdArray;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::TensorData;
use burn_ndarray::NdArrayTensor;

use super::*;

impl Host for NdArray {
    fn floats(tensor: &FloatTensor<Self>) -> Cow<'_, [f32]> {
        match tensor {
            NdArrayTensor::F32(storage) => {
                let view = storage.view();
                // The view cannot lend its numbers beyond itself, so they are copied.
                Cow::Owned(view.iter().copied().collect())
            }
            NdArrayTensor::F64(storage) => {
                Cow::Owned(storage.view().iter().map(|&number| number as f32).collect())
            }
            other => panic!("operators read floats, not {other:?}"),
        }
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
