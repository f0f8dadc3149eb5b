//! The device behind the decoder: buffers by the plan, and a tape of what is to be run.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dynamax_bundle::{DType, Kind, Op, TensorId};
use dynamax_engine::device::{Log, Planned};
use dynamax_engine::{Job, Model};
use dynamax_kernels::ops::Span;

use crate::buffers::{Buffers, Dispatch};
use crate::gpu::{Gpu, Unavailable};
use crate::kernel::{Kernel, Kernels, ROWS};
use crate::lower::{Draft, Groups, Lowering};
use crate::plan::{Held, RUNS, UNIFORM_ALIGN, upload_words};
use crate::tape::{Entry, NONE, Run, Tape};
use crate::{upload, weights};

/// How often something was done since the model was put on the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Submits to the queue.
    pub submits: u64,
    /// Kernels started.
    pub dispatches: u64,
    /// Times that something was read back.
    pub reads: u64,
    /// Bytes read back.
    pub read_bytes: u64,
}

#[derive(Debug, Default)]
struct Counters {
    submits: AtomicU64,
    dispatches: AtomicU64,
    reads: AtomicU64,
    read_bytes: AtomicU64,
}

/// A model on a GPU.
#[derive(Debug)]
pub struct WgpuDevice {
    gpu: Gpu,
    kernels: Kernels,
    buffers: Buffers,
    /// The dispatches of all operators, then the search for the largest number.
    dispatches: Vec<Dispatch>,
    /// Those of each operator.
    by_op: Vec<Range<usize>>,
    /// Numbers that `uploads` has room for.
    upload_words: usize,
    /// Where the plan has each tensor.
    places: Vec<Planned>,
    held: Held,
    tape: Mutex<Tape>,
    counters: Counters,
}

impl WgpuDevice {
    /// Puts a model on the fastest GPU there is.
    ///
    /// # Errors
    ///
    /// No GPU, one that does not open, a plan with a buffer that it cannot bind or has no room for.
    pub fn new(model: &Model<'_>) -> Result<Self, Unavailable> {
        let gpu = Gpu::open()?;
        let upload_words = upload_words(model);
        let buffers = Buffers::new(&gpu, model, upload_words)?;
        let kernels = Kernels::compile(&gpu);
        let weights = weights::upload(&gpu, model)?;
        let lowering = Lowering { model: *model, weights: &weights };
        let (mut drafts, mut by_op) = (Vec::new(), Vec::new());
        for step in 0..model.program().ops.len() {
            let start = drafts.len();
            drafts.extend(lowering.lower(step));
            by_op.push(start..drafts.len());
        }
        drafts.push(Draft::argmax(model.program().logits));
        let dispatches = buffers.bind(&gpu, &kernels.layout, &weights, drafts)?;
        let ids = (0..model.program().tensors.len()).map(|index| TensorId(index as u16));
        let places = ids.map(|id| planned(model, id)).collect();
        let (held, tape, counters) = (Held::of(model), Mutex::default(), Counters::default());
        Ok(Self {
            gpu,
            kernels,
            buffers,
            dispatches,
            by_op,
            upload_words,
            places,
            held,
            tape,
            counters,
        })
    }

    /// Name of the GPU.
    #[must_use]
    pub fn gpu(&self) -> &str {
        &self.gpu.name
    }

    /// Bytes of the GPU's memory that the driver was asked for.
    #[must_use]
    pub fn reserved_bytes(&self) -> Option<u64> {
        self.gpu.device.generate_allocator_report().map(|report| report.total_reserved_bytes)
    }

    /// Bytes of all buffers that were made.
    #[must_use]
    pub fn made_bytes(&self) -> u64 {
        self.gpu.made_bytes.load(Ordering::Relaxed)
    }

