//! Capture of a step: the operators, weights and states of a small hybrid, and what is refused.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

#[expect(dead_code, reason = "its `main` prints what is tested here")]
#[path = "../examples/hybrid.rs"]
mod hybrid;

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor};
use dynamax_bundle::{DType, Kind, Layout, Op, Rows};
use dynamax_burn::ops;
use dynamax_models::capture::{CaptureError, CaptureOptions, Captured, Store, capture};
use dynamax_models::step::{States, Step, StepOutput};
use hybrid::Hybrid;

fn names(captured: &Captured) -> Vec<&'static str> {
    captured.program.ops.iter().map(Op::name).collect()
}

const SSM: [&str; 8] = [
    "rms_norm",
    "linear",
    "linear",
    "linear",
    "causal_conv",
    "state_space_dual",
    "gated_rms_norm",
    "linear",
];
const ATTENTION: [&str; 8] =
    ["rms_norm", "linear", "rope", "linear", "rope", "linear", "attention", "linear"];

#[test]
fn a_hybrid_becomes_the_operators_of_its_step() {
    let captured = capture(Hybrid::new, &CaptureOptions::default()).unwrap();
    let head = ["add", "select", "rms_norm", "linear"];
    let expected =
        [&["rope_angles", "embed"], &SSM[..], &["add"], &ATTENTION[..], &head[..]].concat();
    assert_eq!(names(&captured), expected, "operators");
    let segments = &captured.program.segments;
    assert_eq!(segments.len(), 1, "one segment without exits");
    assert_eq!((segments[0].first_op, segments[0].end_op), (0, 20), "all layers");
    assert_eq!(segments[0].layers, 2, "layers");
}

#[test]
fn weights_carry_the_paths_and_treatment_of_parameters() {
    let options = CaptureOptions { quant: DType::Q4, kv: DType::F16, ..CaptureOptions::default() };
    let captured = capture(Hybrid::new, &options).unwrap();
    let params: Vec<&str> = captured.weights.iter().map(|w| w.param.as_str()).collect();
    let expected = [
        "rope_angles.inv_freq",
        "embedding",
        "ssm.norm",
        "ssm.z",
        "ssm.xbc",
        "ssm.dt",
        "ssm.conv",
        "ssm.conv_bias",
        "ssm.dt_bias",
        "ssm.a_log",
        "ssm.d",
        "ssm.gated_norm",
        "ssm.out",
        "attention.norm",
        "attention.q",
        "attention.k",
        "attention.v",
        "attention.out",
        "norm",
    ];
    assert_eq!(params, expected, "each parameter once, in the order of use");
    for (section, weight) in captured.weights.iter().enumerate() {
        let tensor = captured.program.tensors[weight.tensor.index()];
        let is_matrix = weight.store == Store::Matrix;
        assert_eq!(is_matrix, weight.shape.len() == 2 && weight.param != "ssm.conv", "{weight:?}");
        let layout = if is_matrix { Layout::Tiled } else { Layout::Plain };
        let section = u16::try_from(section).unwrap();
        assert_eq!(tensor.kind, Kind::Weight { section, layout }, "{}", weight.param);
        assert_eq!(tensor.dtype, if is_matrix { DType::Q4 } else { DType::F32 }, "{tensor:?}");
        let (rows, width) = weight.matrix_shape();
        assert_eq!(tensor.rows, Rows::Fixed(u32::try_from(rows).unwrap()), "{}", weight.param);
        assert_eq!(tensor.width as usize, width, "{}", weight.param);
    }
    assert_eq!(captured.weights[9].store, Store::NegExp, "a_log");
    let Store::Computed(inv_freq) = &captured.weights[0].store else { panic!("inv_freq") };
    assert_eq!((inv_freq.len(), inv_freq[0]), (8, 1.0), "inv_freq");
    assert_eq!(captured.weights[0].numbers(), 8, "numbers of inv_freq");
}

