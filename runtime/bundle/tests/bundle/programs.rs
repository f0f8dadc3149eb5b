//! Programs that are wrong in one place, and what is said about them.

use std::collections::BTreeSet;

use dynamax_bundle::{
    Bundle, BundleError, DType, Exit, Kind, Layout, Op, ProgramBuf, Rows, Segment, Tensor,
    TensorId, check,
};
use proptest::prelude::*;

use crate::exercise::open;
use crate::sample::{hybrid, tiny};

/// The operator of this name, the `nth` of them.
fn find<'p>(program: &'p mut ProgramBuf, name: &str, nth: usize) -> &'p mut Op {
    program.ops.iter_mut().filter(|op| op.name() == name).nth(nth).unwrap()
}

/// Changes the fields of the first operator of its kind.
macro_rules! set {
    ($program:ident, $kind:ident { $($field:ident = $value:expr),+ }) => {
        for op in &mut $program.ops {
            if let Op::$kind { $($field,)+ .. } = op {
                $(*$field = $value;)+
                break;
            }
        }
    };
}

/// Changes the tensor that the first operator of its kind has in this place.
macro_rules! tensor {
    ($program:ident, $kind:ident . $field:ident) => {{
        let op = $program.ops.iter().find(|op| matches!(op, Op::$kind { .. })).unwrap();
        let Op::$kind { $field, .. } = *op else { unreachable!() };
        &mut $program.tensors[$field.index()]
    }};
}

type Change = fn(&mut ProgramBuf);

