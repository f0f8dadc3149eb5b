//! From a recording to a Program: names tensors, keeps the operators that matter, cuts it into parts.

mod operands;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use burn::backend::ir::{
    BaseOperationIr, NumericOperationIr, OperationIr, ScalarIr, TensorId as Id, TensorIr,
};
use dynamax_bundle::{DType, Exit, Kind, Op, ProgramBuf, Rows, Segment, Tensor, TensorId, check};

use super::record::{ROWS, Recording};
use super::weights::{Role, matrix_shape};
use super::{CaptureError, CaptureOptions, Captured, WeightSpec, decode};

/// What a tensor of the graph is.
#[derive(Clone, Copy)]
enum What {
    Tokens,
    Position,
    Param(Id),
    /// A state that went in.
    State(usize),
    /// The same state as it came out.
    Updated(usize),
    Activation(TensorId),
}

/// Where an activation was written.
#[derive(Clone, Copy)]
struct Written {
    part: usize,
    op: Op,
}

/// What ends a part of the Program: the tensor of the graph that the part's last operator writes.
#[derive(Clone, Copy)]
enum End {
    Segment { layers: usize },
    Head,
    Probe { exit: usize },
    ExitHead { exit: usize },
}

/// A Program under construction.
pub(super) struct Lowering<'r> {
    recording: &'r Recording,
    options: &'r CaptureOptions,
    whats: HashMap<Id, What>,
    tensors: Vec<Tensor>,
    ops: Vec<Op>,
    segments: Vec<Segment>,
    exits: Vec<Exit>,
    /// Parts that have ended: segments, the head, probes and exits' heads.
    parts: usize,
    /// One past the head's last operator.
    head_end: u16,
    /// The residual that the current part may read, besides what it writes.
    residual: Option<TensorId>,
    weights: Vec<WeightSpec>,
    /// Weights by their id in the graph.
    placed: HashMap<Id, (TensorId, Role)>,
    written: HashMap<TensorId, Written>,
    /// Rope angles that were computed again behind an exit.
    repeated: HashMap<(usize, TensorId), TensorId>,
}

pub(super) fn lower(
    recording: &Recording,
    options: &CaptureOptions,
) -> Result<Captured, CaptureError> {
    let layers = segment_ends(options, recording)?;
    let mut lowering = Lowering::new(recording, options);
    let mut ends: VecDeque<(End, Id)> = layers
        .into_iter()
        .map(|layers| (End::Segment { layers }, recording.residuals[layers - 1]))
        .chain([(End::Head, recording.logits)])
        .chain(recording.exits.iter().enumerate().flat_map(|(exit, recorded)| {
            [(End::Probe { exit }, recorded.score), (End::ExitHead { exit }, recorded.logits)]
        }))
        .collect();
    for operation in needed(recording) {
        lowering.lower(operation)?;
        while let Some(&(end, id)) = ends.front() {
            let Some(&What::Activation(written)) = lowering.whats.get(&id) else { break };
            lowering.end_part(end, written);
            ends.pop_front();
        }
    }
    match ends.front() {
        Some((End::Segment { layers }, _)) => Err(CaptureError::Residual { layer: *layers }),
        Some(_) => Err(CaptureError::Operand {
            operator: "step".into(),
            operand: "logits",
            expected: "the output of an operator",
        }),
        None => lowering.finish(),
    }
}

/// Layers at the end of each segment.
fn segment_ends(
    options: &CaptureOptions,
    recording: &Recording,
) -> Result<Vec<usize>, CaptureError> {
    let layers = recording.residuals.len();
    if layers == 0 {
        return Err(CaptureError::Residual { layer: 1 });
    }
    let exits = || recording.exits.iter().map(|exit| exit.after_layer);
    for cuts in [&options.exits, &exits().collect()] {
        let mut last = 0;
        for &exit in cuts {
            if exit <= last || exit >= layers {
                return Err(CaptureError::Exit { found: exit, layers });
            }
            last = exit;
        }
    }
    let ends: BTreeSet<usize> =
        options.exits.iter().copied().chain(exits()).chain([layers]).collect();
    Ok(ends.into_iter().collect())
}

