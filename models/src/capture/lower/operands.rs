//! What an operator reads and updates: activations, weights, states, and the step's own inputs.

use burn::backend::ir::TensorIr;
use dynamax_bundle::{DType, Kind, Op, Rows, Tensor, TensorId};

use super::{Lowering, TOO_LARGE, What, Written, small};
use crate::capture::weights::{Role, matrix_shape};
use crate::capture::{CaptureError, Store, WeightSpec};

impl Lowering<'_> {
    /// An activation to read, from this part or the residual that leads into it.
    pub(in crate::capture) fn activation(
        &mut self,
        operator: &str,
        operand: &'static str,
        ir: &TensorIr,
    ) -> Result<TensorId, CaptureError> {
        let wrong =
            |expected| CaptureError::Operand { operator: operator.into(), operand, expected };
        let Some(&What::Activation(id)) = self.whats.get(&ir.id) else {
            return Err(wrong("the output of an operator"));
        };
        let tensor = &self.tensors[id.index()];
        if matrix_shape(ir.shape.as_slice()).1 != tensor.width as usize || ir.shape.num_dims() != 2
        {
            return Err(wrong("in the shape in which it was computed"));
        }
        self.reachable(operator, id)
    }

    /// `id`, or what takes its place behind an exit.
    fn reachable(&mut self, operator: &str, id: TensorId) -> Result<TensorId, CaptureError> {
        let part = self.parts;
        let Some(&Written { part: home, op }) = self.written.get(&id) else { return Ok(id) };
        if home == part || self.residual == Some(id) {
            return Ok(id);
        }
        let Op::RopeAngles { inv_freq, .. } = op else {
            let layer = self.segments.last().map_or(0, |last| usize::from(last.layers));
            return Err(CaptureError::CrossesExit { operator: operator.into(), layer });
        };
        // Rows wait at an exit until they go deeper, and other rows pass in the meantime: what depends on positions is
        // computed for the rows at hand.
        if let Some(&again) = self.repeated.get(&(part, id)) {
            return Ok(again);
        }
        let again = self.add(self.tensors[id.index()])?;
        self.push(Op::RopeAngles { inv_freq, out: again }, again)?;
        self.repeated.insert((part, id), again);
        Ok(again)
    }

    /// A weight to read.
    pub(in crate::capture) fn weight(
        &mut self,
        operator: &str,
        operand: &'static str,
        ir: &TensorIr,
        role: Role,
    ) -> Result<TensorId, CaptureError> {
        let wrong =
            |expected| CaptureError::Operand { operator: operator.into(), operand, expected };
        let id = match self.whats.get(&ir.id) {
            Some(What::Param(id)) => *id,
            None if role != Role::Matrix => ir.id,
            _ => return Err(wrong("a parameter of the module")),
        };
        if let Some(&(tensor, first)) = self.placed.get(&id) {
            let param = &self.weights[self.section(tensor)].param;
            if first != role {
                let (first, second) = (first.name(), role.name());
                return Err(CaptureError::TwoStores { param: param.clone(), first, second });
            }
            return Ok(tensor);
        }
        let used = ir.shape.as_slice();
        let (param, shape, store) =
            match (self.recording.params.get(&id), self.recording.values.get(&id)) {
                (Some((param, shape)), _) => (param.clone(), shape.clone(), role.store()),
                (None, Some(data)) => {
                    let numbers = data.iter::<f32>().map(|number| computed(role, number)).collect();
                    (format!("{operator}.{operand}"), used.to_vec(), Store::Computed(numbers))
                }
                (None, None) => {
                    return Err(wrong("a parameter of the module, or `Tensor::from_data`"));
                }
            };
        if matrix_shape(&shape) != matrix_shape(used) {
            return Err(CaptureError::Reshaped { param, found: shape, used: used.to_vec() });
        }
        let (rows, width) = matrix_shape(&shape);
        let section = u16::try_from(self.weights.len()).map_err(|_| TOO_LARGE)?;
        let dtype = match (role, self.options.quant) {
            (Role::Plain | Role::NegExp, _) => DType::F32,
            // An exit is small, and its answer is one number.
            (Role::Matrix, DType::Q4) if param.starts_with(EXITS) => DType::Q8,
            (Role::Matrix, quant) => quant,
        };
        let tensor = self.add(Tensor {
            dtype,
            rows: Rows::Fixed(small(rows)),
            width: small(width),
            kind: role.kind(section),
        })?;
        self.weights.push(WeightSpec { tensor, param, store, shape });
        self.placed.insert(id, (tensor, role));
        Ok(tensor)
    }

    fn section(&self, weight: TensorId) -> usize {
        match self.tensors[weight.index()].kind {
            Kind::Weight { section, .. } => usize::from(section),
            Kind::State | Kind::Activation => 0,
        }
    }

    /// A state to update: `ir` is what goes in, `updated` what comes out. `window` makes it a cache.
    pub(in crate::capture) fn state(
        &mut self,
        operator: &str,
        operand: &'static str,
        [ir, updated]: [&TensorIr; 2],
        window: Option<u32>,
    ) -> Result<TensorId, CaptureError> {
        let Some(&What::State(index)) = self.whats.get(&ir.id) else {
            let expected = "a state that was passed to the step, and is updated once";
            return Err(CaptureError::Operand { operator: operator.into(), operand, expected });
        };
        let (rows, width) = matrix_shape(ir.shape.as_slice());
        let (dtype, rows) = match window {
            Some(window) => (self.options.kv, Rows::Cache { window }),
            None => (DType::F32, Rows::Fixed(small(rows))),
        };
        let tensor = self.add(Tensor { dtype, rows, width: small(width), kind: Kind::State })?;
        // Whoever reads either of the two again is not talking about a state any more.
        self.whats.remove(&ir.id);
        self.whats.insert(updated.id, What::Updated(index));
        Ok(tensor)
    }

    /// Refuses anything but the step's tokens.
    pub(in crate::capture) fn expect_tokens(
        &self,
        operator: &str,
        ir: &TensorIr,
    ) -> Result<(), CaptureError> {
        match self.whats.get(&ir.id) {
            Some(What::Tokens) => Ok(()),
            _ => {
                let expected = "the step's own tokens";
                Err(CaptureError::Operand {
                    operator: operator.into(),
                    operand: "tokens",
                    expected,
                })
            }
        }
    }

    /// Refuses anything but the step's position.
    pub(in crate::capture) fn expect_position(
        &self,
        operator: &str,
        ir: &TensorIr,
    ) -> Result<(), CaptureError> {
        match self.whats.get(&ir.id) {
            Some(What::Position) => Ok(()),
            _ => {
                let expected = "the step's own position";
                Err(CaptureError::Operand {
                    operator: operator.into(),
                    operand: "position",
                    expected,
                })
            }
        }
    }
}

/// Where the parameters of exits are.
const EXITS: &str = "exits.";

/// A number of a constant as the operator reads it.
fn computed(role: Role, number: f32) -> f32 {
    // Through f64, as for parameters.
    if role == Role::NegExp { -f64::from(number).exp() as f32 } else { number }
}