/// What is changed, the code that answers, and why.
const WRONG: &[(u16, &str, Change)] = &[
    (100, "65,536 tensors", |p| p.tensors.resize(65_536, Tensor::EMPTY)),
    (100, "17 exits", |p| p.exits.resize(17, Exit::EMPTY)),
    (101, "an f16 activation", |p| tensor!(p, Silu.out).dtype = DType::F16),
    (101, "an activation of two rows", |p| tensor!(p, Silu.out).rows = Rows::Fixed(2)),
    (101, "a cached activation", |p| tensor!(p, Silu.out).rows = Rows::Cache { window: 0 }),
    (101, "an f16 state", |p| tensor!(p, SelectiveScan.state).dtype = DType::F16),
    (101, "a state with a row for each token", |p| tensor!(p, CausalConv.state).rows = Rows::Many),
    (101, "a q8 cache", |p| tensor!(p, Attention.k_cache).dtype = DType::Q8),
    (101, "a plain f16 weight", |p| tensor!(p, RmsNorm.weight).dtype = DType::F16),
    (101, "a weight with a row for each token", |p| tensor!(p, Embed.table).rows = Rows::Many),
    (102, "no columns", |p| tensor!(p, Silu.out).width = 0),
    (102, "too many columns", |p| tensor!(p, Silu.out).width = (1 << 24) + 1),
    (102, "no rows", |p| tensor!(p, CausalConv.state).rows = Rows::Fixed(0)),
    (102, "too many numbers", |p| {
        let table = tensor!(p, Embed.table);
        (table.rows, table.width) = (Rows::Fixed(1 << 24), 1 << 13);
    }),
    (103, "the first segment starts late", |p| p.segments[0].first_op = 1),
    (103, "a gap", |p| p.segments[1].first_op += 1),
    (104, "an empty segment", |p| p.segments[0].end_op = 0),
    (104, "an end before the start", |p| p.segments[1].end_op = 3),
    (104, "no head", |p| p.segments[2].end_op = p.ops.len() as u16),
    (104, "no operators", |p| p.ops.clear()),
    (105, "fewer layers", |p| p.segments[1].layers = 0),
    (105, "fewer layers than before", |p| p.segments[0].layers = 9),
    (106, "no segments", |p| p.segments.clear()),
    (107, "a residual of another segment", |p| p.segments[1].residual = p.segments[0].residual),
    (107, "a residual that is a weight", |p| p.segments[1].residual = TensorId(0)),
    (107, "a residual that is not there", |p| p.segments[1].residual = TensorId(999)),
    (108, "a residual of another width", |p| {
        // Up to the projection of the last layer, which is wider.
        let end = p.segments[2].end_op - 5;
        (p.segments[1].end_op, p.segments[2].first_op) = (end, end);
        p.segments[1].residual = p.ops[usize::from(end) - 1].operands().output;
    }),
    (107, "a segment too short", |p| p.segments[2].end_op -= 1),
    (109, "a head that starts otherwise", |p| {
        let Op::Select { x, out } = *find(p, "select", 0) else { unreachable!() };
        *find(p, "select", 0) = Op::Silu { x, out };
    }),
    (109, "an exit's head that starts otherwise", |p| {
        let start = p.exits[0].head().start;
        let Op::Select { x, out } = p.ops[start] else { unreachable!() };
        p.ops[start] = Op::Silu { x, out };
    }),
    (110, "a head on another residual", |p| set!(p, Select { x = p.segments[1].residual })),
    (111, "other logits", |p| p.logits = p.segments[0].residual),
    (111, "logits that are not there", |p| p.logits = TensorId(u16::MAX)),
    (112, "an operand that is not there", |p| set!(p, Silu { x = TensorId(u16::MAX) })),
    (113, "a weight for an activation", |p| set!(p, Silu { x = TensorId(0) })),
    (113, "a state for an activation", |p| {
        let Op::Attention { k_cache, .. } = *find(p, "attention", 0) else { unreachable!() };
        set!(p, Silu { x = k_cache });
    }),
    (113, "a weight for an output", |p| set!(p, Silu { out = TensorId(0) })),
    (113, "a plain weight for a matrix", |p| set!(p, Embed { table = TensorId(1) })),
    (113, "a tiled weight for a vector", |p| set!(p, RmsNorm { weight = TensorId(0) })),
    (113, "a fixed state for a cache", |p| {
        let cache = tensor!(p, Attention.k_cache);
        (cache.rows, cache.dtype) = (Rows::Fixed(1), DType::F32);
    }),
    (113, "a cache for a fixed state", |p| {
        tensor!(p, SelectiveScan.state).rows = Rows::Cache { window: 0 };
    }),
    (114, "embed.out", |p| tensor!(p, Embed.out).width = 9),
    (114, "rms_norm.weight", |p| tensor!(p, RmsNorm.weight).width = 4),
    (114, "linear.x", |p| {
        let Op::RopeAngles { out, .. } = *find(p, "rope_angles", 0) else { unreachable!() };
        set!(p, Linear { x = out });
    }),
    (114, "linear.bias", |p| tensor!(p, GatedRmsNorm.weight).width = 9),
    (114, "rope.angles", |p| tensor!(p, RopeAngles.inv_freq).width = 3),
    (114, "attention.v", |p| {
        let Op::Attention { q, .. } = *find(p, "attention", 0) else { unreachable!() };
        set!(p, Attention { v = q });
    }),
    (114, "state_space_dual.dt", |p| {
        let Op::StateSpaceDual { xbc, .. } = *find(p, "state_space_dual", 0) else {
            unreachable!()
        };
        set!(p, StateSpaceDual { dt = xbc });
    }),
    (114, "attention.v_cache", |p| tensor!(p, Attention.v_cache).width = 8),
    (114, "causal_conv.weight", |p| tensor!(p, CausalConv.weight).width = 9),
    (114, "causal_conv.state", |p| tensor!(p, CausalConv.state).width = 7),
    (114, "selective_scan.a", |p| tensor!(p, SelectiveScan.a).width = 9),
    (114, "selective_scan.bc", |p| tensor!(p, SelectiveScan.a).rows = Rows::Fixed(3)),
    (114, "selective_scan.d", |p| tensor!(p, SelectiveScan.d).width = 1),
    (114, "state_space_dual.xbc", |p| set!(p, StateSpaceDual { n_groups = 2 })),
    (114, "state_space_dual.xbc, overflowing", |p| set!(p, StateSpaceDual { d_state = u32::MAX })),
    (114, "state_space_dual.dt_bias", |p| tensor!(p, StateSpaceDual.a).width = 3),
    (114, "state_space_dual.state", |p| tensor!(p, StateSpaceDual.state).width = 8),
    (115, "rms_norm.weight", |p| tensor!(p, RmsNorm.weight).rows = Rows::Fixed(2)),
    (115, "causal_conv.state", |p| tensor!(p, CausalConv.state).rows = Rows::Fixed(4)),
    (115, "selective_scan.state", |p| tensor!(p, SelectiveScan.state).rows = Rows::Fixed(1)),
    (115, "state_space_dual.state", |p| tensor!(p, StateSpaceDual.state).rows = Rows::Fixed(5)),
    (116, "rms_norm.group", |p| set!(p, RmsNorm { group = 3 })),
    (116, "rms_norm.group of nothing", |p| set!(p, RmsNorm { group = 0 })),
    (116, "gated_rms_norm.group", |p| set!(p, GatedRmsNorm { group = 16 })),
    (116, "rope.head_dim", |p| set!(p, Rope { head_dim = 0 })),
    (116, "attention.n_heads", |p| set!(p, Attention { n_heads = 3 })),
    (116, "attention.n_kv_heads", |p| set!(p, Attention { n_kv_heads = 0 })),
    (116, "state_space_dual.n_heads", |p| set!(p, StateSpaceDual { n_heads = 0 })),
    (116, "state_space_dual.n_groups", |p| set!(p, StateSpaceDual { n_groups = 3 })),
    (117, "rms_norm.eps", |p| set!(p, RmsNorm { eps = f32::NAN })),
    (117, "rms_norm.eps, infinite", |p| set!(p, RmsNorm { eps = f32::INFINITY })),
    (117, "gated_rms_norm.eps", |p| set!(p, GatedRmsNorm { eps = -1.0 })),
    (117, "rope.head_dim, odd", |p| set!(p, Rope { head_dim = 1 })),
    (117, "attention.scale", |p| set!(p, Attention { scale = f32::INFINITY })),
    (117, "state_space_dual.d_state", |p| set!(p, StateSpaceDual { d_state = 0 })),
    (117, "state_space_dual.dt_min", |p| set!(p, StateSpaceDual { dt_min = f32::NAN })),
    (117, "state_space_dual.dt_max", |p| set!(p, StateSpaceDual { dt_max = -0.5 })),
    (117, "state_space_dual.dt_max, no number", |p| set!(p, StateSpaceDual { dt_max = f32::NAN })),
    (118, "caches of two windows", |p| {
        tensor!(p, Attention.v_cache).rows = Rows::Cache { window: 8 };
    }),
    (118, "caches of two dtypes", |p| tensor!(p, Attention.v_cache).dtype = DType::F32),
    (119, "one row before the head", |p| tensor!(p, Silu.out).rows = Rows::Fixed(1)),
    (119, "many rows in the head", |p| {
        let logits = p.logits.index();
        p.tensors[logits].rows = Rows::Many;
    }),
    (119, "a head that reads around the select", |p| {
        let residual = p.segments[2].residual;
        let Op::RmsNorm { x, .. } = find(p, "rms_norm", 2) else { unreachable!() };
        *x = residual;
    }),
    (120, "a select before the head", |p| {
        let Op::Silu { x, out } = *find(p, "silu", 0) else { unreachable!() };
        *find(p, "silu", 0) = Op::Select { x, out };
    }),
    (120, "an embedding in the head", |p| {
        let last = p.as_program().head().end - 2;
        p.ops[last] = Op::Embed { table: TensorId(0), out: p.ops[last].operands().output };
    }),
    (121, "read before written", |p| set!(p, Silu { x = p.segments[2].residual })),
    (122, "written twice", |p| set!(p, Silu { out = p.segments[0].residual })),
    (123, "in place", |p| {
        let Op::Silu { x, .. } = *find(p, "silu", 0) else { unreachable!() };
        set!(p, Silu { out = x });
    }),
    (124, "one cache for both", |p| {
        let Op::Attention { k_cache, .. } = *find(p, "attention", 0) else { unreachable!() };
        set!(p, Attention { v_cache = k_cache });
    }),
    (125, "an activation that nobody writes", |p| {
        p.tensors.push(Tensor { width: 1, rows: Rows::Many, ..Tensor::EMPTY });
    }),
    (125, "a state that nobody updates", |p| {
        let state = Tensor { kind: Kind::State, width: 1, rows: Rows::Fixed(1), ..Tensor::EMPTY };
        p.tensors.push(state);
    }),
    (127, "a segment that reads behind its residual", |p| {
        let (first, second) = (p.segments[0].ops(), p.segments[1].residual);
        let older = p.ops[first.start].operands().output;
        let last = p.ops.iter_mut().find(|op| op.operands().output == second).unwrap();
        let Op::Add { a, .. } = last else { unreachable!() };
        *a = older;
    }),
    (127, "an exit that reads the residual of another", |p| {
        let (residual, first) = (p.segments[2].residual, usize::from(p.exits[0].first_op));
        let Op::Select { x, .. } = &mut p.ops[first] else { unreachable!() };
        *x = residual;
    }),
    (128, "an exit in the head", |p| p.exits[0].first_op = p.segments[2].end_op),
    (128, "a gap between exits", |p| p.exits[1].first_op += 1),
    (128, "an exit that ends early", |p| p.exits[1].end_op -= 1),
    (128, "a probe of nothing", |p| p.exits[0].probe_end = p.exits[0].first_op),
    (128, "no head of an exit", |p| p.exits[0].end_op = p.exits[0].probe_end),
    (129, "an exit at the last segment", |p| p.exits[1].segment = 2),
    (129, "an exit where none is", |p| p.exits[1].segment = 9),
    (129, "two exits at one segment", |p| p.exits[1].segment = 0),
    (130, "another score", |p| p.exits[0].score = p.exits[0].logits),
    (130, "logits for a score", |p| p.exits[0].logits = p.exits[0].score),
    (130, "three answers of a probe", |p| {
        let (score, last) = (p.exits[0].score.index(), p.exits[0].probe().end - 1);
        let Op::Linear { weight, .. } = p.ops[last] else { unreachable!() };
        p.tensors[score].width = 3;
        p.tensors[weight.index()].rows = Rows::Fixed(3);
    }),
    (120, "a probe that selects twice", |p| {
        let probe = p.exits[0].probe();
        let Op::Select { out, .. } = p.ops[probe.start] else { unreachable!() };
        let score = p.ops[probe.start + 1].operands().output;
        p.tensors[score.index()].width = 8;
        p.ops[probe.start + 1] = Op::Select { x: out, out: score };
    }),
    (120, "a probe that asks for positions", |p| {
        let probe = p.exits[1].probe();
        let Op::RopeAngles { inv_freq, .. } = *find(p, "rope_angles", 0) else { unreachable!() };
        let out = p.ops[probe.start].operands().output;
        p.ops[probe.start] = Op::RopeAngles { inv_freq, out };
    }),
    (126, "a table for fewer tokens", |p| {
        let kind = Kind::Weight { section: 0, layout: Layout::Tiled };
        p.tensors.push(Tensor { dtype: DType::Q4, rows: Rows::Fixed(4), width: 8, kind });
        set!(p, Embed { table = TensorId(p.tensors.len() as u16 - 1) });
    }),
];

