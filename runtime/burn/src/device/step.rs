//! One operator of the Program on Burn tensors.

use burn::backend::Dispatch;
use burn::tensor::kind::Basic;
use burn::tensor::{Int, Tensor};
use dynamax_bundle::{Activation as Function, Op, Rows, TensorId};
use dynamax_engine::Job;
use dynamax_engine::device::Log;
use dynamax_kernels::ops::Span;

use super::{BurnDevice, Memory, State, Weight};
use crate::Operators;
use crate::ops::{self, Activation, AttentionShape, DualShape};
use crate::stored::StoredOperators;

impl Memory {
    /// The rows of an activation that a job reads.
    fn read(&self, job: &Job<'_>, id: TensorId) -> Tensor<2> {
        let (id, first) = job.place(id);
        let held = self.activations[id.index()].as_ref();
        let held = held.unwrap_or_else(|| panic!("tensor {} is read before it is written", id.0));
        let rows = first..first + job.rows(id);
        if rows == (0..held.dims()[0]) {
            held.clone()
        } else {
            held.clone().narrow(0, first, rows.len())
        }
    }

    /// Rows that a recurrence goes over: drafts that it has answered before, then those that a job reads.
    fn history(&self, job: &Job<'_>, id: TensorId) -> Tensor<2> {
        let Some(log) = job.log else { return self.read(job, id) };
        let held = self.activations[id.index()].as_ref();
        let held = held.unwrap_or_else(|| panic!("tensor {} is read before it is written", id.0));
        held.clone().narrow(0, log.rows - log.drafts(), log.drafts() + job.rows)
    }

    /// Keeps the rows that a job wrote, behind those that wait.
    fn write(&mut self, job: &Job<'_>, id: TensorId, rows: Tensor<2>) {
        let (id, first) = job.place(id);
        let place = &mut self.activations[id.index()];
        *place = Some(match place.take() {
            Some(waiting) if first > 0 => Tensor::cat(vec![waiting.narrow(0, 0, first), rows], 0),
            _ => rows,
        });
    }

    /// Takes a state of floats out of its place, so that nobody else holds it.
    fn take(&mut self, id: TensorId) -> Tensor<2> {
        match self.states[id.index()].take() {
            Some(State::Floats(state)) => state,
            other => panic!("tensor {} is a state of floats, not {other:?}", id.0),
        }
    }

    fn put(&mut self, id: TensorId, state: Tensor<2>) {
        self.states[id.index()] = Some(State::Floats(state));
    }
}

impl BurnDevice {
    /// A plain weight.
    fn plain(&self, id: TensorId) -> Tensor<2> {
        match &self.weights[id.index()] {
            Some(Weight::Plain(weight)) => weight.clone(),
            other => panic!("tensor {} is a plain weight, not {other:?}", id.0),
        }
    }

    /// The dispatch's form of [`Self::plain`].
    fn numbers(&self, id: TensorId) -> burn::backend::tensor::FloatTensor<Dispatch> {
        self.plain(id).into_dispatch()
    }

    fn integers(&self, values: impl IntoIterator<Item = u32>) -> Tensor<1, Int> {
        let values: Vec<i64> = values.into_iter().map(i64::from).collect();
        let len = values.len();
        let data = burn::tensor::TensorData::new(values, [len]);
        Tensor::from_data(data, (&self.device, burn::tensor::DType::I64))
    }

    /// Runs operator `step`.
    pub(super) fn step(&self, memory: &mut Memory, job: &Job<'_>, step: usize) {
        let op = *job.op(step);
        let out = match op {
            Op::Embed { .. } | Op::Linear { .. } => self.product(memory, job, &op),
            Op::Attention { .. } => self.attention(memory, job, &op),
            Op::CausalConv { .. } => self.causal_conv(memory, job, &op),
            Op::SelectiveScan { .. } | Op::StateSpaceDual { .. } => self.scan(memory, job, &op),
            _ => self.rowwise(memory, job, &op),
        };
        memory.write(job, op.operands().output, out);
    }

    /// Moves a recurrence over the drafts that were logged.
    pub(super) fn settle_one(&self, memory: &mut Memory, job: &Job<'_>, step: usize) {
        let op = job.op(step);
        match op {
            Op::CausalConv { .. } => drop(self.causal_conv(memory, job, op)),
            Op::SelectiveScan { .. } | Op::StateSpaceDual { .. } => {
                drop(self.scan(memory, job, op));
            }
            _ => {}
        }
    }

