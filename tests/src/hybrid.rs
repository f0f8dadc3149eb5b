//! Small models with awkward widths: one with every operator, and one of each architecture. All have an exit behind each of
//! the first two layers.

use dynamax_bundle::{
    Activation, DType, Exit, Kind, Layout, MetaBuf, Op, ProgramBuf, Rows, SectionKind, SectionSpec,
    Segment, Tensor, TensorId, TokenIds, Writer,
};
use dynamax_engine::Line;
use dynamax_kernels::format::{Format, PANEL};
use dynamax_kernels::quantize::pack_panel;

use crate::random::Random;

mod exits;

/// Ids of the model.
pub const VOCAB_SIZE: u32 = 83;
/// Their sliding window: shorter than the sequences that tests feed it.
pub const WINDOW: u32 = 19;

const D_MODEL: u32 = 40;
const D_INNER: u32 = 48;
const EPS: f32 = 1e-5;
/// The embedding table, which is the head as well.
const TABLE: TensorId = TensorId(0);

/// A bundle in memory.
#[derive(Debug)]
pub struct Hybrid {
    lines: Vec<Line>,
    len: usize,
}

impl Hybrid {
    /// Some bundle, copied to an aligned place.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self { lines: Line::copy_from(bytes), len: bytes.len() }
    }

    /// Its bytes, aligned as a mapped file's.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        Line::as_bytes(&self.lines, self.len)
    }
}

/// Makes the model with matrices stored as `quant` and caches as `kv`.
///
/// # Panics
///
/// Panics if the bundle's own checks refuse it, which is a defect.
#[must_use]
pub fn hybrid(quant: DType, kv: DType) -> Hybrid {
    let mut model = Model { random: Random::new(7), quant, kv, ..Model::default() };
    let x = model.embed();
    let layers: [Layer; 3] = [Model::attention_layer, Model::mamba_layer, Model::mamba2_layer];
    model.assemble(x, &layers, EXITS)
}

/// The same with two attention layers of equal weights in front, whose layers all add nothing to the residual stream:
/// whatever stands for a skipped layer's input, it is that input.
///
/// # Panics
///
/// As [`hybrid`].
#[must_use]
pub fn flat(quant: DType, kv: DType) -> Hybrid {
    let mut model = Model { random: Random::new(7), quant, kv, gain: 0.0, ..Model::default() };
    let x = model.embed();
    let twin: Layer = |model, x| {
        let start = model.random.clone();
        let x = model.attention_layer(x);
        model.random = start;
        x
    };
    model.assemble(
        x,
        &[twin, Model::attention_layer, Model::mamba_layer, Model::mamba2_layer],
        EXITS,
    )
}

/// One layer decides, then a Mamba block.
const EXITS: [MakeExit; 2] = [Model::calm_exit, Model::mamba_exit];

/// What a model's layers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// Selective scans.
    Mamba,
    /// State-space duality.
    Mamba2,
    /// Attention over all that came before, several queries to a key.
    Attention,
    /// Attention over a sliding window, in a ring, a key to each query.
    Window,
}

impl Architecture {
    /// All.
    pub const ALL: [Self; 4] = [Self::Mamba, Self::Mamba2, Self::Attention, Self::Window];
}

/// Three layers of one architecture, with an exit of a feed-forward block, and one of a layer or, behind Mamba, of a block
/// of its kind.
///
/// # Panics
///
/// As [`hybrid`].
#[must_use]
pub fn pure(architecture: Architecture, quant: DType, kv: DType) -> Hybrid {
    let mut model = Model { random: Random::new(11), quant, kv, ..Model::default() };
    let x = model.embed();
    let (layer, second): (Layer, MakeExit) = match architecture {
        Architecture::Mamba => (Model::mamba_layer, Model::mamba_exit),
        Architecture::Mamba2 => (Model::mamba2_layer, Model::mamba_exit),
        Architecture::Attention => (Model::full_attention_layer, Model::calm_exit),
        Architecture::Window => (Model::attention_layer_of_heads, Model::calm_exit),
    };
    model.assemble(x, &[layer; 3], [Model::ffn_exit, second])
}

/// Adds the exit behind a segment, given the head's norm and table.
type MakeExit = fn(&mut Model, usize, TensorId, TensorId);

/// Adds a layer to the residual stream.
type Layer = fn(&mut Model, TensorId) -> TensorId;

