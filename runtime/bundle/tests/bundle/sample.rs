//! Small bundles, and a second writer that writes them as it is told, right or wrong.

use dynamax_bundle::{
    Activation, Classifier, DType, Exit, Hash, Hasher, Kind, Layout, MetaBuf, Op, ProgramBuf, Rows,
    SectionKind, SectionSpec, Segment, Tensor, TensorId, TokenIds, Writer,
};

/// One section, and what the table is to say about it.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) kind: SectionKind,
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

/// All that a bundle holds.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) meta: MetaBuf,
    pub(crate) program: ProgramBuf,
    pub(crate) sections: Vec<Stored>,
}

impl Sample {
    fn new(d_model: u32, vocab_size: u32) -> Self {
        let meta = MetaBuf {
            architecture: "tiny".into(),
            name: "sample".into(),
            created_by: "tests".into(),
            quant: DType::Q4,
            params: 12,
            d_model,
            n_layers: 0,
            vocab_size,
            context_max: 64,
            context: 32,
            max_rows: 4,
            kv: DType::F16,
            bos: Some(1),
            eos: TokenIds::new(&[0]).unwrap(),
        };
        let program = ProgramBuf {
            tensors: vec![],
            ops: vec![],
            segments: vec![],
            exits: vec![],
            logits: TensorId(0),
        };
        Self { meta, program, sections: vec![] }
    }

    pub(crate) fn specs(&self) -> Vec<SectionSpec> {
        let spec = |section: &Stored| SectionSpec {
            name: section.name.clone(),
            kind: section.kind,
            len: section.bytes.len() as u64,
        };
        self.sections.iter().map(spec).collect()
    }

    pub(crate) fn writer(&self) -> Writer {
        Writer::new(self.meta.clone(), self.program.clone(), self.specs()).unwrap()
    }

    /// The file, by the writer.
    pub(crate) fn file(&self) -> Vec<u8> {
        let sections: Vec<&[u8]> = self.sections.iter().map(|section| &*section.bytes).collect();
        self.writer().assemble(&sections)
    }

    /// The file, by hand from `docs/FORMAT.md`: nothing is checked. `table` may change what the section table says.
    pub(crate) fn file_unchecked(&self, table: impl Fn(usize, &mut u64, &mut u64)) -> Vec<u8> {
        let lists = [
            self.sections.len() as u16,
            self.program.tensors.len() as u16,
            self.program.ops.len() as u16,
            self.program.segments.len() as u16,
            self.program.exits.len() as u16,
            self.program.logits.0,
        ];
        let mut front = postcard::to_allocvec(&(self.meta.as_meta(), lists)).unwrap();
        let mut behind = Vec::new();
        let mut put = |bytes: Vec<u8>| behind.extend(bytes);
        let program = &self.program;
        self.sections.iter().for_each(|part| put(postcard::to_allocvec(&part.name).unwrap()));
        program.tensors.iter().for_each(|part| put(postcard::to_allocvec(part).unwrap()));
        program.ops.iter().for_each(|part| put(postcard::to_allocvec(part).unwrap()));
        program.segments.iter().for_each(|part| put(postcard::to_allocvec(part).unwrap()));
        program.exits.iter().for_each(|part| put(postcard::to_allocvec(part).unwrap()));

        let header_bytes = front.len() + 49 * self.sections.len() + behind.len();
        let mut body = vec![0; (64 + header_bytes).next_multiple_of(64)];
        for (index, section) in self.sections.iter().enumerate() {
            let (mut offset, mut len) = (body.len() as u64, section.bytes.len() as u64);
            table(index, &mut offset, &mut len);
            front.push(section.kind as u8);
            front.extend(offset.to_le_bytes());
            front.extend(len.to_le_bytes());
            front.extend(Hash::of(&section.bytes).0);
            body.extend(&section.bytes);
            body.resize(body.len().next_multiple_of(64), 0);
        }
        front.extend(behind);
        body[64..64 + header_bytes].copy_from_slice(&front);
        body[..8].copy_from_slice(b"\x89DMX\r\n\x1a\n");
        body[8] = 2;
        body[12..16].copy_from_slice(&(header_bytes as u32).to_le_bytes());
        seal(&mut body);
        body
    }

