//! Does with a bundle all that a device does, and checks that what is accepted is what it claims to be.
//!
//! One function, run by the fuzzer on what it finds, and by the plain tests on the corpus and seeded changes of it.

use std::collections::HashSet;
use std::ops::Range;

use dynamax_bundle::{
    Bundle, BundleError, Hasher, Kind, Op, Program, Rows, SIGNATURE_BYTES, SIGNATURE_MAGIC,
    SectionKind, SectionSpec, TensorId, Writer,
};

/// Opens `bytes` as they are, and again with a prelude that fits them, so that the hash does not hide what is
/// behind. Returns whether either was accepted.
pub(crate) fn exercise(bytes: &[u8]) -> bool {
    let accepted = open(bytes).is_ok();
    let mut sealed = bytes.to_vec();
    seal(&mut sealed);
    open(&sealed).is_ok() | accepted
}

/// What a device does at its start.
pub(crate) fn open(bytes: &[u8]) -> Result<(), BundleError> {
    let result = open_and_check(bytes);
    if let Err(error) = result {
        let sentence = error.to_string();
        assert!(sentence.contains("; ") && error.code() > 0, "says what to do: {sentence}");
    }
    result
}

fn open_and_check(bytes: &[u8]) -> Result<(), BundleError> {
    let bundle = Bundle::parse(bytes)?;
    sections_are_in_place(bytes, &bundle);
    let verified = bundle.verify();
    // One thread, this one: the fuzzer takes what the C library keeps for each new thread for a leak.
    assert_eq!(verified, bundle.verify_parallel(1), "in any order");
    let program = bundle.program_buf()?;
    let program = program.as_program();
    facts_hold(&bundle, &program);
    verified?;
    emit_again(&bundle);
    Ok(())
}

/// The prelude that fits the rest of the file, if the file has room for it.
fn seal(file: &mut [u8]) {
    // A file that ends with a signature keeps it.
    let signed = file.len().checked_sub(SIGNATURE_BYTES);
    let signed = signed.filter(|&at| file[at..].starts_with(&SIGNATURE_MAGIC));
    let len = signed.unwrap_or(file.len());
    if len < 64 {
        return;
    }
    file[..8].copy_from_slice(&dynamax_bundle::MAGIC);
    file[8..12].copy_from_slice(&dynamax_bundle::FORMAT_VERSION.to_le_bytes());
    file[16..24].copy_from_slice(&(len as u64).to_le_bytes());
    file[24..32].fill(0);
    let header = u32::from_le_bytes([file[12], file[13], file[14], file[15]]) as usize;
    let Some(end) = header.checked_add(64).filter(|&end| end <= len) else { return };
    let mut hasher = Hasher::new();
    hasher.update(&file[..32]);
    hasher.update(&file[64..end]);
    let hash = hasher.finish();
    file[32..64].copy_from_slice(&hash.0);
}

fn sections_are_in_place(bytes: &[u8], bundle: &Bundle<'_>) {
    let count = bundle.counts().sections;
    assert_eq!(bundle.sections().count(), count, "sections");
    let trailer = bundle.signature().map_or(0, |_| SIGNATURE_BYTES);
    if let Some(signature) = bundle.signature() {
        assert!(bytes.ends_with(&signature.emit()), "the signature is the trailer");
    }
    let mut end = 64;
    for (index, section) in bundle.sections().enumerate() {
        let start = section.offset as usize;
        assert!(start.is_multiple_of(64) && start >= end, "section {index} starts at {start}");
        end = start + section.bytes.len();
        assert_eq!(&bytes[start..end], section.bytes, "section {index}");
        assert_eq!(bundle.section(index), section.bytes, "section {index}, by its index");
    }
    assert!(
        end.next_multiple_of(64) + trailer == bytes.len() || count == 0,
        "the last section ends it"
    );
    assert!(bundle.section(count).is_empty(), "a section that is not there");
    assert!(bundle.verify_section(count).is_err(), "a section that is not there");
}