impl Model {
    /// Adds layers, the head and exits, and packs the whole.
    fn assemble(mut self, x: TensorId, layers: &[Layer], exits: [MakeExit; 2]) -> Hybrid {
        let mut x = x;
        for (layers, layer) in (1..).zip(layers) {
            x = layer(&mut self, x);
            let first_op = self.segments.last().map_or(0, |last| last.end_op);
            let end_op = self.ops.len() as u16;
            self.segments.push(Segment { first_op, end_op, residual: x, layers });
        }
        let (norm, table) = (self.vector(D_MODEL, 1.0, 0.2), TABLE);
        let logits = self.head(x, norm, table);
        for (segment, exit) in exits.into_iter().enumerate() {
            exit(&mut self, segment, norm, table);
        }
        let (quant, kv, n_layers) = (self.quant, self.kv, layers.len() as u32);
        let program = ProgramBuf {
            segments: self.segments,
            tensors: self.tensors,
            ops: self.ops,
            exits: self.exits,
            logits,
        };
        pack(quant, kv, n_layers, program, self.specs, &self.sections)
    }
}

fn pack(
    quant: DType,
    kv: DType,
    n_layers: u32,
    program: ProgramBuf,
    specs: Vec<SectionSpec>,
    sections: &[Vec<u8>],
) -> Hybrid {
    let meta = MetaBuf {
        architecture: "hybrid".into(),
        name: "hybrid".into(),
        created_by: "tests".into(),
        quant,
        params: 1,
        d_model: D_MODEL,
        n_layers,
        vocab_size: VOCAB_SIZE,
        context_max: 4096,
        context: 64,
        max_rows: 8,
        kv,
        bos: None,
        eos: TokenIds::default(),
    };
    let sections: Vec<&[u8]> = sections.iter().map(Vec::as_slice).collect();
    let bytes = Writer::new(meta, program, specs).expect("the model is sound").assemble(&sections);
    Hybrid { lines: Line::copy_from(&bytes), len: bytes.len() }
}

struct Model {
    random: Random,
    quant: DType,
    kv: DType,
    tensors: Vec<Tensor>,
    ops: Vec<Op>,
    specs: Vec<SectionSpec>,
    sections: Vec<Vec<u8>>,
    segments: Vec<Segment>,
    exits: Vec<Exit>,
    /// What layers add to the residual stream is multiplied with this.
    gain: f32,
    /// Weights being made are.
    scale: f32,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            random: Random::new(1),
            quant: DType::F32,
            kv: DType::F32,
            tensors: Vec::new(),
            ops: Vec::new(),
            specs: Vec::new(),
            sections: Vec::new(),
            segments: Vec::new(),
            exits: Vec::new(),
            gain: 1.0,
            scale: 1.0,
        }
    }
}

impl Model {
    fn embed(&mut self) -> TensorId {
        let table = self.matrix(VOCAB_SIZE, D_MODEL);
        assert_eq!(table, TABLE, "the first tensor");
        self.op(D_MODEL, |out| Op::Embed { table, out })
    }

    /// Selects, norms, and scores every token: the model's head, or an exit's.
    fn head(&mut self, residual: TensorId, weight: TensorId, table: TensorId) -> TensorId {
        let x = self.select(residual, D_MODEL);
        let x = self.activation(Rows::Fixed(1), D_MODEL, |out| Op::RmsNorm {
            x,
            weight,
            out,
            group: D_MODEL,
            eps: EPS,
        });
        let bias = None;
        let weight = table;
        self.activation(Rows::Fixed(1), VOCAB_SIZE, |out| Op::Linear { x, weight, bias, out })
    }

    fn select(&mut self, x: TensorId, width: u32) -> TensorId {
        self.activation(Rows::Fixed(1), width, |out| Op::Select { x, out })
    }

    /// Four heads over two, a sliding window.
    fn attention_layer(&mut self, x: TensorId) -> TensorId {
        self.attention(x, 2, WINDOW)
    }

    /// Four heads over four, a sliding window.
    fn attention_layer_of_heads(&mut self, x: TensorId) -> TensorId {
        self.attention(x, 4, WINDOW)
    }

    /// Four heads over two, all that came before.
    fn full_attention_layer(&mut self, x: TensorId) -> TensorId {
        self.attention(x, 2, 0)
    }

