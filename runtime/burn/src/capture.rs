//! The operators on Burn's capture device: each is recorded as one custom operation of the graph.
//!
//! A recorded operation has the operator's name, its operands in the order of the Program, the output followed by the
//! updated states, and its constants in the order of the Program.

use burn::backend::TensorMetadata;
use burn::backend::ir::{CustomOpIr, OperationIr, ScalarIr, TensorIr};
use burn::tensor::Shape;
use burn_capture::{CaptureBackend, CaptureClient};
use burn_router::{RouterClient, RouterTensor};

use crate::Operators;
use crate::ops::{Activation, AttentionShape, DualShape};

type Captured = RouterTensor<CaptureClient>;

/// Records an operator whose outputs have the shapes given, and the number type of the first operand.
fn record<const N: usize>(
    name: &'static str,
    inputs: Vec<Captured>,
    outputs: [Shape; N],
    constants: Vec<ScalarIr>,
) -> [Captured; N] {
    let (client, dtype) = (inputs[0].client.clone(), inputs[0].dtype());
    let outputs = outputs.map(|shape| TensorIr::uninit(client.create_empty_handle(), shape, dtype));
    let results =
        outputs.clone().map(|out| RouterTensor::new(out.id, out.shape, out.dtype, client.clone()));
    let inputs: Vec<TensorIr> = inputs.into_iter().map(RouterTensor::into_ir).collect();
    client.register_op(OperationIr::Custom(CustomOpIr::with_scalars(
        name, &inputs, &outputs, constants,
    )));
    results
}

fn record_one(
    name: &'static str,
    inputs: Vec<Captured>,
    shape: [usize; 2],
    constants: Vec<ScalarIr>,
) -> Captured {
    let [out] = record(name, inputs, [Shape::new(shape)], constants);
    out
}

fn count(value: usize) -> ScalarIr {
    ScalarIr::UInt(value as u64)
}

fn number(value: f32) -> ScalarIr {
    ScalarIr::Float(f64::from(value))
}

fn dims(tensor: &Captured) -> [usize; 2] {
    let shape = tensor.shape();
    [shape[0], shape[1]]
}

fn causal_conv(inputs: Vec<Captured>, activation: Activation) -> (Captured, Captured) {
    let state = inputs.last().map_or_else(|| Shape::new([0, 0]), TensorMetadata::shape);
    let shapes = [inputs[0].shape(), state];
    let [out, state] = record("causal_conv", inputs, shapes, vec![count(activation as usize)]);
    (out, state)
}

impl Operators for CaptureBackend {
    fn embed(table: Captured, tokens: Captured) -> Captured {
        let shape = [tokens.shape()[0], table.shape()[1]];
        record_one("embed", vec![table, tokens], shape, vec![])
    }

    fn rms_norm(x: Captured, weight: Captured, group: usize, eps: f32) -> Captured {
        let shape = dims(&x);
        record_one("rms_norm", vec![x, weight], shape, vec![count(group), number(eps)])
    }

    fn linear_without_bias(x: Captured, weight: Captured) -> Captured {
        let shape = [x.shape()[0], weight.shape()[0]];
        record_one("linear", vec![x, weight], shape, vec![])
    }

    fn linear_with_bias(x: Captured, weight: Captured, bias: Captured) -> Captured {
        let shape = [x.shape()[0], weight.shape()[0]];
        record_one("linear", vec![x, weight, bias], shape, vec![])
    }

    fn add(a: Captured, b: Captured) -> Captured {
        let shape = dims(&a);
        record_one("add", vec![a, b], shape, vec![])
    }

    fn swiglu(gate: Captured, up: Captured) -> Captured {
        let shape = dims(&gate);
        record_one("swiglu", vec![gate, up], shape, vec![])
    }

    fn silu(x: Captured) -> Captured {
        let shape = dims(&x);
        record_one("silu", vec![x], shape, vec![])
    }

    fn rope_angles(inv_freq: Captured, position: Captured, rows: usize) -> Captured {
        let shape = [rows, 2 * inv_freq.shape()[0]];
        record_one("rope_angles", vec![inv_freq, position], shape, vec![])
    }

    fn rope(x: Captured, angles: Captured) -> Captured {
        let (shape, [_, head_dim]) = (dims(&x), dims(&angles));
        record_one("rope", vec![x, angles], shape, vec![count(head_dim)])
    }

    fn attend(
        q: Captured,
        k: Captured,
        v: Captured,
        k_cache: Captured,
        v_cache: Captured,
        position: Captured,
        shape: AttentionShape,
    ) -> (Captured, Captured, Captured) {
        let AttentionShape { n_heads, n_kv_heads, window, scale } = shape;
        let shapes = [q.shape(), k_cache.shape(), v_cache.shape()];
        let constants = vec![count(n_heads), count(n_kv_heads), count(window), number(scale)];
        let [out, k, v] =
            record("attention", vec![q, k, v, k_cache, v_cache, position], shapes, constants);
        (out, k, v)
    }

    fn causal_conv_without_bias(
        x: Captured,
        weight: Captured,
        state: Captured,
        activation: Activation,
    ) -> (Captured, Captured) {
        causal_conv(vec![x, weight, state], activation)
    }

    fn causal_conv_with_bias(
        x: Captured,
        weight: Captured,
        bias: Captured,
        state: Captured,
        activation: Activation,
    ) -> (Captured, Captured) {
        causal_conv(vec![x, weight, bias, state], activation)
    }

    fn selective_scan(
        x: Captured,
        dt: Captured,
        bc: Captured,
        a_log: Captured,
        d: Captured,
        state: Captured,
    ) -> (Captured, Captured) {
        let shapes = [x.shape(), state.shape()];
        let [out, state] =
            record("selective_scan", vec![x, dt, bc, a_log, d, state], shapes, vec![]);
        (out, state)
    }

    fn state_space_dual(
        xbc: Captured,
        dt: Captured,
        dt_bias: Captured,
        a_log: Captured,
        d: Captured,
        state: Captured,
        shape: DualShape,
    ) -> (Captured, Captured) {
        let DualShape { n_heads, n_groups, d_state, dt_min, dt_max } = shape;
        let shapes = [Shape::new([xbc.shape()[0], n_heads * state.shape()[1]]), state.shape()];
        let constants =
            vec![count(n_heads), count(n_groups), count(d_state), number(dt_min), number(dt_max)];
        let [out, state] =
            record("state_space_dual", vec![xbc, dt, dt_bias, a_log, d, state], shapes, constants);
        (out, state)
    }

    fn gated_rms_norm(
        x: Captured,
        gate: Captured,
        weight: Captured,
        group: usize,
        eps: f32,
    ) -> Captured {
        let shape = dims(&x);
        record_one("gated_rms_norm", vec![x, gate, weight], shape, vec![count(group), number(eps)])
    }

    fn select_row(x: Captured, row: usize) -> Captured {
        let [_, width] = dims(&x);
        record_one("select", vec![x], [1, width], vec![count(row)])
    }
}