#[test]
fn states_are_updated_in_place_with_their_kind() {
    let options = CaptureOptions { kv: DType::F16, ..CaptureOptions::default() };
    let captured = capture(Hybrid::new, &options).unwrap();
    let states: Vec<_> =
        captured.program.tensors.iter().filter(|tensor| tensor.kind == Kind::State).collect();
    let found: Vec<_> = states.iter().map(|state| (state.rows, state.width, state.dtype)).collect();
    let cache = (Rows::Cache { window: 0 }, 16, DType::F16);
    let expected =
        [(Rows::Fixed(3), 80, DType::F32), (Rows::Fixed(32), 16, DType::F32), cache, cache];
    assert_eq!(found, expected, "conv, ssm, keys, values");
}

#[test]
fn exits_cut_the_program_and_positions_are_computed_in_each_segment() {
    let options = CaptureOptions { exits: vec![1], ..CaptureOptions::default() };
    let captured = capture(Hybrid::new, &options).unwrap();
    let program = captured.program.as_program();
    let segments = program.segments;
    let of = |index: usize| -> Vec<&str> {
        program.ops[segments[index].ops()].iter().map(Op::name).collect()
    };
    assert_eq!(of(0), [&["rope_angles", "embed"], &SSM[..], &["add"]].concat(), "first segment");
    let mut second: Vec<&str> = ATTENTION.to_vec();
    // Before its first use.
    second.insert(2, "rope_angles");
    second.push("add");
    assert_eq!(of(1), second, "second segment");
    assert_eq!((segments[0].layers, segments[1].layers), (1, 2), "layers");
    for exits in [vec![0], vec![2], vec![1, 1]] {
        let options = CaptureOptions { exits, ..CaptureOptions::default() };
        let error = capture(Hybrid::new, &options).unwrap_err();
        assert!(matches!(error, CaptureError::Exit { layers: 2, .. }), "{error}");
    }
}

#[test]
fn the_same_step_runs_on_flex_whole_or_token_by_token() {
    let device = Device::flex();
    let model = Hybrid::new(&device);
    let tokens = [5, 90, 17, 17, 3];
    let ids = |tokens: &[i64]| Tensor::<1, Int>::from_data(tokens, &device);
    let whole = model.step(ids(&tokens), ids(&[0]), model.states(8, &device));
    let mut states = model.states(8, &device);
    let mut logits = Vec::new();
    for (position, token) in (0..).zip(tokens) {
        let out = model.step(ids(&[token]), ids(&[position]), states);
        states = out.states;
        logits = out.logits.into_data().iter::<f32>().collect();
    }
    let whole: Vec<f32> = whole.logits.into_data().iter().collect();
    assert!(whole.iter().any(|logit| logit.abs() > 1e-3), "logits that say something");
    assert_eq!(whole, logits, "bit for bit");
}

/// A model whose step is `body`; it has one matrix, `weight`, and one state.
#[derive(Module, Debug)]
struct Odd {
    weight: Param<Tensor<2>>,
    #[module(skip)]
    body: Body,
}

/// Makes a residual of `[rows, 16]` from an embedding of `[rows, 16]`.
#[derive(Clone, Copy)]
struct Body(fn(&Odd, Tensor<2>, &mut States) -> Tensor<2>);

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("body")
    }
}

impl Step for Odd {
    fn states(&self, _capacity: usize, device: &Device) -> States {
        let mut states = States::new();
        states.add([15, 16], device);
        states
    }

    fn step(&self, tokens: Tensor<1, Int>, _: Tensor<1, Int>, mut states: States) -> StepOutput {
        let rows = tokens.dims()[0];
        let x = ops::embed(self.weight.val(), tokens);
        let x = (self.body.0)(self, x, &mut states);
        let last = ops::select(x.clone(), rows - 1);
        let logits = ops::linear(last, self.weight.val(), None);
        StepOutput { residuals: vec![x], logits, exits: Vec::new(), states: states.finish() }
    }
}

fn refusal(body: fn(&Odd, Tensor<2>, &mut States) -> Tensor<2>) -> String {
    let init = |device: &Device| Odd {
        weight: Param::from_tensor(Tensor::zeros([16, 16], device)),
        body: Body(body),
    };
    capture(init, &CaptureOptions::default()).unwrap_err().to_string()
}