#[test]
fn a_program_wrong_in_one_place_is_refused_for_that() {
    let sound = hybrid().program;
    assert_eq!(check::program(&sound.as_program()), Ok(()), "before any change");
    for &(expected, what, change) in WRONG {
        let mut program = sound.clone();
        change(&mut program);
        let error = check::program(&program.as_program());
        assert_eq!(error.map_or_else(|error| error.code(), |()| 0), expected, "{what}: {error:?}");
        let sentence = error.unwrap_err().to_string();
        assert!(sentence.len() > 18, "{what}: {sentence}");
    }
}

#[test]
fn every_reason_to_refuse_a_program_has_an_example() {
    let codes: BTreeSet<u16> = WRONG.iter().map(|&(code, ..)| code).collect();
    assert_eq!(codes, (100..=130).collect(), "codes");
}

#[test]
fn the_empty_program_is_refused() {
    let program = ProgramBuf {
        tensors: vec![],
        ops: vec![],
        segments: vec![],
        exits: vec![],
        logits: TensorId(0),
    };
    assert!(check::program(&program.as_program()).is_err(), "nothing at all");
}

#[test]
fn a_bundle_with_an_unsound_program_parses_and_is_not_read() {
    let mut sample = tiny();
    sample.program.logits = TensorId(2);
    let file = sample.file_unchecked(|_, _, _| ());
    let bundle = Bundle::parse(&file).unwrap();
    assert_eq!(bundle.verify(), Ok(()), "its hashes are right");
    let error = bundle.program_buf().unwrap_err();
    assert!(matches!(error, BundleError::Program(_)) && error.code() == 111, "{error}");
}

