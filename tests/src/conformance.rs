//! Every operator of a model on a device, one by one, against the reference kernels: what it reads is read back from the
//! device, so that no difference is carried from one operator to the next.

use std::collections::HashMap;

use dynamax_bundle::{Activation, DType, Kind, Op, Rows as RowCount, TensorId};
use dynamax_engine::{Device, Job, Model, memory};
use dynamax_kernels::ops::{
    Attention, CacheMut, CausalConv, ConvActivation, SelectiveScan, SsdShape, StateSpaceDual,
};
use dynamax_kernels::view::{ColumnsMut, Rows};
use dynamax_kernels::{Input, Isa, Matrix, QuantizedRows};

/// Rows of an activation, side by side without padding.
struct Numbers {
    width: usize,
    numbers: Vec<f32>,
}

impl Numbers {
    fn rows(&self) -> Rows<'_> {
        Rows::new(&self.numbers, self.numbers.len() / self.width, self.width, self.width)
    }
}

/// The states, as the reference has them.
#[derive(Default)]
struct States {
    floats: HashMap<TensorId, Vec<f32>>,
    halves: HashMap<TensorId, Vec<u16>>,
}

/// What is to run, and with what.
struct Case<'a> {
    device: &'a dyn Device,
    job: Job<'a>,
}

/// Runs all operators over some chunks, and shows the name of each, what the reference makes of its operands, and what the
/// device did.
pub fn each_operator(
    model: Model<'_>,
    device: &dyn Device,
    chunks: &[&[u32]],
    mut check: impl FnMut(&str, &[f32], &[f32]),
) {
    let mut states = States::default();
    let mut position = 0;
    device.reset();
    for tokens in chunks {
        let rows = tokens.len();
        let selected = rows - 1..rows;
        let (shifted, stream, log, cache_position) = (None, None, None, position);
        let job =
            Job { model, tokens, rows, position, cache_position, selected, shifted, stream, log };
        let case = Case { device, job };
        for step in 0..model.program().ops.len() {
            let expected = case.expected(step, &mut states);
            device.run(&case.job, step..step + 1);
            let found = case.read(case.job.op(step).operands().output);
            check(case.job.op(step).name(), &expected, &found.numbers);
        }
        position += rows as u32;
    }
}