    /// What was done so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counters { submits, dispatches, reads, read_bytes } = &self.counters;
        Counts {
            submits: get(submits),
            dispatches: get(dispatches),
            reads: get(reads),
            read_bytes: get(read_bytes),
        }
    }

    fn tape(&self) -> MutexGuard<'_, Tape> {
        self.tape.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes those dispatches of an operator that `is_wanted`.
    fn note(
        &self,
        tape: &mut Tape,
        job: &Job<'_>,
        step: usize,
        run: Run,
        is_wanted: fn(&Draft) -> bool,
    ) {
        for index in self.by_op[step].clone() {
            let draft = &self.dispatches[index].draft;
            if !is_wanted(draft) || self.is_quantized(tape, step, index) {
                continue;
            }
            let rows = job.rows(draft.out);
            let words = upload::words(draft.uploaded, &job.model, rows);
            if tape.run_count() == RUNS || tape.uploads.len() + words > self.upload_words {
                self.submit(tape, |_| ());
            }
            let run = Run { upload: tape.uploads.len() as u32, ..run };
            upload::push(&mut tape.uploads, draft.uploaded, job, rows);
            let (run, rows) = (tape.run(run), rows as u32);
            let (x, y) = match draft.groups {
                Groups::EachRow(groups) => (groups, rows),
                Groups::AllRows(groups) => (groups, 1),
                Groups::Tiles(groups) => (groups, if rows > 1 { rows.div_ceil(ROWS) } else { 1 }),
            };
            let kernel = if job.log.is_some() { draft.kernel.with_drafts() } else { draft.kernel };
            tape.entries.push(Entry::Dispatch { kernel, index, run, x, y, rows });
        }
    }

    /// True for a quantization of what the product noted last has read already.
    fn is_quantized(&self, tape: &Tape, step: usize, index: usize) -> bool {
        let draft = &self.dispatches[index].draft;
        let Some(&Entry::Dispatch { index: last, .. }) = tape.entries.last() else { return false };
        draft.kernel == Kernel::Quantize
            && step > 0
            && self.by_op[step - 1].contains(&last)
            && self.dispatches[last].draft.constants.reads() == draft.constants.writes()
    }

    /// Submits all that was noted, and what `then` adds, as one.
    fn submit(&self, tape: &mut Tape, then: impl FnOnce(&mut wgpu::CommandEncoder)) {
        let Gpu { device, queue, .. } = &self.gpu;
        queue.write_buffer(&self.buffers.runs, 0, tape.run_bytes());
        queue.write_buffer(&self.buffers.uploads, 0, bytemuck::cast_slice(&tape.uploads));
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let is_copy = |entry: &Entry| matches!(entry, Entry::Copy { .. });
        for part in tape.entries.chunk_by(|a, b| is_copy(a) == is_copy(b)) {
            if part.iter().any(is_copy) {
                part.iter().for_each(|entry| self.copy(&mut encoder, *entry));
            } else {
                self.dispatch(&mut encoder, part);
            }
        }
        then(&mut encoder);
        queue.submit([encoder.finish()]);
        self.counters.submits.fetch_add(1, Ordering::Relaxed);
        tape.clear();
    }

    fn dispatch(&self, encoder: &mut wgpu::CommandEncoder, entries: &[Entry]) {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        for entry in entries {
            let Entry::Dispatch { kernel, index, run, x, y, rows } = *entry else { continue };
            let bindings = &self.dispatches[index].bindings;
            pass.set_pipeline(self.kernels.pipeline(kernel, rows));
            pass.set_bind_group(0, bindings, &[(run as u64 * UNIFORM_ALIGN) as u32]);
            pass.dispatch_workgroups(x, y, 1);
        }
        self.counters.dispatches.fetch_add(entries.len() as u64, Ordering::Relaxed);
    }

    fn copy(&self, encoder: &mut wgpu::CommandEncoder, entry: Entry) {
        let Entry::Copy { from, from_byte, to, to_byte, bytes } = entry else { return };
        let states = &self.buffers.states;
        if let (Some(from), Some(to)) = (&states[from], &states[to]) {
            encoder.copy_buffer_to_buffer(from, from_byte, to, to_byte, bytes);
        }
    }

    /// Runs all that was noted, and reads `bytes` of a buffer.
    fn read_back(&self, tape: &mut Tape, from: &wgpu::Buffer, first: u64, bytes: u64) -> Vec<u8> {
        let staging = &self.buffers.staging;
        self.submit(tape, |encoder| encoder.copy_buffer_to_buffer(from, first, staging, 0, bytes));
        staging.map_async(wgpu::MapMode::Read, 0..bytes, |_| ());
        self.gpu.wait();
        let read = match staging.get_mapped_range(0..bytes) {
            Ok(view) => view.to_vec(),
            Err(error) => panic!("what the GPU wrote cannot be read: {error}"),
        };
        staging.unmap();
        self.counters.reads.fetch_add(1, Ordering::Relaxed);
        self.counters.read_bytes.fetch_add(bytes, Ordering::Relaxed);
        read
    }

    /// First byte of a row of an activation.
    fn byte_of(&self, tensor: TensorId, row: usize) -> u64 {
        let place = self.places[tensor.index()];
        (place.offset + row * place.stride * 4) as u64
    }
}