    fn push(&mut self, dtype: DType, rows: Rows, width: u32, kind: Kind) -> TensorId {
        self.program.tensors.push(Tensor { dtype, rows, width, kind });
        TensorId(self.program.tensors.len() as u16 - 1)
    }

    fn weight(&mut self, name: &str, layout: Layout, rows: u32, width: u32) -> TensorId {
        let section = self.sections.len() as u16;
        let dtype = if layout == Layout::Plain { DType::F32 } else { DType::Q4 };
        let id = self.push(dtype, Rows::Fixed(rows), width, Kind::Weight { section, layout });
        let len = self.program.tensors[id.index()].stored_bytes().unwrap();
        let bytes = (0..len).map(|at| (at * 7 + u64::from(section)) as u8 | 1).collect();
        self.sections.push(Stored { kind: SectionKind::Weight, name: name.into(), bytes });
        id
    }

    fn matrix(&mut self, name: &str, rows: u32, width: u32) -> TensorId {
        self.weight(name, Layout::Tiled, rows, width)
    }

    fn vector(&mut self, name: &str, width: u32) -> TensorId {
        self.weight(name, Layout::Plain, 1, width)
    }

    fn many(&mut self, width: u32) -> TensorId {
        self.push(DType::F32, Rows::Many, width, Kind::Activation)
    }

    fn one(&mut self, width: u32) -> TensorId {
        self.push(DType::F32, Rows::Fixed(1), width, Kind::Activation)
    }

    fn state(&mut self, rows: u32, width: u32) -> TensorId {
        self.push(DType::F32, Rows::Fixed(rows), width, Kind::State)
    }

    fn op(&mut self, op: Op) -> TensorId {
        self.program.ops.push(op);
        op.operands().output
    }

    fn linear(&mut self, x: TensorId, weight: TensorId) -> TensorId {
        let Rows::Fixed(d_out) = self.program.tensors[weight.index()].rows else { unreachable!() };
        let out = self.many(d_out);
        self.op(Op::Linear { x, weight, bias: None, out })
    }

    fn add(&mut self, a: TensorId, b: TensorId) -> TensorId {
        let out = self.many(self.program.tensors[a.index()].width);
        self.op(Op::Add { a, b, out })
    }

    fn end_segment(&mut self, residual: TensorId) {
        let first_op = self.program.segments.last().map_or(0, |segment| segment.end_op);
        let layers = self.program.segments.len() as u16;
        let end_op = self.program.ops.len() as u16;
        self.program.segments.push(Segment { first_op, end_op, residual, layers });
        self.meta.n_layers = layers.into();
    }
}

/// Makes prelude and file agree again after the file was changed, as its hash guards only against accidents.
pub(crate) fn seal(file: &mut [u8]) {
    let len = file.len() as u64;
    file[16..24].copy_from_slice(&len.to_le_bytes());
    let header_bytes = u32::from_le_bytes(file[12..16].try_into().unwrap()) as usize;
    let end = (64 + header_bytes).min(file.len());
    let mut hasher = Hasher::new();
    hasher.update(&file[..32]);
    hasher.update(&file[64..end]);
    let hash = hasher.finish();
    file[32..64].copy_from_slice(&hash.0);
}

/// The smallest model: embed, norm, logits. It is the one in `docs/FORMAT.md`.
pub(crate) fn tiny() -> Sample {
    let mut s = Sample::new(4, 3);
    let table = s.matrix("embed.table", 3, 4);
    let weight = s.vector("norm.weight", 4);
    let residual = s.many(4);
    s.op(Op::Embed { table, out: residual });
    s.end_segment(residual);
    let row = s.one(4);
    s.op(Op::Select { x: residual, out: row });
    let normed = s.one(4);
    s.op(Op::RmsNorm { x: row, weight, out: normed, group: 4, eps: 1e-5 });
    let logits = s.one(3);
    s.program.logits = s.op(Op::Linear { x: normed, weight: table, bias: None, out: logits });
    s
}

