//! The operators on the CPU backends: numbers out of the tensors, through the kernel, into a tensor.

use std::borrow::Cow;

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, TensorMetadata};
use dynamax_kernels::ops::Span;
use dynamax_kernels::view::Rows;

use crate::Operators;
use crate::ops::{Activation, AttentionShape, DualShape};

mod flex;
mod kernels;
#[cfg(feature = "ndarray")]
mod ndarray;
mod share;
mod stored;

/// A backend whose numbers can be read where they lie.
trait Host: Backend {
    /// The numbers in row-major order; copied only if they are stored otherwise.
    fn floats(tensor: &FloatTensor<Self>) -> Cow<'_, [f32]>;

    /// The numbers in row-major order, for keeps: copied only if another tensor shares them, or they are stored otherwise.
    fn into_floats(tensor: FloatTensor<Self>) -> Vec<f32>;

    /// Bytes where they lie: what a bundle stores.
    fn bytes(tensor: &IntTensor<Self>) -> &[u8];

    /// Halves, as bits, for keeps: see [`Host::into_floats`].
    fn into_halves(tensor: IntTensor<Self>) -> Vec<u16>;

    /// A tensor of these halves in row-major order.
    fn halves(numbers: Vec<u16>, shape: [usize; 2]) -> IntTensor<Self>;

    /// The integers.
    fn integers(tensor: IntTensor<Self>) -> Vec<i64>;

    /// A tensor of these numbers in row-major order.
    fn tensor(numbers: Vec<f32>, shape: [usize; 2]) -> FloatTensor<Self>;
}

/// A tensor that a kernel reads; a vector is one row.
struct Operand<'a> {
    numbers: Cow<'a, [f32]>,
    dims: [usize; 2],
}

impl<'a> Operand<'a> {
    fn of<B: Host>(tensor: &'a FloatTensor<B>) -> Self {
        let shape = tensor.shape();
        let dims = match *shape.as_slice() {
            [width] => [1, width],
            [rows, width] => [rows, width],
            _ => panic!("operators read vectors and matrices, not {shape:?}"),
        };
        Self { numbers: B::floats(tensor), dims }
    }

    fn rows(&self) -> Rows<'_> {
        let [len, width] = self.dims;
        Rows::new(&self.numbers, len, width, width)
    }
}

fn dims(tensor: &impl TensorMetadata) -> [usize; 2] {
    let shape = tensor.shape();
    [shape[0], shape[1]]
}

/// Reads the position of the first row of a step.
fn position<B: Host>(tensor: IntTensor<B>) -> u32 {
    let values = B::integers(tensor);
    assert_eq!(values.len(), 1, "position is [1]");
    u32::try_from(values[0]).unwrap_or_else(|_| panic!("position {} is not a u32", values[0]))
}

