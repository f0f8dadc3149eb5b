//! An executor of the Program on a Burn device, behind the engine's decoder.
//!
//! ```text
//! Decoder ─▶ BurnDevice ─▶ Burn tensors on flex or ndarray ─▶ the operators of this crate ─▶ kernels
//! ```
//!
//! - Weights are tensors over the mapped bytes of the bundle: nothing is copied, nothing is dequantized.
//! - States are tensors that nobody else holds, so that operators update them in place.
//! - An activation is dropped behind its last reader, as the plan does. What is allocated in a step is of the size of its
//!   activations.
//!
//! The kernels are those of the `cpu` executor, so every logit has the same bits.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::tensor::{AllocationProperty, Bytes, DType, Device, Int, Tensor, TensorData};
use dynamax_bundle::{DType as Stored, Kind, Layout, Rows, TensorId};
use dynamax_engine::{Job, Model, memory};
use dynamax_kernels::Isa;
use rayon::ThreadPool;

use crate::stored::MatrixShape;

mod step;

/// A CPU backend of Burn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Burn's CPU backend.
    Flex,
    /// Its predecessor, in builds with feature `ndarray`.
    Ndarray,
}

impl Backend {
    /// `flex` or `ndarray`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Flex => "flex",
            Self::Ndarray => "ndarray",
        }
    }

    #[cfg_attr(feature = "ndarray", expect(deprecated, reason = "it is asked for by name"))]
    fn device(self) -> Result<Device, Unavailable> {
        match self {
            Self::Flex => Ok(Device::flex()),
            #[cfg(feature = "ndarray")]
            Self::Ndarray => Ok(Device::ndarray()),
            #[cfg(not(feature = "ndarray"))]
            Self::Ndarray => Err(Unavailable::Feature),
        }
    }
}

/// Why a backend cannot run.
#[derive(Debug)]
pub enum Unavailable {
    /// This build does not have it.
    Feature,
    /// The threads of its pool do not start.
    Threads(rayon::ThreadPoolBuildError),
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Feature => f.write_str(
                "backend ndarray: this build does not have it; use flex, its successor, or build with --features ndarray",
            ),
            Self::Threads(error) => write!(f, "the threads of a Burn device do not start: {error}"),
        }
    }
}

impl std::error::Error for Unavailable {}

/// What a Burn device holds of a model, and how far it is.
#[derive(Debug)]
pub struct BurnDevice {
    backend: Backend,
    device: Device,
    pool: ThreadPool,
    /// One for each tensor that is a weight.
    weights: Vec<Option<Weight>>,
    /// One for each tensor that is a state.
    shapes: Vec<Option<StateShape>>,
    /// Activations that nobody reads behind an operator, one list for each.
    last_reads: Vec<Vec<TensorId>>,
    memory: Mutex<Memory>,
}

#[derive(Clone, Debug)]
enum Weight {
    /// Panels, as they are stored.
    Packed(Tensor<1, Int>, MatrixShape),
    /// Rows of f32.
    Plain(Tensor<2>),
}

#[derive(Clone, Copy, Debug)]
struct StateShape {
    is_half: bool,
    dims: [usize; 2],
}

/// What changes: a place for each tensor of the Program.
#[derive(Debug, Default)]
struct Memory {
    activations: Vec<Option<Tensor<2>>>,
    states: Vec<Option<State>>,
}

#[derive(Debug)]
enum State {
    Floats(Tensor<2>),
    /// As bits.
    Halves(Tensor<2, Int>),
}

impl BurnDevice {
    /// Puts a model on a backend, with some threads. `bundle` are the mapped bytes that its weights lie in.
    ///
    /// # Errors
    ///
    /// A backend that this build does not have, threads that do not start.
    ///
    /// # Panics
    ///
    /// Panics if the weights lie elsewhere.
    pub fn new(
        backend: Backend,
        model: &Model<'_>,
        bundle: &bytes::Bytes,
        threads: usize,
    ) -> Result<Self, Unavailable> {
        let device = backend.device()?;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let pool = pool.build().map_err(Unavailable::Threads)?;
        let ids = || (0..model.program().tensors.len()).map(|index| TensorId(index as u16));
        let weights = ids().map(|id| weight(model, id, bundle, &device)).collect();
        let shapes = ids().map(|id| state_shape(model, id)).collect();
        let last_reads = last_reads(model);
        let memory = Mutex::default();
        let new = Self { backend, device, pool, weights, shapes, last_reads, memory };
        dynamax_engine::Device::reset(&new);
        Ok(new)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn zeros(&self, shape: StateShape) -> State {
        let [rows, width] = shape.dims;
        if shape.is_half {
            let data = TensorData::new(vec![0_u16; rows * width], shape.dims);
            State::Halves(Tensor::from_data(data, (&self.device, DType::U16)))
        } else {
            State::Floats(Tensor::zeros(shape.dims, &self.device))
        }
    }

    /// A row of an activation that is there.
    fn row(&self, tensor: TensorId, row: usize) -> TensorData {
        let memory = self.memory();
        let held = memory.activations[tensor.index()].as_ref();
        let held = held.unwrap_or_else(|| panic!("tensor {} is not kept", tensor.0));
        held.clone().narrow(0, row, 1).into_data()
    }
}

impl dynamax_engine::Device for BurnDevice {
    fn name(&self) -> &'static str {
        self.backend.name()
    }

    fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    fn reset(&self) {
        let states = self.shapes.iter().map(|shape| shape.map(|shape| self.zeros(shape)));
        let activations = self.shapes.iter().map(|_| None).collect();
        *self.memory() = Memory { activations, states: states.collect() };
    }

    fn run(&self, job: &Job<'_>, ops: std::ops::Range<usize>) {
        self.pool.install(|| {
            let mut memory = self.memory();
            for step in ops {
                self.step(&mut memory, job, step);
                for id in &self.last_reads[step] {
                    memory.activations[id.index()] = None;
                }
            }
        });
    }

    fn propagate(&self, job: &Job<'_>, ops: std::ops::Range<usize>) {
        self.pool.install(|| {
            let mut memory = self.memory();
            for step in ops.filter(|step| job.model.leads_to_state(*step)) {
                if job.attends(step) {
                    self.step(&mut memory, job, step);
                } else {
                    self.update(&mut memory, job, step);
                }
            }
        });
    }

    fn copy_caches(&self, job: &Job<'_>, from: usize, to: usize) {
        self.copy(&mut self.memory(), job, from, to);
    }

    fn keeps_log(&self) -> bool {
        true
    }

    fn settle(&self, job: &Job<'_>) {
        self.pool.install(|| {
            let mut memory = self.memory();
            for step in 0..job.model.program().ops.len() {
                self.settle_one(&mut memory, job, step);
            }
        });
    }

    fn read(&self, tensor: TensorId, row: usize, out: &mut [f32]) {
        for (out, number) in out.iter_mut().zip(self.row(tensor, row).iter()) {
            *out = number;
        }
    }

    fn argmax(&self, tensor: TensorId, row: usize, width: usize) -> u32 {
        let mut numbers = vec![0.0; width];
        self.read(tensor, row, &mut numbers);
        Isa::detect().argmax(&numbers) as u32
    }
}

/// The tensor over a weight's bytes, if it is one.
fn weight(
    model: &Model<'_>,
    id: TensorId,
    bundle: &bytes::Bytes,
    device: &Device,
) -> Option<Weight> {
    let tensor = model.program().tensor(id);
    let Kind::Weight { layout, .. } = tensor.kind else { return None };
    let bytes = bundle.slice_ref(model.weight(id));
    let (len, d_out, d_in) = (bytes.len(), model.rows_of(id), tensor.width as usize);
    let bytes = Bytes::from_shared(bytes, AllocationProperty::File);
    Some(match layout {
        Layout::Tiled => {
            let shape = MatrixShape { format: memory::format(tensor.dtype), d_out, d_in };
            let data = TensorData::from_bytes(bytes, [len], DType::U8);
            Weight::Packed(Tensor::from_data(data, (device, DType::U8)), shape)
        }
        Layout::Plain => {
            let data = TensorData::from_bytes(bytes, [d_out, d_in], DType::F32);
            Weight::Plain(Tensor::from_data(data, device))
        }
    })
}

fn state_shape(model: &Model<'_>, id: TensorId) -> Option<StateShape> {
    let tensor = model.program().tensor(id);
    let is_half = tensor.dtype == Stored::F16 && matches!(tensor.rows, Rows::Cache { .. });
    let dims = [model.rows_of(id), tensor.width as usize];
    (tensor.kind == Kind::State).then_some(StateShape { is_half, dims })
}

/// For each operator, the activations that no operator behind it reads.
fn last_reads(model: &Model<'_>) -> Vec<Vec<TensorId>> {
    let program = model.program();
    let mut last = vec![None; program.tensors.len()];
    for (step, op) in program.ops.iter().enumerate() {
        let operands = op.operands();
        let inputs = operands.inputs.into_iter().flatten();
        for id in inputs.chain([operands.output]) {
            let is_activation = program.tensor(id).kind == Kind::Activation;
            let is_kept = model.outlives_its_step(id) || model.is_logged(id);
            last[id.index()] = (is_activation && !is_kept).then_some(step);
        }
    }
    let mut lists = vec![Vec::new(); program.ops.len()];
    for (index, step) in last.into_iter().enumerate() {
        if let Some(step) = step {
            lists[step].push(TensorId(index as u16));
        }
    }
    lists
}