/// What the planner and the engine rely on, told a second time and more simply.
fn facts_hold(bundle: &Bundle<'_>, program: &Program<'_>) {
    let meta = bundle.meta();
    let mut touched = HashSet::new();
    for (index, op) in program.ops.iter().enumerate() {
        let operands = op.operands();
        for id in operands.inputs.into_iter().flatten() {
            let written = touched.contains(&id);
            let is_weight = matches!(program.tensor(id).kind, Kind::Weight { .. });
            assert!(is_weight || written, "operator {index} reads what is not written");
            assert_ne!(id, operands.output, "operator {index} reads its output");
        }
        assert_eq!(program.tensor(operands.output).kind, Kind::Activation, "output of {index}");
        assert!(touched.insert(operands.output), "operator {index} writes once more");
        for id in operands.states.into_iter().flatten() {
            assert_eq!(program.tensor(id).kind, Kind::State, "state of operator {index}");
            assert!(touched.insert(id), "operator {index} updates once more");
        }
        shapes_fit(program, op);
    }
    for segment in program.segments {
        part_is_alone(program, segment.ops(), None);
    }
    part_is_alone(program, program.head(), Some(0));
    exits_follow(program);
    for (index, tensor) in program.tensors.iter().enumerate() {
        if let Kind::Weight { section, .. } = tensor.kind {
            let len = bundle.section(section.into()).len() as u64;
            assert_eq!(tensor.stored_bytes(), Some(len), "tensor {index}");
        } else {
            assert!(touched.contains(&TensorId(index as u16)), "tensor {index} is used");
        }
    }
    let mut start = 0;
    for segment in program.segments {
        assert_eq!(segment.ops().start, start, "segments follow each other");
        start = segment.ops().end;
        let residual = program.tensor(segment.residual);
        assert_eq!((residual.width, residual.rows), (meta.d_model, Rows::Many), "residual");
    }
    assert!(!program.segments.is_empty() && start < program.ops.len(), "a segment and a head");
    let logits = program.tensor(program.logits);
    assert_eq!((logits.width, logits.rows), (meta.vocab_size, Rows::Fixed(1)), "logits");
}

/// A part reads of others nothing but one residual, and has one row from its select on: `Some(0)` for a head, whose
/// select is first.
fn part_is_alone(program: &Program<'_>, ops: Range<usize>, select: Option<usize>) {
    let is_select = |index: &usize| matches!(program.ops[*index], Op::Select { .. });
    let selects: Vec<usize> = ops.clone().filter(is_select).collect();
    assert!(selects.len() <= 1, "at most one select from {ops:?}");
    assert!(select.is_none_or(|at| selects == [ops.start + at]), "a head of {ops:?} selects first");
    let own: HashSet<TensorId> =
        ops.clone().map(|index| program.ops[index].operands().output).collect();
    let mut foreign = HashSet::new();
    for index in ops {
        let operands = program.ops[index].operands();
        let behind = selects.first().is_some_and(|select| index >= *select);
        let rows = if behind { Rows::Fixed(1) } else { Rows::Many };
        assert_eq!(program.tensor(operands.output).rows, rows, "rows of operator {index}");
        let has_states = operands.states.iter().any(Option::is_some);
        assert!(!has_states || !behind, "operator {index} updates a state from one row");
        let activation = |id: &TensorId| program.tensor(*id).kind == Kind::Activation;
        let read = operands.inputs.into_iter().flatten().filter(activation);
        foreign.extend(read.filter(|id| !own.contains(id)));
    }
    let residual = |id: &TensorId| program.segments.iter().any(|segment| segment.residual == *id);
    assert!(foreign.len() <= 1 && foreign.iter().all(residual), "only a residual passes");
}