impl Case<'_> {
    fn read(&self, id: TensorId) -> Numbers {
        let width = self.job.model.program().tensor(id).width as usize;
        let mut numbers = vec![0.0; self.job.rows(id) * width];
        for (row, out) in numbers.chunks_exact_mut(width).enumerate() {
            self.device.read(id, row, out);
        }
        Numbers { width, numbers }
    }

    fn weight(&self, id: TensorId) -> Numbers {
        let width = self.job.model.program().tensor(id).width as usize;
        let words = self.job.model.weight(id).as_chunks().0;
        Numbers { width, numbers: words.iter().map(|word| f32::from_le_bytes(*word)).collect() }
    }

    fn matrix(&self, id: TensorId) -> Matrix<'_> {
        let (model, tensor) = (&self.job.model, self.job.model.program().tensor(id));
        let (rows, width) = (model.rows_of(id), tensor.width as usize);
        Matrix::new(memory::format(tensor.dtype), rows, width, model.weight(id)).expect("checked")
    }

    /// What the reference makes of operator `step`; updates its states.
    fn expected(&self, step: usize, states: &mut States) -> Vec<f32> {
        match *self.job.op(step) {
            Op::Embed { table, out } => {
                let width = self.job.model.program().tensor(out).width as usize;
                let mut rows = vec![0.0; self.job.tokens.len() * width];
                for (token, out) in self.job.tokens.iter().zip(rows.chunks_exact_mut(width)) {
                    self.matrix(table).row_into(*token as usize, out);
                }
                rows
            }
            Op::Linear { .. } => self.linear(step),
            Op::Attention { .. } => self.attention(step, states),
            Op::CausalConv { .. } => self.conv(step, states),
            Op::SelectiveScan { .. } => self.scan(step, states),
            Op::StateSpaceDual { .. } => self.dual(step, states),
            Op::Select { x, .. } => {
                let x = self.read(x);
                self.job.selected.clone().flat_map(|row| x.rows().row(row).to_vec()).collect()
            }
            _ => self.rowwise(step),
        }
    }

    fn rowwise(&self, step: usize) -> Vec<f32> {
        let (isa, op) = (Isa::reference(), *self.job.op(step));
        let operands = op.operands();
        let program = self.job.model.program();
        let is_activation = |id: &TensorId| program.tensor(*id).kind == Kind::Activation;
        let inputs = operands.inputs.into_iter().flatten();
        let read: Vec<Numbers> = inputs.filter(is_activation).map(|id| self.read(id)).collect();
        let width = program.tensor(operands.output).width as usize;
        let mut rows = vec![0.0; self.job.rows(operands.output) * width];
        for (row, out) in rows.chunks_exact_mut(width).enumerate() {
            let x = |index: usize| read[index].rows().row(row);
            match op {
                Op::RmsNorm { weight, group, eps, .. } => {
                    let weight = self.weight(weight).numbers;
                    isa.rms_norm(x(0), &weight, group as usize, eps, out);
                }
                Op::GatedRmsNorm { weight, group, eps, .. } => {
                    let weight = self.weight(weight).numbers;
                    isa.gated_rms_norm(x(0), x(1), &weight, group as usize, eps, out);
                }
                Op::Add { .. } => isa.add(x(0), x(1), out),
                Op::SwiGlu { .. } => isa.swiglu(x(0), x(1), out),
                Op::Silu { .. } => isa.silu(x(0), out),
                Op::Rope { .. } => isa.rope(x(0), x(1), out),
                Op::RopeAngles { inv_freq, .. } => {
                    let frequencies = self.weight(inv_freq).numbers;
                    isa.rope_angles(&frequencies, self.job.position + row as u32, out);
                }
                _ => unreachable!("has a state or a packed weight"),
            }
        }
        rows
    }

    fn linear(&self, step: usize) -> Vec<f32> {
        let Op::Linear { x, weight, bias, .. } = *self.job.op(step) else { return Vec::new() };
        let (isa, x, matrix) = (Isa::reference(), self.read(x), self.matrix(weight));
        let len = x.rows().len();
        let row_words = QuantizedRows::row_bytes(x.width) / 4;
        let mut words = vec![0_u32; len * row_words];
        for (row, words) in words.chunks_exact_mut(row_words).enumerate() {
            isa.quantize_row(x.rows().row(row), bytemuck::cast_slice_mut(words));
        }
        let input = if matrix.format().is_quantized() {
            Input::Quantized(QuantizedRows::new(bytemuck::cast_slice(&words), len, x.width))
        } else {
            Input::F32(x.rows())
        };
        let bias = bias.map(|bias| self.weight(bias).numbers);
        let mut out = vec![0.0; len * matrix.d_out()];
        let mut columns = ColumnsMut::new(&mut out, len, matrix.d_out(), matrix.d_out());
        isa.linear(matrix, input, bias.as_deref(), 0..matrix.panels(), &mut columns);
        out
    }

    fn attention(&self, step: usize, states: &mut States) -> Vec<f32> {
        let Op::Attention { q, k, v, k_cache, v_cache, n_heads, n_kv_heads, scale, .. } =
            *self.job.op(step)
        else {
            return Vec::new();
        };
        let tensor = self.job.model.program().tensor(k_cache);
        let RowCount::Cache { window } = tensor.rows else { return Vec::new() };
        let (n_heads, n_kv_heads) = (n_heads as usize, n_kv_heads as usize);
        let (q, k, v) = (self.read(q), self.read(k), self.read(v));
        let position = self.job.cache_position;
        let (q, k, v) = (q.rows(), k.rows(), v.rows());
        let op = Attention { q, k, v, position, window, n_heads, n_kv_heads, scale };
        let capacity = self.job.model.rows_of(k_cache);
        let len = capacity * tensor.width as usize;
        let mut out = vec![0.0; q.len() * q.width()];
        let mut columns = ColumnsMut::new(&mut out, q.len(), q.width(), q.width());
        let mut run = |keys: CacheMut<'_>, values: CacheMut<'_>| {
            Isa::reference().attention(&op, 0..n_kv_heads, capacity, keys, values, &mut columns);
        };
        if tensor.dtype == DType::F16 {
            let [mut keys, mut values] = [k_cache, v_cache]
                .map(|id| states.halves.remove(&id).unwrap_or_else(|| vec![0; len]));
            run(CacheMut::F16(&mut keys), CacheMut::F16(&mut values));
            states.halves.extend([(k_cache, keys), (v_cache, values)]);
        } else {
            let [mut keys, mut values] = [k_cache, v_cache].map(|id| states.take(id, len));
            run(CacheMut::F32(&mut keys), CacheMut::F32(&mut values));
            states.floats.extend([(k_cache, keys), (v_cache, values)]);
        }
        out
    }

    fn conv(&self, step: usize, states: &mut States) -> Vec<f32> {
        let Op::CausalConv { x, weight, bias, state, activation, .. } = *self.job.op(step) else {
            return Vec::new();
        };
        let (x, weight) = (self.read(x), self.weight(weight));
        let bias = bias.map(|bias| self.weight(bias).numbers);
        let activation = match activation {
            Activation::Identity => ConvActivation::Identity,
            Activation::Silu => ConvActivation::Silu,
        };
        let (rows, width) = (x.rows().len(), x.width);
        let kept = weight.rows().len() - 1;
        let (mut held, mut out) = (states.take(state, kept * width), vec![0.0; rows * width]);
        let conv =
            CausalConv { x: x.rows(), weight: weight.rows(), bias: bias.as_deref(), activation };
        Isa::reference().causal_conv(
            &conv,
            &mut ColumnsMut::new(&mut held, kept, width, width),
            &mut ColumnsMut::new(&mut out, rows, width, width),
        );
        states.floats.insert(state, held);
        out
    }

    fn scan(&self, step: usize, states: &mut States) -> Vec<f32> {
        let Op::SelectiveScan { x, dt, bc, a, d, state, .. } = *self.job.op(step) else {
            return Vec::new();
        };
        let (x, dt, bc) = (self.read(x), self.read(dt), self.read(bc));
        let (a, d) = (self.weight(a), self.weight(d));
        let (rows, width, d_state) = (x.rows().len(), x.width, a.rows().len());
        let (mut held, mut out) = (states.take(state, d_state * width), vec![0.0; rows * width]);
        let (x, dt, bc, a) = (x.rows(), dt.rows(), bc.rows(), a.rows());
        Isa::reference().selective_scan(
            &SelectiveScan { x, dt, bc, a, d: &d.numbers },
            &mut ColumnsMut::new(&mut held, d_state, width, width),
            &mut ColumnsMut::new(&mut out, rows, width, width),
        );
        states.floats.insert(state, held);
        out
    }

    fn dual(&self, step: usize, states: &mut States) -> Vec<f32> {
        let Op::StateSpaceDual {
            xbc,
            dt,
            dt_bias,
            a,
            d,
            state,
            out,
            n_heads,
            n_groups,
            d_state,
            dt_min,
            dt_max,
        } = *self.job.op(step)
        else {
            return Vec::new();
        };
        let [n_heads, n_groups, d_state] = [n_heads, n_groups, d_state].map(|n| n as usize);
        let width = self.job.model.program().tensor(out).width as usize;
        let head_dim = width / n_heads;
        let (xbc, dt) = (self.read(xbc), self.read(dt));
        let [dt_bias, a, d] = [dt_bias, a, d].map(|id| self.weight(id).numbers);
        let scan = StateSpaceDual {
            xbc: xbc.rows(),
            dt: dt.rows(),
            dt_bias: &dt_bias,
            a: &a,
            d: &d,
            shape: SsdShape { n_heads, n_groups, d_state, head_dim, dt_min, dt_max },
        };
        let rows = xbc.rows().len();
        let len = n_heads * d_state;
        let (mut held, mut out) = (states.take(state, len * head_dim), vec![0.0; rows * width]);
        Isa::reference().state_space_dual(
            &scan,
            0..n_heads,
            &mut ColumnsMut::new(&mut held, len, head_dim, head_dim),
            &mut ColumnsMut::new(&mut out, rows, width, width),
        );
        states.floats.insert(state, held);
        out
    }
}

impl States {
    /// A state of so many numbers; zeros at first.
    fn take(&mut self, id: TensorId, len: usize) -> Vec<f32> {
        self.floats.remove(&id).unwrap_or_else(|| vec![0.0; len])
    }
}