/// Every operator once at least: an attention layer, a Mamba layer and a Mamba-2 layer, with an exit behind the first
/// two.
pub(crate) fn hybrid() -> Sample {
    let mut s = Sample::new(8, 5);
    let table = s.matrix("embed.table", 5, 8);
    let norm = s.vector("norm.weight", 8);
    let h = s.many(8);
    s.op(Op::Embed { table, out: h });
    let h = attention_layer(&mut s, h, norm);
    s.end_segment(h);
    let h = mamba_layer(&mut s, h);
    s.end_segment(h);
    let h = mamba2_layer(&mut s, h);
    s.end_segment(h);
    let row = s.one(8);
    s.op(Op::Select { x: h, out: row });
    let normed = s.one(8);
    s.op(Op::RmsNorm { x: row, weight: norm, out: normed, group: 8, eps: 1e-5 });
    let logits = s.one(5);
    s.program.logits = s.op(Op::Linear { x: normed, weight: table, bias: None, out: logits });
    calm_exit(&mut s, norm, table);
    mamba_exit(&mut s, norm, table);
    (1..).zip(&mut s.program.segments).for_each(|(layers, segment)| segment.layers = layers);
    s.meta.n_layers = 3;
    let tokenizer = br#"{"model":{}}"#.to_vec();
    let name = "tokenizer.json".to_owned();
    s.sections.push(Stored { kind: SectionKind::Tokenizer, name, bytes: tokenizer });
    s
}

/// One layer decides, on one row.
fn calm_exit(s: &mut Sample, norm: TensorId, table: TensorId) {
    let (first_op, residual) = (s.program.ops.len() as u16, s.program.segments[0].residual);
    let (row, score) = (s.one(8), s.one(2));
    s.op(Op::Select { x: residual, out: row });
    let weight = s.matrix("calm", 2, 8);
    s.op(Op::Linear { x: row, weight, bias: None, out: score });
    exit_head(s, Classifier::Calm, first_op, score, norm, table);
}

/// A Mamba block decides: it has a state, so it sees every row, and selects last.
fn mamba_exit(s: &mut Sample, norm: TensorId, table: TensorId) {
    let (first_op, residual) = (s.program.ops.len() as u16, s.program.segments[1].residual);
    let weight = s.matrix("probe.in", 4, 8);
    let x = s.linear(residual, weight);
    let weight = s.weight("probe.conv", Layout::Plain, 2, 4);
    let (state, out) = (s.state(1, 4), s.many(4));
    s.op(Op::CausalConv { x, weight, bias: None, state, out, activation: Activation::Silu });
    let (row, score) = (s.one(4), s.one(2));
    s.op(Op::Select { x: out, out: row });
    let weight = s.matrix("probe.out", 2, 4);
    s.op(Op::Linear { x: row, weight, bias: None, out: score });
    exit_head(s, Classifier::Mamba, first_op, score, norm, table);
}

fn exit_head(
    s: &mut Sample,
    classifier: Classifier,
    first_op: u16,
    score: TensorId,
    norm: TensorId,
    table: TensorId,
) {
    let (segment, probe_end) = (s.program.exits.len() as u16, s.program.ops.len() as u16);
    let (row, normed, logits) = (s.one(8), s.one(8), s.one(5));
    let x = s.program.segments[usize::from(segment)].residual;
    s.op(Op::Select { x, out: row });
    s.op(Op::RmsNorm { x: row, weight: norm, out: normed, group: 8, eps: 1e-5 });
    s.op(Op::Linear { x: normed, weight: table, bias: None, out: logits });
    let end_op = s.program.ops.len() as u16;
    let exit = Exit { segment, classifier, first_op, probe_end, end_op, score, logits };
    s.program.exits.push(exit);
}