    /// An operator without state whose weights, if any, are plain.
    fn rowwise(&self, memory: &Memory, job: &Job<'_>, op: &Op) -> Tensor<2> {
        let read = |id| memory.read(job, id).into_dispatch();
        let out = match *op {
            Op::RmsNorm { x, weight, group, eps, .. } => {
                Dispatch::rms_norm(read(x), self.numbers(weight), group as usize, eps)
            }
            Op::GatedRmsNorm { x, gate, weight, group, eps, .. } => {
                let weight = self.numbers(weight);
                Dispatch::gated_rms_norm(read(x), read(gate), weight, group as usize, eps)
            }
            Op::Add { a, b, .. } => {
                return ops::add(memory.read(job, a), memory.read(job, b));
            }
            Op::SwiGlu { gate, up, .. } => Dispatch::swiglu(read(gate), read(up)),
            Op::Silu { x, .. } => Dispatch::silu(read(x)),
            Op::RopeAngles { inv_freq, .. } => {
                let position = self.integers([job.position]).into_dispatch();
                Dispatch::rope_angles(self.numbers(inv_freq), position, job.rows)
            }
            Op::Rope { x, angles, .. } => Dispatch::rope(read(x), read(angles)),
            Op::Select { x, .. } => {
                let picked = &job.selected;
                return memory.read(job, x).narrow(0, picked.start, picked.len());
            }
            _ => unreachable!("has a state or a packed weight"),
        };
        Tensor::from_dispatch(out)
    }

    /// An operator with a packed weight.
    fn product(&self, memory: &Memory, job: &Job<'_>, op: &Op) -> Tensor<2> {
        let packed = |id: TensorId| match &self.weights[id.index()] {
            Some(Weight::Packed(weight, shape)) => (weight.clone().into_dispatch(), *shape),
            other => panic!("tensor {} is a packed weight, not {other:?}", id.0),
        };
        Tensor::from_dispatch(match *op {
            Op::Embed { table, .. } => {
                let (table, shape) = packed(table);
                let tokens = self.integers(job.tokens.iter().copied());
                Dispatch::embed_stored(table, tokens.into_dispatch(), shape)
            }
            Op::Linear { x, weight, bias, .. } => {
                let ((weight, shape), x) = (packed(weight), memory.read(job, x).into_dispatch());
                match bias {
                    None => Dispatch::linear_stored(x, weight, shape),
                    Some(bias) => {
                        Dispatch::linear_stored_with_bias(x, weight, self.numbers(bias), shape)
                    }
                }
            }
            _ => unreachable!("has no packed weight"),
        })
    }

    fn attention(&self, memory: &mut Memory, job: &Job<'_>, op: &Op) -> Tensor<2> {
        let Op::Attention { q, k, v, k_cache, v_cache, n_heads, n_kv_heads, scale, .. } = *op
        else {
            unreachable!("another operator")
        };
        let window = match job.model.program().tensor(k_cache).rows {
            Rows::Cache { window } => window as usize,
            Rows::Fixed(_) | Rows::Many => 0,
        };
        let (n_heads, n_kv_heads) = (n_heads as usize, n_kv_heads as usize);
        let shape = AttentionShape { n_heads, n_kv_heads, window, scale };
        let [q, k, v] = [q, k, v].map(|id| memory.read(job, id).into_dispatch());
        let at = self.integers([job.cache_position]).into_dispatch();
        let [keys, values] = [k_cache, v_cache].map(|id| memory.states[id.index()].take());
        let (out, keys, values) = match (keys, values) {
            (Some(State::Floats(keys)), Some(State::Floats(values))) => {
                let (keys, values) = (keys.into_dispatch(), values.into_dispatch());
                let (out, keys, values) = Dispatch::attend(q, k, v, keys, values, at, shape);
                let [keys, values] = [keys, values].map(Tensor::from_dispatch).map(State::Floats);
                (out, keys, values)
            }
            (Some(State::Halves(keys)), Some(State::Halves(values))) => {
                let (keys, values) = (keys.into_dispatch(), values.into_dispatch());
                let (out, keys, values) = Dispatch::attend_halves(q, k, v, keys, values, at, shape);
                let [keys, values] = [keys, values].map(Tensor::from_dispatch).map(State::Halves);
                (out, keys, values)
            }
            other => panic!("caches are there, and of one dtype: {other:?}"),
        };
        memory.states[k_cache.index()] = Some(keys);
        memory.states[v_cache.index()] = Some(values);
        Tensor::from_dispatch(out)
    }

    /// What attention does for a token whose answer is known: appends its key and value.
    pub(super) fn update(&self, memory: &mut Memory, job: &Job<'_>, step: usize) {
        let Op::Attention { k, v, k_cache, v_cache, n_kv_heads, .. } = *job.op(step) else {
            return self.step(memory, job, step);
        };
        for (rows, cache) in [(k, k_cache), (v, v_cache)] {
            let rows = memory.read(job, rows).into_dispatch();
            let at = self.integers([job.cache_position]).into_dispatch();
            let n_kv_heads = n_kv_heads as usize;
            let place = &mut memory.states[cache.index()];
            *place = place.take().map(|state| match state {
                State::Floats(cache) => State::Floats(Tensor::from_dispatch(Dispatch::append(
                    rows,
                    cache.into_dispatch(),
                    at,
                    n_kv_heads,
                ))),
                State::Halves(cache) => State::Halves(Tensor::from_dispatch(
                    Dispatch::append_halves(rows, cache.into_dispatch(), at, n_kv_heads),
                )),
            });
        }
    }