    /// Query norm, rotary positions, four heads, and a SwiGLU block.
    fn attention(&mut self, x: TensorId, n_kv_heads: u32, window: u32) -> TensorId {
        const HEAD_DIM: u32 = 12;
        let kv_width = n_kv_heads * HEAD_DIM;
        let h = self.norm(x, D_MODEL);
        let q = self.linear(h, 4 * HEAD_DIM, true);
        let k = self.linear(h, kv_width, true);
        let v = self.linear(h, kv_width, false);
        let weight = self.vector(HEAD_DIM, 1.0, 0.2);
        let q = self.op(4 * HEAD_DIM, |out| Op::RmsNorm {
            x: q,
            weight,
            out,
            group: HEAD_DIM,
            eps: EPS,
        });
        let inv_freq = self.vector(HEAD_DIM / 2, 0.5, 0.4);
        let angles = self.op(HEAD_DIM, |out| Op::RopeAngles { inv_freq, out });
        let q = self.op(4 * HEAD_DIM, |out| Op::Rope { x: q, angles, out, head_dim: HEAD_DIM });
        let k = self.op(kv_width, |out| Op::Rope { x: k, angles, out, head_dim: HEAD_DIM });
        let (rows, width, dtype) = (Rows::Cache { window }, kv_width, self.kv);
        let [k_cache, v_cache] =
            [0; 2].map(|_| self.tensor(Tensor { dtype, rows, width, kind: Kind::State }));
        let o = self.op(4 * HEAD_DIM, |out| Op::Attention {
            q,
            k,
            v,
            k_cache,
            v_cache,
            out,
            n_heads: 4,
            n_kv_heads,
            scale: 0.3,
        });
        let o = self.back(o, false);
        let x = self.op(D_MODEL, |out| Op::Add { a: x, b: o, out });
        let h = self.norm(x, D_MODEL);
        let gate = self.linear(h, 70, false);
        let up = self.linear(h, 70, false);
        let y = self.op(70, |out| Op::SwiGlu { gate, up, out });
        let y = self.back(y, false);
        self.op(D_MODEL, |out| Op::Add { a: x, b: y, out })
    }

    fn mamba_layer(&mut self, x: TensorId) -> TensorId {
        const D_STATE: u32 = 5;
        let h = self.norm(x, D_MODEL);
        let u = self.linear(h, D_INNER, false);
        let z = self.linear(h, D_INNER, false);
        let u = self.conv(u, D_INNER, Activation::Identity);
        let u = self.op(D_INNER, |out| Op::Silu { x: u, out });
        let dt = self.linear(u, 3, false);
        let bc = self.linear(u, 2 * D_STATE, false);
        let dt = self.linear(dt, D_INNER, true);
        let a = self.plain(D_STATE, D_INNER, -1.5, 1.0);
        let d = self.vector(D_INNER, 1.0, 0.2);
        let state = self.state(D_STATE, D_INNER);
        let y = self.op(D_INNER, |out| Op::SelectiveScan { x: u, dt, bc, a, d, state, out });
        let y = self.op(D_INNER, |out| Op::SwiGlu { gate: z, up: y, out });
        let y = self.back(y, false);
        self.op(D_MODEL, |out| Op::Add { a: x, b: y, out })
    }

    fn mamba2_layer(&mut self, x: TensorId) -> TensorId {
        const N_HEADS: u32 = 6;
        const N_GROUPS: u32 = 2;
        const D_STATE: u32 = 7;
        let width = D_INNER + 2 * N_GROUPS * D_STATE;
        let h = self.norm(x, D_MODEL);
        let gate = self.linear(h, D_INNER, false);
        let xbc = self.linear(h, width, false);
        let dt = self.linear(h, N_HEADS, false);
        let xbc = self.conv(xbc, width, Activation::Silu);
        let dt_bias = self.vector(N_HEADS, -2.0, 1.0);
        let a = self.vector(N_HEADS, -4.0, 3.0);
        let d = self.vector(N_HEADS, 1.0, 0.2);
        let state = self.state(N_HEADS * D_STATE, D_INNER / N_HEADS);
        let y = self.op(D_INNER, |out| Op::StateSpaceDual {
            xbc,
            dt,
            dt_bias,
            a,
            d,
            state,
            out,
            n_heads: N_HEADS,
            n_groups: N_GROUPS,
            d_state: D_STATE,
            dt_min: 0.001,
            dt_max: f32::INFINITY,
        });
        let weight = self.vector(D_INNER, 1.0, 0.2);
        let group = D_INNER / N_GROUPS;
        let y =
            self.op(D_INNER, |out| Op::GatedRmsNorm { x: y, gate, weight, out, group, eps: EPS });
        let y = self.back(y, true);
        self.op(D_MODEL, |out| Op::Add { a: x, b: y, out })
    }