/// Replaces the `nth` number in the postcard form of a value, which reaches every field of it.
fn mutate<T: serde::Serialize + serde::de::DeserializeOwned + Copy>(
    value: T,
    at: usize,
    byte: u8,
) -> T {
    let mut bytes = postcard::to_allocvec(&value).unwrap();
    let at = at % bytes.len();
    bytes[at] = byte;
    // A longer number needs bytes that are not there.
    bytes.extend([0; 8]);
    postcard::take_from_bytes(&bytes).map_or(value, |(value, _)| value)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn a_mutated_program_is_refused_or_its_facts_hold(
        changes in prop::collection::vec((0..4_usize, any::<usize>(), any::<usize>(), 0..64_u8), 1..4)
    ) {
        let mut sample = hybrid();
        let ProgramBuf { tensors, ops, segments, exits, .. } = &mut sample.program;
        for (list, index, at, byte) in changes {
            match list {
                0 => { let i = index % tensors.len(); tensors[i] = mutate::<Tensor>(tensors[i], at, byte); }
                1 => { let i = index % ops.len(); ops[i] = mutate::<Op>(ops[i], at, byte); }
                2 => { let i = index % exits.len(); exits[i] = mutate::<Exit>(exits[i], at, byte); }
                _ => {
                    let i = index % segments.len();
                    segments[i] = mutate::<Segment>(segments[i], at, byte);
                }
            }
        }
        // Checks the facts of what is accepted, and that it is read as it was written.
        let file = sample.file_unchecked(|_, _, _| ());
        if open(&file).is_ok() {
            let bundle = Bundle::parse(&file).unwrap();
            prop_assert_eq!(bundle.program_buf().unwrap(), sample.program, "as written");
        }
    }
}
