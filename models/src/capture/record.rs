//! Runs a step on the capture device.

use std::collections::HashMap;

use burn::backend::ir::{OperationIr, TensorId};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Int, Tensor, TensorData};
use burn_capture::CaptureBackend;
use dynamax_bundle::Classifier;

use super::CaptureError;
use crate::step::{ExitOutput, States, Step};

/// Rows of the recorded step: more than one, so that a row for each token differs from one row.
pub(super) const ROWS: usize = 3;

/// Room in the caches of the recorded step; the number does not reach the Program.
const CAPACITY: usize = 64;

/// A step as Burn recorded it. Tensors are named by the ids of its graph.
#[derive(Debug)]
pub(super) struct Recording {
    pub(super) operations: Vec<OperationIr>,
    pub(super) values: HashMap<TensorId, TensorData>,
    /// Path and shape of each parameter.
    pub(super) params: HashMap<TensorId, (String, Vec<usize>)>,
    pub(super) tokens: TensorId,
    pub(super) position: TensorId,
    pub(super) states: Vec<TensorId>,
    pub(super) updated: Vec<TensorId>,
    pub(super) residuals: Vec<TensorId>,
    pub(super) logits: TensorId,
    pub(super) exits: Vec<RecordedExit>,
}

/// An exit of a recorded step.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordedExit {
    pub(super) after_layer: usize,
    pub(super) classifier: Classifier,
    pub(super) score: TensorId,
    pub(super) logits: TensorId,
}

thread_local! {
    /// Burn has ids for 65 536 capture devices, and one step at a time can be recorded on each: one per thread.
    static DEVICE: Device = Device::capture();
}

pub(super) fn record<M: Step + Module>(
    init: impl FnOnce(&Device) -> M,
) -> Result<Recording, CaptureError> {
    let device = DEVICE.with(Clone::clone);
    let mut recording = None;
    let graph = device
        .capture_scope(|scope| {
            recording = Some(run(&init(&device), &device));
            scope.complete([], [])
        })
        .map_err(|error| CaptureError::Burn(error.to_string()))?;
    let Some(recording) = recording else {
        return Err(CaptureError::Burn("the step did not run".into()));
    };
    Ok(Recording {
        operations: graph.graph.operations,
        values: graph.values.into_iter().collect(),
        ..recording
    })
}

fn run<M: Step + Module>(model: &M, device: &Device) -> Recording {
    let mut names = Names::default();
    model.visit(&mut names);
    let tokens = Tensor::<1, Int>::zeros([ROWS], device);
    let position = Tensor::<1, Int>::zeros([1], device);
    // Made anew, because a model may have cloned one zero state for all layers.
    let zeros = model.states(CAPACITY, device);
    let states: States = zeros.iter().map(|state| Tensor::zeros(state.dims(), device)).collect();
    let (tokens_id, position_id, state_ids) =
        (integers_id(&tokens), integers_id(&position), states.iter().map(id).collect());
    let out = model.step(tokens, position, states);
    Recording {
        operations: Vec::new(),
        values: HashMap::new(),
        params: names.params,
        tokens: tokens_id,
        position: position_id,
        states: state_ids,
        updated: out.states.iter().map(id).collect(),
        residuals: out.residuals.iter().map(id).collect(),
        logits: id(&out.logits),
        exits: out.exits.iter().map(recorded_exit).collect(),
    }
}

fn recorded_exit(exit: &ExitOutput) -> RecordedExit {
    let &ExitOutput { after_layer, classifier, ref score, ref logits } = exit;
    RecordedExit { after_layer, classifier, score: id(score), logits: id(logits) }
}

const ELSEWHERE: &str = "a captured model keeps its tensors on the device it was given";

/// The id of a tensor in the recorded graph.
fn id<const D: usize>(tensor: &Tensor<D>) -> TensorId {
    tensor
        .clone()
        .try_into_primitive::<CaptureBackend>()
        .unwrap_or_else(|_| panic!("{ELSEWHERE}"))
        .id()
}

/// The id of a tensor of integers in the recorded graph.
fn integers_id(tensor: &Tensor<1, Int>) -> TensorId {
    tensor
        .clone()
        .try_into_primitive::<CaptureBackend>()
        .unwrap_or_else(|_| panic!("{ELSEWHERE}"))
        .id()
}

/// Collects the paths of parameters.
#[derive(Default)]
struct Names {
    /// `None` for the variant of an enum, which is no part of a path.
    path: Vec<Option<String>>,
    params: HashMap<TensorId, (String, Vec<usize>)>,
}

impl ModuleVisitor for Names {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.push((!container.starts_with("Enum:")).then(|| name.to_owned()));
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.val();
        // The first path wins: a shared parameter is one weight.
        self.params.entry(id(&tensor)).or_insert_with(|| {
            let path: Vec<&str> = self.path.iter().flatten().map(String::as_str).collect();
            (path.join("."), tensor.dims().to_vec())
        });
    }
}