fn exits_follow(program: &Program<'_>) {
    let (mut end, mut segment) = (program.head().end, None);
    for exit in program.exits {
        assert!(segment < Some(exit.segment), "exits are in the order of their segments");
        assert!(usize::from(exit.segment) + 1 < program.segments.len(), "none at the last");
        assert_eq!((exit.probe().start, exit.probe().end), (end, exit.head().start), "no gap");
        assert!(!exit.probe().is_empty(), "a probe");
        part_is_alone(program, exit.probe(), None);
        part_is_alone(program, exit.head(), Some(0));
        let widths = [exit.score, exit.logits].map(|id| program.tensor(id).width);
        assert_eq!(widths, [2, program.tensor(program.logits).width], "score and logits");
        (end, segment) = (exit.head().end, Some(exit.segment));
    }
    assert_eq!(end, program.ops.len(), "the last exit ends the list");
}

/// As far as kernels index: no further than what is there.
fn shapes_fit(program: &Program<'_>, op: &Op) {
    let width = |id| u64::from(program.tensor(id).width);
    let numbers = |id| match program.tensor(id).rows {
        Rows::Fixed(rows) => u64::from(rows) * width(id),
        Rows::Many | Rows::Cache { .. } => width(id),
    };
    match *op {
        Op::Linear { x, weight, bias, out } => {
            assert_eq!(numbers(weight), width(x) * width(out), "weight");
            assert!(bias.is_none_or(|bias| numbers(bias) == width(out)), "bias");
        }
        Op::RmsNorm { x, weight, out, group, .. } => {
            assert!(width(x) == width(out) && width(x).is_multiple_of(group.into()), "groups");
            assert!(width(x).is_multiple_of(numbers(weight)), "the weight repeats");
        }
        Op::Rope { x, angles, head_dim, .. } => {
            assert_eq!(width(angles), u64::from(head_dim / 2 * 2), "cosines and sines");
            assert!(width(x).is_multiple_of(head_dim.into()), "heads");
        }
        Op::Attention { q, k, v, k_cache, v_cache, n_heads, n_kv_heads, .. } => {
            assert_eq!(width(q) * u64::from(n_kv_heads), width(k) * u64::from(n_heads), "heads");
            assert!([v, k_cache, v_cache].iter().all(|&id| width(id) == width(k)), "caches");
        }
        Op::CausalConv { x, weight, state, .. } => {
            assert_eq!(numbers(weight), numbers(state) + width(x), "one more than the state");
        }
        Op::SelectiveScan { x, bc, a, d, state, .. } => {
            assert_eq!(2 * numbers(a), width(bc) * width(x), "a");
            assert!(numbers(state) == numbers(a) && numbers(d) == width(x), "state and d");
        }
        Op::StateSpaceDual { xbc, dt, state, out, n_groups, d_state, .. } => {
            let bc = 2 * u64::from(n_groups) * u64::from(d_state);
            assert_eq!(width(xbc), width(out) + bc, "x, b and c");
            assert_eq!(numbers(state), width(out) * u64::from(d_state), "state");
            assert!(width(dt).is_multiple_of(n_groups.into()), "groups");
        }
        _ => {}
    }
}

/// What was read, written once more, reads the same.
fn emit_again(bundle: &Bundle<'_>) {
    let spec = |(index, section): (usize, dynamax_bundle::Section<'_>)| SectionSpec {
        // Only the writer refuses two weights of one name.
        name: match section.kind {
            SectionKind::Weight => format!("{index}"),
            _ => section.name.to_owned(),
        },
        kind: section.kind,
        len: section.bytes.len() as u64,
    };
    let specs = bundle.sections().enumerate().map(spec).collect();
    let sections: Vec<&[u8]> = bundle.sections().map(|section| section.bytes).collect();
    let Ok(program) = bundle.program_buf() else { return };
    let writer = Writer::new(bundle.meta().to_buf(), program.clone(), specs);
    let file = writer.map(|writer| writer.assemble(&sections));
    assert!(file.is_ok(), "the writer accepts what the reader accepts: {file:?}");
    let file = file.unwrap_or_default();
    let again = Bundle::parse(&file);
    assert!(again.is_ok(), "the reader accepts what the writer writes");
    if let Ok(again) = again {
        assert_eq!(again.meta(), bundle.meta(), "metadata");
        assert_eq!(again.program_buf(), Ok(program), "program");
    }
}
