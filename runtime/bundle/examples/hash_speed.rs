//! Measures how fast sections are hashed: `cargo run --release --features std --example hash_speed`.

use std::time::Instant;

use dynamax_bundle::{
    Bundle, DType, Kind, Layout, MetaBuf, Op, ProgramBuf, Rows, SectionKind, SectionSpec, Segment,
    Tensor, TensorId, TokenIds, Writer,
};

/// Bytes of each further section: about a matrix of a 1B model.
const SECTION_BYTES: usize = 8 << 20;
const SECTIONS: usize = 64;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = bundle()?;
    let bundle = Bundle::parse(&file)?;
    for threads in [1, 2, 4] {
        let best = (0..5)
            .map(|_| {
                let start = Instant::now();
                bundle.verify_parallel(threads).map(|()| start.elapsed().as_secs_f64())
            })
            .try_fold(f64::INFINITY, |best, seconds| seconds.map(|seconds| seconds.min(best)))?;
        let speed = file.len() as f64 / best / 1e9;
        println!("{threads} threads: {speed:.2} GB/s over {} MB, best of 5", file.len() >> 20);
    }
    Ok(())
}

/// The smallest Program, and large weights that it does not use.
fn bundle() -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let tensor = |rows, kind| Tensor { dtype: DType::F32, rows, width: 32, kind };
    let table = Kind::Weight { section: 0, layout: Layout::Tiled };
    let tensors = vec![
        tensor(Rows::Fixed(32), table),
        tensor(Rows::Many, Kind::Activation),
        tensor(Rows::Fixed(1), Kind::Activation),
        tensor(Rows::Fixed(1), Kind::Activation),
    ];
    let [weight, residual, row, logits] = [0, 1, 2, 3].map(TensorId);
    let ops = vec![
        Op::Embed { table: weight, out: residual },
        Op::Select { x: residual, out: row },
        Op::Linear { x: row, weight, bias: None, out: logits },
    ];
    let segments = vec![Segment { first_op: 0, end_op: 1, residual, layers: 0 }];
    let meta = MetaBuf {
        architecture: "none".into(),
        name: "hash speed".into(),
        created_by: "hash_speed".into(),
        quant: DType::F32,
        params: 0,
        d_model: 32,
        n_layers: 0,
        vocab_size: 32,
        context_max: 1,
        context: 1,
        max_rows: 1,
        kv: DType::F32,
        bos: None,
        eos: TokenIds::default(),
    };
    let mut lens = vec![4096];
    lens.resize(1 + SECTIONS, SECTION_BYTES);
    let spec = |(index, &len): (usize, &usize)| SectionSpec {
        name: format!("weight.{index}"),
        kind: SectionKind::Weight,
        len: len as u64,
    };
    let specs = lens.iter().enumerate().map(spec).collect();
    let program = ProgramBuf { tensors, ops, segments, exits: vec![], logits };
    let bytes: Vec<u8> = (0..SECTION_BYTES).map(|at| ((at * 31) >> 3) as u8).collect();
    let sections: Vec<&[u8]> = lens.iter().map(|&len| &bytes[..len]).collect();
    Ok(Writer::new(meta, program, specs)?.assemble(&sections))
}