fn attention_layer(s: &mut Sample, h: TensorId, norm: TensorId) -> TensorId {
    let inv_freq = s.vector("rope.inv_freq", 2);
    let angles = s.many(4);
    s.op(Op::RopeAngles { inv_freq, out: angles });
    let x = s.many(8);
    s.op(Op::RmsNorm { x: h, weight: norm, out: x, group: 8, eps: 0.0 });
    let (wide, narrow) = (s.matrix("wide", 8, 8), s.matrix("narrow", 4, 8));
    let bias = s.vector("bias", 8);
    let q = s.many(8);
    s.op(Op::Linear { x, weight: wide, bias: Some(bias), out: q });
    let (k, v) = (s.linear(x, narrow), s.linear(x, narrow));
    let (head_norm, normed) = (s.vector("q_norm", 4), s.many(8));
    s.op(Op::RmsNorm { x: q, weight: head_norm, out: normed, group: 4, eps: 1e-6 });
    let (q, k_turned) = (s.many(8), s.many(4));
    s.op(Op::Rope { x: normed, angles, out: q, head_dim: 4 });
    s.op(Op::Rope { x: k, angles, out: k_turned, head_dim: 4 });
    let cache = Rows::Cache { window: 16 };
    let k_cache = s.push(DType::F16, cache, 4, Kind::State);
    let v_cache = s.push(DType::F16, cache, 4, Kind::State);
    let out = s.many(8);
    let (n_heads, n_kv_heads, scale) = (2, 1, 0.5);
    let attention =
        Op::Attention { q, k: k_turned, v, k_cache, v_cache, out, n_heads, n_kv_heads, scale };
    s.op(attention);
    let mixed = s.linear(out, wide);
    let h = s.add(h, mixed);
    let (gate, up) = (s.linear(h, wide), s.linear(h, wide));
    let ff = s.many(8);
    s.op(Op::SwiGlu { gate, up, out: ff });
    s.add(h, ff)
}

fn mamba_layer(s: &mut Sample, h: TensorId) -> TensorId {
    let (wide, narrow) = (TensorId(0), s.matrix("bc_proj", 4, 8));
    assert_eq!(s.program.tensors[wide.index()].width, 8, "the table");
    let (conv, state, x) = (s.weight("conv", Layout::Plain, 4, 8), s.state(3, 8), s.many(8));
    let activation = Activation::Silu;
    s.op(Op::CausalConv { x: h, weight: conv, bias: None, state, out: x, activation });
    let bc = s.linear(x, narrow);
    let dt_proj = s.matrix("dt_proj", 8, 8);
    let dt = s.linear(x, dt_proj);
    let (a, d) = (s.weight("a", Layout::Plain, 2, 8), s.vector("d", 8));
    let (state, out) = (s.state(2, 8), s.many(8));
    s.op(Op::SelectiveScan { x, dt, bc, a, d, state, out });
    let gated = s.many(8);
    s.op(Op::Silu { x: out, out: gated });
    s.add(h, gated)
}

fn mamba2_layer(s: &mut Sample, h: TensorId) -> TensorId {
    let (xbc_proj, dt_proj) = (s.matrix("xbc_proj", 12, 8), s.matrix("dt2_proj", 2, 8));
    let (raw, dt) = (s.linear(h, xbc_proj), s.linear(h, dt_proj));
    let (conv, bias) = (s.weight("conv2", Layout::Plain, 2, 12), s.vector("conv2_bias", 12));
    let (state, xbc) = (s.state(1, 12), s.many(12));
    let activation = Activation::Identity;
    s.op(Op::CausalConv { x: raw, weight: conv, bias: Some(bias), state, out: xbc, activation });
    let head = s.vector("per_head", 2);
    let (state, out) = (s.state(4, 4), s.many(8));
    s.op(Op::StateSpaceDual {
        xbc,
        dt,
        dt_bias: head,
        a: head,
        d: head,
        state,
        out,
        n_heads: 2,
        n_groups: 1,
        d_state: 2,
        dt_min: 0.0,
        dt_max: f32::INFINITY,
    });
    let (weight, normed) = (s.vector("gated_norm", 8), s.many(8));
    s.op(Op::GatedRmsNorm { x: out, gate: h, weight, out: normed, group: 4, eps: 1e-5 });
    s.add(h, normed)
}