fn conv(x: Tensor<2>, states: &mut States) -> Tensor<2> {
    let weight = Tensor::from_data([[1.0_f32; 16]; 16], &x.device());
    states.update(|state| ops::causal_conv(x, weight, None, state, ops::Activation::Identity))
}

#[test]
fn what_no_device_runs_is_refused_with_what_to_use_instead() {
    let error = refusal(|model, x, states| conv(x.matmul(model.weight.val()), states));
    assert!(error.contains("`matmul`") && error.contains("ops::linear"), "{error}");
    let error = refusal(|_, x, states| conv(x * 2.0, states));
    assert!(error.contains("`mul_scalar`") && error.contains("scale a weight"), "{error}");
    let error = refusal(|_, x, states| conv(x.narrow(1, 0, 8).repeat_dim(1, 2), states));
    assert!(error.contains("`slice`") && error.contains("one `ops::linear` per part"), "{error}");
    let error = refusal(|_, x, states| conv(burn::tensor::activation::silu(x), states));
    assert!(error.contains("ops::silu"), "{error}");
}

#[test]
fn misuse_of_parameters_and_states_is_refused() {
    let error = refusal(|model, x, states| {
        let weight = model.weight.val();
        states.update(|state| (ops::linear(x, weight, None), state))
    });
    assert_eq!(
        error,
        "state 0 was not returned in its place after one update: update states in the order of `states()`"
    );
    let error = refusal(|_, x, states| {
        let weight = Tensor::from_data([[1.0_f32; 16]; 16], &x.device());
        states.update(|state| {
            let once = ops::causal_conv(x, weight.clone(), None, state, ops::Activation::Identity);
            ops::causal_conv(once.0, weight, None, once.1, ops::Activation::Identity)
        })
    });
    assert!(error.contains("updated once"), "{error}");
    let error = refusal(|model, x, states| {
        let weight = model.weight.val();
        states.update(|state| ops::causal_conv(x, weight, None, state, ops::Activation::Silu))
    });
    let expected = "parameter `weight` is used as \"a matrix\" and as \"a plain weight\": make it two parameters";
    assert_eq!(error, expected, "two stores");
}

#[test]
fn plain_reshapes_that_keep_the_rows_are_free() {
    let init = |device: &Device| Odd {
        weight: Param::from_tensor(Tensor::zeros([16, 16], device)),
        body: Body(|_, x, states| conv(x.reshape([3, 2, 8]).reshape([3, 16]), states)),
    };
    let captured = capture(init, &CaptureOptions::default()).unwrap();
    assert_eq!(names(&captured), ["embed", "causal_conv", "select", "linear"], "no reshape");
    assert_eq!(captured.weights.len(), 2, "the tied table, and a computed convolution");
}

/// Adds the embedding again behind its first layer.
#[derive(Module, Debug)]
struct Skipping {
    table: Param<Tensor<2>>,
}

impl Step for Skipping {
    fn states(&self, _capacity: usize, _device: &Device) -> States {
        States::new()
    }

    fn step(&self, tokens: Tensor<1, Int>, _: Tensor<1, Int>, states: States) -> StepOutput {
        let rows = tokens.dims()[0];
        let x = ops::embed(self.table.val(), tokens);
        let first = ops::silu(x.clone());
        let second = first.clone() + x;
        let logits = ops::linear(ops::select(second.clone(), rows - 1), self.table.val(), None);
        StepOutput {
            residuals: vec![first, second],
            logits,
            exits: Vec::new(),
            states: states.finish(),
        }
    }
}

#[test]
fn only_the_residual_stream_crosses_an_exit() {
    let init =
        |device: &Device| Skipping { table: Param::from_tensor(Tensor::zeros([16, 8], device)) };
    let whole = capture(init, &CaptureOptions::default()).unwrap();
    assert_eq!(names(&whole), ["embed", "silu", "add", "select", "linear"], "without exits");
    let options = CaptureOptions { exits: vec![1], ..CaptureOptions::default() };
    let error = capture(init, &options).unwrap_err();
    assert_eq!(error, CaptureError::CrossesExit { operator: "add".into(), layer: 1 }, "{error}");
}