impl dynamax_engine::Device for WgpuDevice {
    fn name(&self) -> &'static str {
        "wgpu"
    }

    fn threads(&self) -> usize {
        1
    }

    fn planned_bytes(&self) -> Option<u64> {
        Some(self.held.total_bytes())
    }

    fn reset(&self) {
        let mut tape = self.tape();
        tape.clear();
        self.submit(&mut tape, |encoder| {
            for state in self.buffers.states.iter().flatten() {
                encoder.clear_buffer(state, 0, None);
            }
        });
    }

    fn run(&self, job: &Job<'_>, ops: Range<usize>) {
        let (mut tape, run) = (self.tape(), run_of(job));
        for step in ops {
            self.note(&mut tape, job, step, run, |_| true);
        }
    }

    fn propagate(&self, job: &Job<'_>, ops: Range<usize>) {
        let (mut tape, run) = (self.tape(), run_of(job));
        for step in ops.filter(|step| job.model.leads_to_state(*step)) {
            if job.attends(step) {
                self.note(&mut tape, job, step, run, |_| true);
            } else {
                self.note(&mut tape, job, step, run, |draft| draft.kernel != Kernel::Attend);
            }
        }
    }

    fn keeps_log(&self) -> bool {
        true
    }

    fn settle(&self, job: &Job<'_>) {
        let (mut tape, run) = (self.tape(), run_of(job));
        for step in 0..job.model.program().ops.len() {
            self.note(&mut tape, job, step, run, |draft| {
                matches!(draft.kernel, Kernel::Conv | Kernel::Scan | Kernel::Dual)
            });
        }
    }

    fn copy_caches(&self, job: &Job<'_>, from: usize, to: usize) {
        let (
            Op::Attention { k_cache: from_k, v_cache: from_v, n_kv_heads, .. },
            Op::Attention { k_cache: to_k, v_cache: to_v, .. },
        ) = (*job.op(from), *job.op(to))
        else {
            return;
        };
        let mut tape = self.tape();
        for (from, to) in [(from_k, to_k), (from_v, to_v)] {
            let tensor = job.model.program().tensor(from);
            let number_bytes = if tensor.dtype == DType::F16 { 2 } else { 4 };
            let bytes = u64::from(tensor.width / n_kv_heads) * number_bytes;
            for head in 0..u64::from(n_kv_heads) {
                let byte = |cache| {
                    let capacity = job.model.rows_of(cache) as u64;
                    (head * capacity + u64::from(job.cache_position) % capacity) * bytes
                };
                let (from_byte, to_byte) = (byte(from), byte(to));
                let (from, to) = (from.index(), to.index());
                tape.entries.push(Entry::Copy { from, from_byte, to, to_byte, bytes });
            }
        }
    }

    fn read(&self, tensor: TensorId, row: usize, out: &mut [f32]) {
        let bytes = size_of_val(out) as u64;
        let first = self.byte_of(tensor, row);
        let read = self.read_back(&mut self.tape(), &self.buffers.arena, first, bytes);
        out.copy_from_slice(bytemuck::cast_slice(&read));
    }

    fn argmax(&self, tensor: TensorId, row: usize, width: usize) -> u32 {
        let mut tape = self.tape();
        if tape.run_count() == RUNS {
            self.submit(&mut tape, |_| ());
        }
        let upload = (self.byte_of(tensor, row) / 4) as u32;
        let run = tape.run(Run { rows: width as u32, upload, log: NONE, ..Run::default() });
        let index = self.dispatches.len() - 1;
        let kernel = Kernel::Argmax;
        tape.entries.push(Entry::Dispatch { kernel, index, run, x: 1, y: 1, rows: 1 });
        let read = self.read_back(&mut tape, &self.buffers.result, 0, 4);
        bytemuck::pod_read_unaligned(&read)
    }

    fn wait(&self) {
        let mut tape = self.tape();
        if !tape.entries.is_empty() {
            self.submit(&mut tape, |_| ());
        }
        self.gpu.wait();
    }
}

/// What kernels are told of a job.
fn run_of(job: &Job<'_>) -> Run {
    let word = |id: TensorId| (job.model.plan_of(id).offset / 4) as u32;
    let stride = |id: TensorId| job.model.plan_of(id).stride;
    let (shifted, shift) =
        job.shifted.map_or((NONE, 0), |(id, row)| (word(id), (row * stride(id)) as u32));
    let (stream, stream_stride) = job.stream.map_or((NONE, 0), |id| (word(id), stride(id) as u32));
    let span = job.log.map_or(Span::all(job.rows), Log::span);
    Run {
        rows: job.rows as u32,
        log: job.log.map_or(NONE, |log| log.rows as u32),
        replayed: span.replayed as u32,
        kept: span.kept as u32,
        cache_position: job.cache_position,
        selected: job.selected.start as u32,
        picked: job.selected.len() as u32,
        shifted,
        shift,
        stream,
        stream_stride,
        ..Run::default()
    }
}

/// Where the plan has a tensor; nowhere, if it is a weight.
fn planned(model: &Model<'_>, id: TensorId) -> Planned {
    match model.program().tensor(id).kind {
        Kind::Weight { .. } => Planned { offset: 0, width: 0, stride: 0 },
        Kind::State | Kind::Activation => model.plan_of(id),
    }
}