    /// Copies the newest place of one attention operator's caches to the same place of another's.
    pub(super) fn copy(&self, memory: &mut Memory, job: &Job<'_>, from: usize, to: usize) {
        let (
            Op::Attention { k_cache: from_k, v_cache: from_v, n_kv_heads, .. },
            Op::Attention { k_cache: to_k, v_cache: to_v, .. },
        ) = (*job.op(from), *job.op(to))
        else {
            return;
        };
        let heads = n_kv_heads as usize;
        for (from, to) in [(from_k, to_k), (from_v, to_v)] {
            let place = memory.states[to.index()].take();
            let copied = match (&memory.states[from.index()], place) {
                (Some(State::Floats(from)), Some(State::Floats(to))) => {
                    State::Floats(copy_place(from, to, heads, job.cache_position))
                }
                (Some(State::Halves(from)), Some(State::Halves(to))) => {
                    State::Halves(copy_place(from, to, heads, job.cache_position))
                }
                other => panic!("caches are there, and of one dtype: {other:?}"),
            };
            memory.states[to.index()] = Some(copied);
        }
    }

    fn causal_conv(&self, memory: &mut Memory, job: &Job<'_>, op: &Op) -> Tensor<2> {
        let Op::CausalConv { x, weight, bias, state, activation, .. } = *op else {
            unreachable!("another operator")
        };
        let activation = match activation {
            Function::Identity => Activation::Identity,
            Function::Silu => Activation::Silu,
        };
        let (x, weight) = (memory.history(job, x).into_dispatch(), self.numbers(weight));
        let (held, span) = (memory.take(state).into_dispatch(), span(job));
        let (out, held) = match bias {
            None => Dispatch::causal_conv_stored(x, weight, held, activation, span),
            Some(bias) => {
                let bias = self.numbers(bias);
                Dispatch::causal_conv_stored_with_bias(x, weight, bias, held, activation, span)
            }
        };
        memory.put(state, Tensor::from_dispatch(held));
        Tensor::from_dispatch(out)
    }

    /// A recurrence over the whole state.
    fn scan(&self, memory: &mut Memory, job: &Job<'_>, op: &Op) -> Tensor<2> {
        let read = |memory: &Memory, id| memory.history(job, id).into_dispatch();
        let span = span(job);
        let (out, state, held) = match *op {
            Op::SelectiveScan { x, dt, bc, a, d, state, .. } => {
                let [x, dt, bc] = [x, dt, bc].map(|id| read(memory, id));
                let (a, d, held) = (self.numbers(a), self.numbers(d), memory.take(state));
                let (out, held) =
                    Dispatch::selective_scan_stored(x, dt, bc, a, d, held.into_dispatch(), span);
                (out, state, held)
            }
            Op::StateSpaceDual { xbc, dt, dt_bias, a, d, state, .. } => {
                let [xbc, dt] = [xbc, dt].map(|id| read(memory, id));
                let [dt_bias, a, d] = [dt_bias, a, d].map(|id| self.numbers(id));
                let (held, how) = (memory.take(state).into_dispatch(), (dual_shape(op), span));
                let (out, held) =
                    Dispatch::state_space_dual_stored(xbc, dt, dt_bias, a, d, held, how);
                (out, state, held)
            }
            _ => unreachable!("another operator"),
        };
        memory.put(state, Tensor::from_dispatch(held));
        Tensor::from_dispatch(out)
    }
}

fn span(job: &Job<'_>) -> Span {
    job.log.map_or(Span::all(job.rows), Log::span)
}

fn dual_shape(op: &Op) -> DualShape {
    let Op::StateSpaceDual { n_heads, n_groups, d_state, dt_min, dt_max, .. } = *op else {
        unreachable!("another operator")
    };
    let [n_heads, n_groups, d_state] = [n_heads, n_groups, d_state].map(|count| count as usize);
    DualShape { n_heads, n_groups, d_state, dt_min, dt_max }
}

/// Copies one position of all heads. Caches are `[heads, capacity, head_dim]`, of capacities of their own.
fn copy_place<K: Basic>(
    from: &Tensor<2, K>,
    to: Tensor<2, K>,
    heads: usize,
    position: u32,
) -> Tensor<2, K> {
    let by_head = |cache: Tensor<2, K>| {
        let [capacity, width] = cache.dims();
        let slot = position as usize % capacity;
        (cache.reshape([heads, capacity, width / heads]), slot)
    };
    let dims = to.dims();
    let ((from, from_slot), (to, to_slot)) = (by_head(from.clone()), by_head(to));
    let place = |slot: usize| [0..heads, slot..slot + 1];
    to.slice_assign(place(to_slot), from.slice(place(from_slot))).reshape(dims)
}
