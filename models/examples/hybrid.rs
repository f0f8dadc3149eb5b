//! A whole backbone: one Mamba-2 layer and one attention layer over one residual stream.
//!
//! Prints the Program that devices run. `docs/adding-a-backbone.md` walks through this file.

use burn::module::{Module, Param, ParamId};
use burn::tensor::{Device, Distribution, Int, Tensor};
use dynamax_burn::ops::{self, Activation, AttentionShape, DualShape};
use dynamax_models::capture::{CaptureOptions, capture};
use dynamax_models::step::{States, Step, StepOutput};

const EPS: f32 = 1e-5;
const VOCAB_SIZE: usize = 96;
const D_MODEL: usize = 32;
/// Mamba-2: 4 heads of 16 channels, 8 numbers of state for each channel, a convolution over 4 tokens.
const SSM: DualShape =
    DualShape { n_heads: 4, n_groups: 1, d_state: 8, dt_min: 0.0, dt_max: f32::INFINITY };
const HEAD_DIM: usize = 16;
const D_INNER: usize = SSM.n_heads * HEAD_DIM;
const XBC: usize = D_INNER + 2 * SSM.n_groups * SSM.d_state;
const D_CONV: usize = 4;
/// Attention: 2 query heads share one key/value head.
const ATTENTION: AttentionShape =
    AttentionShape { n_heads: 2, n_kv_heads: 1, window: 0, scale: 0.25 };

/// A lazy parameter: on the capture device it has a shape and nothing else.
fn param<const D: usize>(shape: [usize; D], device: &Device) -> Param<Tensor<D>> {
    let noise = Distribution::Uniform(-0.3, 0.3);
    Param::uninitialized(
        ParamId::new(),
        move |device, _| Tensor::random(shape, noise, device),
        device.clone(),
        true,
        shape.into(),
    )
}

/// A Mamba-2 layer. A checkpoint has `z`, `xbc` and `dt` in one matrix: here each part is its own, because operators
/// do not cut activations.
#[derive(Module, Debug)]
pub(crate) struct Ssm {
    norm: Param<Tensor<1>>,
    z: Param<Tensor<2>>,
    xbc: Param<Tensor<2>>,
    dt: Param<Tensor<2>>,
    conv: Param<Tensor<2>>,
    conv_bias: Param<Tensor<1>>,
    dt_bias: Param<Tensor<1>>,
    a_log: Param<Tensor<1>>,
    d: Param<Tensor<1>>,
    gated_norm: Param<Tensor<1>>,
    out: Param<Tensor<2>>,
}

impl Ssm {
    fn new(device: &Device) -> Self {
        Self {
            norm: param([D_MODEL], device),
            z: param([D_INNER, D_MODEL], device),
            xbc: param([XBC, D_MODEL], device),
            dt: param([SSM.n_heads, D_MODEL], device),
            conv: param([D_CONV, XBC], device),
            conv_bias: param([XBC], device),
            dt_bias: param([SSM.n_heads], device),
            a_log: param([SSM.n_heads], device),
            d: param([SSM.n_heads], device),
            gated_norm: param([D_INNER], device),
            out: param([D_MODEL, D_INNER], device),
        }
    }

    fn step(&self, x: Tensor<2>, states: &mut States) -> Tensor<2> {
        let h = ops::rms_norm(x.clone(), self.norm.val(), D_MODEL, EPS);
        let z = ops::linear(h.clone(), self.z.val(), None);
        let xbc = ops::linear(h.clone(), self.xbc.val(), None);
        let dt = ops::linear(h, self.dt.val(), None);
        let (conv, bias) = (self.conv.val(), Some(self.conv_bias.val()));
        let xbc = states.update(|state| ops::causal_conv(xbc, conv, bias, state, Activation::Silu));
        let (dt_bias, a_log, d) = (self.dt_bias.val(), self.a_log.val(), self.d.val());
        let y =
            states.update(|state| ops::state_space_dual(xbc, dt, dt_bias, a_log, d, state, SSM));
        let y = ops::gated_rms_norm(y, z, self.gated_norm.val(), D_INNER, EPS);
        x + ops::linear(y, self.out.val(), None)
    }
}