/// The operations that logits, residuals and states depend on: not the initialisation of parameters.
fn needed(recording: &Recording) -> Vec<&OperationIr> {
    let given = |id: &Id| {
        recording.params.contains_key(id)
            || recording.states.contains(id)
            || *id == recording.tokens
            || *id == recording.position
    };
    let exits = recording.exits.iter().flat_map(|exit| [&exit.score, &exit.logits]);
    let results = recording.residuals.iter().chain(&recording.updated).chain([&recording.logits]);
    let results = results.chain(exits);
    let mut wanted: HashSet<Id> = results.copied().collect();
    let mut kept = Vec::new();
    for operation in recording.operations.iter().rev() {
        if matches!(operation, OperationIr::Init(_)) {
            continue;
        }
        if operation.outputs().any(|out| wanted.contains(&out.id) && !given(&out.id)) {
            wanted.extend(operation.inputs().map(|input| input.id));
            kept.push(operation);
        }
    }
    kept.reverse();
    kept
}

impl<'r> Lowering<'r> {
    fn new(recording: &'r Recording, options: &'r CaptureOptions) -> Self {
        let mut whats: HashMap<Id, What> =
            recording.params.keys().map(|&id| (id, What::Param(id))).collect();
        whats.extend(
            recording.states.iter().enumerate().map(|(index, &id)| (id, What::State(index))),
        );
        whats.extend([(recording.tokens, What::Tokens), (recording.position, What::Position)]);
        Self {
            recording,
            options,
            whats,
            tensors: Vec::new(),
            ops: Vec::new(),
            segments: Vec::new(),
            exits: Vec::new(),
            parts: 0,
            head_end: 0,
            residual: None,
            weights: Vec::new(),
            placed: HashMap::new(),
            written: HashMap::new(),
            repeated: HashMap::new(),
        }
    }

    fn lower(&mut self, operation: &OperationIr) -> Result<(), CaptureError> {
        match operation {
            OperationIr::Custom(custom) => decode::custom(self, custom),
            OperationIr::NumericFloat(_, NumericOperationIr::Add(add))
                if add.lhs.shape == add.rhs.shape =>
            {
                let (a, b) = (
                    self.activation("add", "a", &add.lhs)?,
                    self.activation("add", "b", &add.rhs)?,
                );
                self.emit(&add.out, |out| Op::Add { a, b, out })
            }
            OperationIr::BaseFloat(BaseOperationIr::Reshape(reshape)) => {
                self.rename(&reshape.input, &reshape.out)
            }
            other => Err(decode::unsupported(other)),
        }
    }

    /// A reshape that keeps what a row is.
    fn rename(&mut self, from: &TensorIr, to: &TensorIr) -> Result<(), CaptureError> {
        match self.whats.get(&from.id).copied() {
            Some(what @ What::Activation(_))
                if from.shape.as_slice()[0] == to.shape.as_slice()[0] =>
            {
                self.whats.insert(to.id, what);
                Ok(())
            }
            // How a weight is used is compared with its shape where it is used.
            Some(what @ What::Param(_)) => {
                self.whats.insert(to.id, what);
                Ok(())
            }
            _ => Err(CaptureError::Unsupported {
                operation: "reshape".into(),
                instead: "reshape only activations, keeping their rows, and parameters",
            }),
        }
    }

    /// Adds an operator that writes the activation `out`.
    pub(super) fn emit(
        &mut self,
        out: &TensorIr,
        op: impl FnOnce(TensorId) -> Op,
    ) -> Result<(), CaptureError> {
        let (rows, width) = matrix_shape(out.shape.as_slice());
        let rows = if rows == ROWS { Rows::Many } else { Rows::Fixed(small(rows)) };
        let id = self.add(Tensor {
            dtype: DType::F32,
            rows,
            width: small(width),
            kind: Kind::Activation,
        })?;
        self.whats.insert(out.id, What::Activation(id));
        self.push(op(id), id)
    }

