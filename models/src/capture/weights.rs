//! The weights of a captured Program.

use dynamax_bundle::{Kind, Layout, TensorId};

/// Where the numbers of a weight come from, and how they are stored.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightSpec {
    /// The weight in the Program.
    pub tensor: TensorId,
    /// Path of the parameter in the module, such as `layers.0.attention.q.weight`; of a computed weight, a name.
    pub param: String,
    /// What is done to the numbers.
    pub store: Store,
    /// Shape of the parameter.
    pub shape: Vec<usize>,
}

/// What is done to the numbers of a weight before they are stored.
#[derive(Clone, Debug, PartialEq)]
pub enum Store {
    /// Quantized and tiled.
    Matrix,
    /// Stored as it is, f32.
    Plain,
    /// Stored as `-exp` of the parameter, f32: `a` of the state-space operators.
    NegExp,
    /// No parameter: these numbers, f32, row-major.
    Computed(Vec<f32>),
}

impl WeightSpec {
    /// True if the numbers are a parameter's.
    #[must_use]
    pub fn is_trained(&self) -> bool {
        !matches!(self.store, Store::Computed(_))
    }

    /// How many numbers.
    #[must_use]
    pub fn numbers(&self) -> u64 {
        self.shape.iter().map(|&size| size as u64).product()
    }

    /// Rows and columns; a vector is one row.
    #[must_use]
    pub fn matrix_shape(&self) -> (usize, usize) {
        matrix_shape(&self.shape)
    }
}

/// Rows and columns; a vector is one row.
pub(super) fn matrix_shape(shape: &[usize]) -> (usize, usize) {
    shape.split_last().map_or((1, 1), |(&columns, rows)| (rows.iter().product(), columns))
}

/// What an operator does with a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Matrix,
    Plain,
    NegExp,
}

impl Role {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Matrix => "a matrix",
            Self::Plain => "a plain weight",
            Self::NegExp => "the logarithm of a decay",
        }
    }

    pub(super) fn store(self) -> Store {
        match self {
            Self::Matrix => Store::Matrix,
            Self::Plain => Store::Plain,
            Self::NegExp => Store::NegExp,
        }
    }

    pub(super) fn kind(self, section: u16) -> Kind {
        let layout = if self == Self::Matrix { Layout::Tiled } else { Layout::Plain };
        Kind::Weight { section, layout }
    }
}
