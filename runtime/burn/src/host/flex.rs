//! Flex, Burn's CPU backend.

use std::borrow::Cow;

use burn::backend::Flex;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::TensorData;
use burn_flex::FlexTensor;

use super::*;
use crate::stored::MatrixShape;

impl Host for Flex {
    fn floats(tensor: &FloatTensor<Self>) -> Cow<'_, [f32]> {
        tensor.as_slice::<f32>().map_or_else(
            || Cow::Owned(tensor.clone().into_data().iter::<f32>().collect()),
            Cow::Borrowed,
        )
    }

    fn into_floats(tensor: FloatTensor<Self>) -> Vec<f32> {
        let numbers = tensor.into_data().try_into_vec();
        numbers.unwrap_or_else(|error| panic!("operators read f32: {error:?}"))
    }

    fn bytes(tensor: &IntTensor<Self>) -> &[u8] {
        tensor.storage()
    }

    fn into_halves(tensor: IntTensor<Self>) -> Vec<u16> {
        let numbers = tensor.into_data().try_into_vec();
        numbers.unwrap_or_else(|error| panic!("a cache of halves holds u16: {error:?}"))
    }

    fn halves(numbers: Vec<u16>, shape: [usize; 2]) -> IntTensor<Self> {
        FlexTensor::from_data(TensorData::new(numbers, shape))
    }

    fn integers(tensor: IntTensor<Self>) -> Vec<i64> {
        tensor.into_data().iter::<i64>().collect()
    }

    fn tensor(numbers: Vec<f32>, shape: [usize; 2]) -> FloatTensor<Self> {
        FlexTensor::from_data(TensorData::new(numbers, shape))
    }
}

implement_operators!(Flex);
implement_stored!(Flex);