    fn push(&mut self, op: Op, out: TensorId) -> Result<(), CaptureError> {
        if self.ops.len() == usize::from(u16::MAX) {
            return Err(TOO_LARGE);
        }
        self.ops.push(op);
        self.written.insert(out, Written { part: self.parts, op });
        Ok(())
    }

    fn add(&mut self, tensor: Tensor) -> Result<TensorId, CaptureError> {
        let id = u16::try_from(self.tensors.len()).map_err(|_| TOO_LARGE)?;
        self.tensors.push(tensor);
        Ok(TensorId(id))
    }

    /// Ends a part whose last operator wrote `written`.
    fn end_part(&mut self, end: End, written: TensorId) {
        let end_op = u16::try_from(self.ops.len()).unwrap_or(u16::MAX);
        self.parts += 1;
        match end {
            End::Segment { layers } => {
                let first_op = self.segments.last().map_or(0, |last| last.end_op);
                let layers = u16::try_from(layers).unwrap_or(u16::MAX);
                self.segments.push(Segment { first_op, end_op, residual: written, layers });
                self.residual = Some(written);
            }
            End::Head => self.residual = self.exit_residual(0),
            End::Probe { exit } => {
                let first_op = self.exits.last().map_or(self.head_end, |last| last.end_op);
                let after = usize::from;
                let recorded = &self.recording.exits[exit];
                let segment = self
                    .segments
                    .iter()
                    .position(|segment| after(segment.layers) == recorded.after_layer);
                self.exits.push(Exit {
                    segment: segment.map_or(u16::MAX, |index| index as u16),
                    classifier: recorded.classifier,
                    first_op,
                    probe_end: end_op,
                    end_op,
                    score: written,
                    logits: written,
                });
            }
            End::ExitHead { exit } => {
                if let Some(last) = self.exits.last_mut() {
                    (last.end_op, last.logits) = (end_op, written);
                }
                self.residual = self.exit_residual(exit + 1);
            }
        }
        if matches!(end, End::Head) {
            self.head_end = end_op;
        }
    }

    /// What exit `exit` looks at.
    fn exit_residual(&self, exit: usize) -> Option<TensorId> {
        let after_layer = self.recording.exits.get(exit)?.after_layer;
        let stands = |segment: &&Segment| usize::from(segment.layers) == after_layer;
        self.segments.iter().find(stands).map(|segment| segment.residual)
    }

    fn finish(self) -> Result<Captured, CaptureError> {
        let whats = &self.whats;
        for (index, id) in self.recording.updated.iter().enumerate() {
            if !matches!(whats.get(id), Some(What::Updated(updated)) if *updated == index) {
                return Err(CaptureError::State { index });
            }
        }
        if self.recording.updated.len() != self.recording.states.len() {
            return Err(CaptureError::State { index: self.recording.updated.len() });
        }
        let Some(&What::Activation(logits)) = whats.get(&self.recording.logits) else {
            let operator = "step".into();
            return Err(CaptureError::Operand {
                operator,
                operand: "logits",
                expected: "the output of an operator",
            });
        };
        let Self { tensors, ops, segments, exits, .. } = self;
        let program = ProgramBuf { tensors, ops, segments, exits, logits };
        check::program(&program.as_program()).map_err(CaptureError::Program)?;
        Ok(Captured { program, weights: self.weights })
    }
}

const TOO_LARGE: CaptureError = CaptureError::TooLarge { most: u16::MAX as usize };

/// Sizes beyond u32 are refused by the check of the Program, which knows a smaller limit.
fn small(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

/// A recorded whole number.
pub(super) fn count(scalar: &ScalarIr) -> u32 {
    match *scalar {
        ScalarIr::UInt(value) => u32::try_from(value).unwrap_or(u32::MAX),
        _ => u32::MAX,
    }
}

/// A recorded number.
pub(super) fn number(scalar: &ScalarIr) -> f32 {
    match *scalar {
        // It was an f32 when it was recorded.
        ScalarIr::Float(value) => value as f32,
        _ => f32::NAN,
    }
}
