//! Flex, Burn's CPU backend.

use std::borrow::Cow;

use burn::backend::Flex;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::TensorData;
use burn_flex::FlexTensor;

use super::*;

impl Host for Flex {
    fn floats(tensor: &FloatTensor<Self>) -> Cow<'_, [f32]> {
        tensor.as_slice::<f32>().map_or_else(
            || Cow::Owned(tensor.clone().into_data().iter::<f32>().collect()),
            Cow::Borrowed,
        )
    }

    fn integers(tensor: IntTensor<Self>) -> Vec<i64> {
        tensor.into_data().iter::<i64>().collect()
    }

    fn tensor(numbers: Vec<f32>, shape: [usize; 2]) -> FloatTensor<Self> {
        FlexTensor::from_data(TensorData::new(numbers, shape))
    }
}

implement_operators!(Flex);