/// An attention layer without an MLP.
#[derive(Module, Debug)]
pub(crate) struct Attention {
    norm: Param<Tensor<1>>,
    q: Param<Tensor<2>>,
    k: Param<Tensor<2>>,
    v: Param<Tensor<2>>,
    out: Param<Tensor<2>>,
}

impl Attention {
    fn new(device: &Device) -> Self {
        Self {
            norm: param([D_MODEL], device),
            q: param([ATTENTION.n_heads * HEAD_DIM, D_MODEL], device),
            k: param([ATTENTION.n_kv_heads * HEAD_DIM, D_MODEL], device),
            v: param([ATTENTION.n_kv_heads * HEAD_DIM, D_MODEL], device),
            out: param([D_MODEL, ATTENTION.n_heads * HEAD_DIM], device),
        }
    }

    fn step(
        &self,
        x: Tensor<2>,
        angles: Tensor<2>,
        position: Tensor<1, Int>,
        states: &mut States,
    ) -> Tensor<2> {
        let h = ops::rms_norm(x.clone(), self.norm.val(), D_MODEL, EPS);
        let q = ops::rope(ops::linear(h.clone(), self.q.val(), None), angles.clone());
        let k = ops::rope(ops::linear(h.clone(), self.k.val(), None), angles);
        let v = ops::linear(h, self.v.val(), None);
        let y = states.update_cache(|cache| ops::attention(q, k, v, cache, position, ATTENTION));
        x + ops::linear(y, self.out.val(), None)
    }
}

/// The model. Its head is the table of its embeddings.
#[derive(Module, Debug)]
pub(crate) struct Hybrid {
    embedding: Param<Tensor<2>>,
    ssm: Ssm,
    attention: Attention,
    norm: Param<Tensor<1>>,
}

impl Hybrid {
    /// Makes a model with random weights, lazily.
    pub(crate) fn new(device: &Device) -> Self {
        Self {
            embedding: param([VOCAB_SIZE, D_MODEL], device),
            ssm: Ssm::new(device),
            attention: Attention::new(device),
            norm: param([D_MODEL], device),
        }
    }
}

impl Step for Hybrid {
    fn states(&self, capacity: usize, device: &Device) -> States {
        let mut states = States::new();
        states.add([D_CONV - 1, XBC], device);
        states.add([SSM.n_heads * SSM.d_state, HEAD_DIM], device);
        states.add_cache(capacity, ATTENTION.n_kv_heads * HEAD_DIM, device);
        states
    }

    fn step(
        &self,
        tokens: Tensor<1, Int>,
        position: Tensor<1, Int>,
        mut states: States,
    ) -> StepOutput {
        let [rows] = tokens.dims();
        let inv_freq: Vec<f32> =
            (0..HEAD_DIM / 2).map(|i| 10_000_f32.powf(-2.0 * i as f32 / HEAD_DIM as f32)).collect();
        let inv_freq = Tensor::from_data(inv_freq.as_slice(), &tokens.device());
        let angles = ops::rope_angles(inv_freq, position.clone(), rows);
        let x = ops::embed(self.embedding.val(), tokens);
        let first = self.ssm.step(x, &mut states);
        let second = self.attention.step(first.clone(), angles, position, &mut states);
        let last = ops::select(second.clone(), rows - 1);
        let normed = ops::rms_norm(last, self.norm.val(), D_MODEL, EPS);
        let logits = ops::linear(normed, self.embedding.val(), None);
        StepOutput {
            residuals: vec![first, second],
            logits,
            exits: Vec::new(),
            states: states.finish(),
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let captured = capture(Hybrid::new, &CaptureOptions::default())?;
    for (index, op) in captured.program.ops.iter().enumerate() {
        println!("{index:3} {}", op.name());
    }
    for weight in &captured.weights {
        println!("{} {:?}", weight.param, weight.shape);
    }
    Ok(())
}