/// Implements [`Operators`] for a CPU backend: the same lines for each, since a blanket implementation would collide
/// with those of other backends.
macro_rules! implement_operators {
    ($backend:ty) => {
        impl Operators for $backend {
            fn embed(table: FloatTensor<Self>, tokens: IntTensor<Self>) -> FloatTensor<Self> {
                let (table, tokens) = (Operand::of::<Self>(&table), Self::integers(tokens));
                let shape = [tokens.len(), table.dims[1]];
                Self::tensor(kernels::embed(table.rows(), &tokens), shape)
            }

            fn rms_norm(
                x: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                group: usize,
                eps: f32,
            ) -> FloatTensor<Self> {
                let (x, weight) = (Operand::of::<Self>(&x), Operand::of::<Self>(&weight));
                Self::tensor(kernels::rms_norm(x.rows(), &weight.numbers, group, eps), x.dims)
            }

            fn linear_without_bias(
                x: FloatTensor<Self>,
                weight: FloatTensor<Self>,
            ) -> FloatTensor<Self> {
                let (x, weight) = (Operand::of::<Self>(&x), Operand::of::<Self>(&weight));
                Self::tensor(
                    kernels::linear(x.rows(), weight.rows(), None),
                    [x.dims[0], weight.dims[0]],
                )
            }

            fn linear_with_bias(
                x: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                bias: FloatTensor<Self>,
            ) -> FloatTensor<Self> {
                let [x, weight, bias] = [&x, &weight, &bias].map(Operand::of::<Self>);
                let out = kernels::linear(x.rows(), weight.rows(), Some(&bias.numbers));
                Self::tensor(out, [x.dims[0], weight.dims[0]])
            }

            fn add(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
                let (a, b) = (Operand::of::<Self>(&a), Operand::of::<Self>(&b));
                Self::tensor(kernels::add(a.rows(), b.rows()), a.dims)
            }

            fn swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
                let (gate, up) = (Operand::of::<Self>(&gate), Operand::of::<Self>(&up));
                Self::tensor(kernels::swiglu(gate.rows(), up.rows()), gate.dims)
            }

            fn silu(x: FloatTensor<Self>) -> FloatTensor<Self> {
                let x = Operand::of::<Self>(&x);
                Self::tensor(kernels::silu(x.rows()), x.dims)
            }

            fn rope_angles(
                inv_freq: FloatTensor<Self>,
                at: IntTensor<Self>,
                rows: usize,
            ) -> FloatTensor<Self> {
                let inv_freq = Operand::of::<Self>(&inv_freq);
                let out = kernels::rope_angles(&inv_freq.numbers, position::<Self>(at), rows);
                Self::tensor(out, [rows, 2 * inv_freq.dims[1]])
            }

            fn rope(x: FloatTensor<Self>, angles: FloatTensor<Self>) -> FloatTensor<Self> {
                let (x, angles) = (Operand::of::<Self>(&x), Operand::of::<Self>(&angles));
                Self::tensor(kernels::rope(x.rows(), angles.rows()), x.dims)
            }

            fn attend(
                q: FloatTensor<Self>,
                k: FloatTensor<Self>,
                v: FloatTensor<Self>,
                k_cache: FloatTensor<Self>,
                v_cache: FloatTensor<Self>,
                at: IntTensor<Self>,
                shape: AttentionShape,
            ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
                let dims = dims(&k_cache);
                let caches = [k_cache, v_cache].map(Self::into_floats);
                let [q, k, v] = [&q, &k, &v].map(Operand::of::<Self>);
                let at = position::<Self>(at);
                let (out, [k_cache, v_cache]) =
                    kernels::attention([q.rows(), k.rows(), v.rows()], caches, dims[0], at, shape);
                (
                    Self::tensor(out, q.dims),
                    Self::tensor(k_cache, dims),
                    Self::tensor(v_cache, dims),
                )
            }

            fn causal_conv_without_bias(
                x: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                state: FloatTensor<Self>,
                activation: Activation,
            ) -> (FloatTensor<Self>, FloatTensor<Self>) {
                let (dims, state) = (dims(&state), Self::into_floats(state));
                let [x, weight] = [&x, &weight].map(Operand::of::<Self>);
                let all = Span::all(x.dims[0]);
                let (out, state) =
                    kernels::causal_conv(x.rows(), weight.rows(), None, state, (all, activation));
                (Self::tensor(out, x.dims), Self::tensor(state, dims))
            }

            fn causal_conv_with_bias(
                x: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                bias: FloatTensor<Self>,
                state: FloatTensor<Self>,
                activation: Activation,
            ) -> (FloatTensor<Self>, FloatTensor<Self>) {
                let (dims, state) = (dims(&state), Self::into_floats(state));
                let [x, weight, bias] = [&x, &weight, &bias].map(Operand::of::<Self>);
                let (bias, all) = (Some(&*bias.numbers), Span::all(x.dims[0]));
                let (out, state) =
                    kernels::causal_conv(x.rows(), weight.rows(), bias, state, (all, activation));
                (Self::tensor(out, x.dims), Self::tensor(state, dims))
            }

            fn selective_scan(
                x: FloatTensor<Self>,
                dt: FloatTensor<Self>,
                bc: FloatTensor<Self>,
                a_log: FloatTensor<Self>,
                d: FloatTensor<Self>,
                state: FloatTensor<Self>,
            ) -> (FloatTensor<Self>, FloatTensor<Self>) {
                let (dims, state) = (dims(&state), Self::into_floats(state));
                let [x, dt, bc, a_log, d] = [&x, &dt, &bc, &a_log, &d].map(Operand::of::<Self>);
                let a = kernels::decays(&a_log.numbers);
                let a = Rows::new(&a, dims[0], dims[1], dims[1]);
                let operands = [x.rows(), dt.rows(), bc.rows(), a];
                let all = Span::all(x.dims[0]);
                let (out, state) = kernels::selective_scan(operands, &d.numbers, state, all);
                (Self::tensor(out, x.dims), Self::tensor(state, dims))
            }

            fn state_space_dual(
                xbc: FloatTensor<Self>,
                dt: FloatTensor<Self>,
                dt_bias: FloatTensor<Self>,
                a_log: FloatTensor<Self>,
                d: FloatTensor<Self>,
                state: FloatTensor<Self>,
                shape: DualShape,
            ) -> (FloatTensor<Self>, FloatTensor<Self>) {
                let (dims, state) = (dims(&state), Self::into_floats(state));
                let [xbc, dt, dt_bias, a_log, d] =
                    [&xbc, &dt, &dt_bias, &a_log, &d].map(Operand::of::<Self>);
                let a = kernels::decays(&a_log.numbers);
                let per_head = [&*dt_bias.numbers, &a, &*d.numbers];
                let all = (Span::all(xbc.dims[0]), shape);
                let (out, state) =
                    kernels::state_space_dual(xbc.rows(), dt.rows(), per_head, state, all);
                (
                    Self::tensor(out, [xbc.dims[0], shape.n_heads * dims[1]]),
                    Self::tensor(state, dims),
                )
            }

            fn gated_rms_norm(
                x: FloatTensor<Self>,
                gate: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                group: usize,
                eps: f32,
            ) -> FloatTensor<Self> {
                let [x, gate, weight] = [&x, &gate, &weight].map(Operand::of::<Self>);
                Self::tensor(
                    kernels::gated_rms_norm(x.rows(), gate.rows(), &weight.numbers, group, eps),
                    x.dims,
                )
            }

            fn select_row(x: FloatTensor<Self>, row: usize) -> FloatTensor<Self> {
                let x = Operand::of::<Self>(&x);
                Self::tensor(x.rows().row(row).to_vec(), [1, x.dims[1]])
            }
        }
    };
}
use implement_operators;
use stored::implement_stored;
