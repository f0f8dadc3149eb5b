//! Buffers by the plan: the arena as one, each state for itself, and small ones for what goes to and fro.

use dynamax_bundle::{Op, TensorId};
use dynamax_engine::Model;

use crate::gpu::{Gpu, Unavailable};
use crate::lower::{Constants, Draft};
use crate::plan::{RUN_BYTES, UNIFORM_ALIGN, arena_bytes, state_bytes};
use crate::tape::Run;
use crate::weights::Piece;

/// All that is on the GPU beside weights.
#[derive(Debug)]
pub(crate) struct Buffers {
    pub(crate) arena: wgpu::Buffer,
    /// One for each tensor that is a state.
    pub(crate) states: Vec<Option<wgpu::Buffer>>,
    pub(crate) runs: wgpu::Buffer,
    pub(crate) uploads: wgpu::Buffer,
    pub(crate) result: wgpu::Buffer,
    pub(crate) staging: wgpu::Buffer,
}

/// A dispatch with its buffers bound.
#[derive(Debug)]
pub(crate) struct Dispatch {
    pub(crate) draft: Draft,
    pub(crate) bindings: wgpu::BindGroup,
}

impl Buffers {
    /// Makes all buffers of a plan.
    pub(crate) fn new(
        gpu: &Gpu,
        model: &Model<'_>,
        upload_words: usize,
    ) -> Result<Self, Unavailable> {
        check_heads(model)?;
        let arena_bytes = arena_bytes(model);
        gpu.check("an arena", arena_bytes)?;
        let ids = (0..model.program().tensors.len()).map(|index| TensorId(index as u16));
        let state = |id: TensorId| {
            let Some(bytes) = state_bytes(model, id) else { return Ok(None) };
            gpu.check("a state", bytes)?;
            gpu.buffer("a state", bytes).map(Some)
        };
        let states = ids.map(state).collect::<Result<_, Unavailable>>()?;
        let vocab_bytes = u64::from(model.vocab_size()) * 4;
        let (to, from) = (wgpu::BufferUsages::COPY_DST, wgpu::BufferUsages::MAP_READ);
        Ok(Self {
            arena: gpu.buffer("an arena", arena_bytes)?,
            states,
            runs: gpu.buffer_for("runs", RUN_BYTES, wgpu::BufferUsages::UNIFORM | to)?,
            uploads: gpu.buffer("uploads", upload_words as u64 * 4)?,
            result: gpu.buffer("a result", 16)?,
            staging: gpu.buffer_for("logits", vocab_bytes, from | to)?,
        })
    }

    /// Binds the buffers of all dispatches.
    pub(crate) fn bind(
        &self,
        gpu: &Gpu,
        layout: &wgpu::BindGroupLayout,
        weights: &[Vec<Piece>],
        drafts: Vec<Draft>,
    ) -> Result<Vec<Dispatch>, Unavailable> {
        let mut bytes = vec![0; drafts.len() * UNIFORM_ALIGN as usize];
        for (bytes, draft) in bytes.chunks_exact_mut(UNIFORM_ALIGN as usize).zip(&drafts) {
            bytes[..size_of::<Constants>()].copy_from_slice(bytemuck::bytes_of(&draft.constants));
        }
        let (uniform, to) = (wgpu::BufferUsages::UNIFORM, wgpu::BufferUsages::COPY_DST);
        let constants = gpu.buffer_for("constants", bytes.len() as u64, uniform | to)?;
        gpu.fill(&constants, "constants", &bytes)?;
        // What a kernel does not use is bound all the same.
        let (nothing, idle) = (gpu.buffer("nothing", 16)?, gpu.buffer("nothing", 16)?);
        let bind = |(index, draft): (u64, Draft)| {
            let weight = |place: usize| match draft.weights[place] {
                Some((id, piece)) => &weights[id.index()][piece].buffer,
                None => &nothing,
            };
            let state = |place: usize| {
                let held = draft.states[place].and_then(|id| self.states[id.index()].as_ref());
                held.unwrap_or(if place == 0 { &self.result } else { &idle })
            };
            let buffers =
                [&self.arena, weight(0), weight(1), weight(2), state(0), state(1), &self.uploads];
            let uniforms = [
                part(&constants, index * UNIFORM_ALIGN, size_of::<Constants>()),
                part(&self.runs, 0, size_of::<Run>()),
            ];
            let whole = buffers.map(wgpu::Buffer::as_entire_binding);
            let entry = |(binding, resource)| wgpu::BindGroupEntry { binding, resource };
            let entries: Vec<_> = (0..).zip(uniforms.into_iter().chain(whole)).map(entry).collect();
            let bindings = gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: None,
                layout,
                entries: &entries,
            });
            Dispatch { draft, bindings }
        };
        Ok((0..).zip(drafts).map(bind).collect())
    }
}

fn part(buffer: &wgpu::Buffer, offset: u64, bytes: usize) -> wgpu::BindingResource<'_> {
    let size = wgpu::BufferSize::new(bytes as u64);
    wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset, size })
}

/// Refuses heads that the attention kernel does not have: it takes pairs of numbers, and four for each thread at most.
fn check_heads(model: &Model<'_>) -> Result<(), Unavailable> {
    for op in model.program().ops {
        if let Op::Attention { k, n_kv_heads, .. } = *op {
            let width = model.program().tensor(k).width / n_kv_heads;
            if !width.is_multiple_of(2) || width > 256 {
                return Err(Unavailable::Head(width));
            }
        }
    }
    Ok(())
}