    fn conv(&mut self, x: TensorId, channels: u32, activation: Activation) -> TensorId {
        let weight = self.plain(4, channels, 0.0, 0.6);
        let bias = Some(self.vector(channels, 0.0, 0.1));
        let state = self.state(3, channels);
        self.op(channels, |out| Op::CausalConv { x, weight, bias, state, out, activation })
    }

    fn norm(&mut self, x: TensorId, width: u32) -> TensorId {
        let weight = self.vector(width, 1.0, 0.2);
        self.op(width, |out| Op::RmsNorm { x, weight, out, group: width, eps: EPS })
    }

    fn linear(&mut self, x: TensorId, d_out: u32, has_bias: bool) -> TensorId {
        let d_in = self.tensors[x.index()].width;
        let weight = self.matrix(d_out, d_in);
        let bias = has_bias.then(|| self.vector(d_out, 0.0, 0.1));
        self.op(d_out, |out| Op::Linear { x, weight, bias, out })
    }

    /// A projection to what is added to the residual stream.
    fn back(&mut self, x: TensorId, has_bias: bool) -> TensorId {
        self.scale = self.gain;
        let out = self.linear(x, D_MODEL, has_bias);
        self.scale = 1.0;
        out
    }

    fn op(&mut self, width: u32, op: impl FnOnce(TensorId) -> Op) -> TensorId {
        self.activation(Rows::Many, width, op)
    }

    fn activation(&mut self, rows: Rows, width: u32, op: impl FnOnce(TensorId) -> Op) -> TensorId {
        let out = self.tensor(Tensor { dtype: DType::F32, rows, width, kind: Kind::Activation });
        self.ops.push(op(out));
        out
    }

    fn tensor(&mut self, tensor: Tensor) -> TensorId {
        self.tensors.push(tensor);
        TensorId(self.tensors.len() as u16 - 1)
    }

    fn state(&mut self, rows: u32, width: u32) -> TensorId {
        self.tensor(Tensor { dtype: DType::F32, rows: Rows::Fixed(rows), width, kind: Kind::State })
    }

    fn vector(&mut self, width: u32, mean: f32, spread: f32) -> TensorId {
        self.plain(1, width, mean, spread)
    }

    fn plain(&mut self, rows: u32, width: u32, mean: f32, spread: f32) -> TensorId {
        let scale = self.scale;
        let numbers = (0..rows * width)
            .flat_map(|_| (scale * (mean + spread * self.random.unit())).to_le_bytes())
            .collect();
        self.weight(DType::F32, rows, width, Layout::Plain, numbers)
    }

    fn matrix(&mut self, d_out: u32, d_in: u32) -> TensorId {
        let format = match self.quant {
            DType::F32 => Format::F32,
            DType::F16 => Format::F16,
            DType::Q8 => Format::Q8,
            DType::Q4 => Format::Q4,
        };
        let scale = self.scale * 1.7 / (d_in as f32).sqrt();
        let numbers: Vec<f32> = (0..d_out * d_in).map(|_| scale * self.random.unit()).collect();
        let panel_bytes = format.panel_bytes(d_in as usize).expect("small");
        let mut bytes = Vec::new();
        for rows in numbers.chunks(PANEL * d_in as usize) {
            let mut panel = vec![0; panel_bytes];
            pack_panel(format, rows, d_in as usize, &mut panel).expect("finite");
            bytes.extend(panel);
        }
        self.weight(self.quant, d_out, d_in, Layout::Tiled, bytes)
    }

    fn weight(
        &mut self,
        dtype: DType,
        rows: u32,
        width: u32,
        layout: Layout,
        bytes: Vec<u8>,
    ) -> TensorId {
        let section = self.sections.len() as u16;
        let (name, kind, len) =
            (format!("weight.{section}"), SectionKind::Weight, bytes.len() as u64);
        self.specs.push(SectionSpec { name, kind, len });
        self.sections.push(bytes);
        self.tensor(Tensor {
            dtype,
            rows: Rows::Fixed(rows),
            width,
            kind: Kind::Weight { section, layout },
        })
    }
}
