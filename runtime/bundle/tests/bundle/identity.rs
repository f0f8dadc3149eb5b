//! What is written is read back, through every door.

use dynamax_bundle::{
    Bundle, BundleError, Counts, DType, Exit, Hasher, Op, SectionKind, Segment, Tensor, TokenIds,
};
use proptest::prelude::*;

use crate::sample::{Sample, Stored, hybrid, tiny};

fn reads_back(sample: &Sample) {
    let file = sample.file();
    let bundle = Bundle::parse(&file).unwrap();
    assert_eq!(*bundle.meta(), sample.meta.as_meta(), "metadata");
    assert_eq!(bundle.meta().to_buf(), sample.meta, "metadata, owned");
    assert_eq!(bundle.program_buf().unwrap(), sample.program, "program");
    assert_eq!(bundle.counts().sections, sample.sections.len(), "sections");
    for (read, written) in bundle.sections().zip(&sample.sections) {
        let written = (written.kind, &*written.name, &*written.bytes);
        assert_eq!((read.kind, read.name, read.bytes), written, "section");
    }
    assert_eq!(bundle.verify(), Ok(()), "hashes");
}

#[test]
fn both_samples_read_back() {
    reads_back(&tiny());
    reads_back(&hybrid());
}

#[test]
fn the_writer_follows_the_format_document() {
    for sample in [tiny(), hybrid()] {
        assert_eq!(sample.file(), sample.file_unchecked(|_, _, _| ()), "two writers, one file");
    }
}

#[test]
fn a_streamed_file_equals_an_assembled_one() {
    let sample = hybrid();
    let writer = sample.writer();
    let mut file = vec![0; writer.file_len() as usize];
    let mut hashes = vec![];
    for (index, section) in sample.sections.iter().enumerate() {
        let mut hasher = Hasher::new();
        let mut at = writer.offset(index) as usize;
        for piece in section.bytes.chunks(10) {
            file[at..at + piece.len()].copy_from_slice(piece);
            hasher.update(piece);
            at += piece.len();
        }
        hashes.push(hasher.finish());
    }
    let header = writer.header(&hashes);
    assert_eq!(header.len() as u64, writer.offset(0), "up to the first section");
    file[..header.len()].copy_from_slice(&header);
    assert_eq!(file, sample.file(), "streamed");
}

#[test]
fn storage_one_too_small_is_refused_and_exact_storage_is_enough() {
    let sample = hybrid();
    let file = sample.file();
    let bundle = Bundle::parse(&file).unwrap();
    let counts = bundle.counts();
    let Counts { tensors, ops, segments, exits, .. } = counts;
    let read = |[tensors, ops, segments, exits]: [usize; 4]| {
        let mut tensors = vec![Tensor::EMPTY; tensors];
        let mut ops = vec![Op::EMPTY; ops];
        let mut segments = vec![Segment::EMPTY; segments];
        let mut exits = vec![Exit::EMPTY; exits];
        let program = bundle.read_program(&mut tensors, &mut ops, &mut segments, &mut exits);
        program.map(|program| assert_eq!(program, sample.program.as_program(), "read"))
    };
    let exact = [tensors, ops, segments, exits];
    assert_eq!(read(exact), Ok(()), "exact");
    assert_eq!(read([tensors + 1, ops + 2, segments + 3, exits + 4]), Ok(()), "larger");
    for (short, what) in ["tensors", "operators", "segments", "exits"].into_iter().enumerate() {
        let mut less = exact;
        less[short] -= 1;
        let result = read(less);
        let Err(BundleError::Storage { what: found_what, found, expected }) = result else {
            panic!("{what}: {result:?}");
        };
        assert_eq!((found_what, found + 1), (what, expected), "one is missing");
    }
}

#[test]
fn a_kind_is_found_or_not() {
    let file = hybrid().file();
    let bundle = Bundle::parse(&file).unwrap();
    assert_eq!(bundle.find(SectionKind::Tokenizer), Some(br#"{"model":{}}"#.as_slice()), "there");
    assert_eq!(bundle.find(SectionKind::ChatTemplate), None, "not there");
}

#[test]
fn the_first_changed_section_is_named_for_any_number_of_threads() {
    let sample = hybrid();
    let mut file = sample.file();
    for index in [9, 5] {
        file[sample.writer().offset(index) as usize] ^= 1;
    }
    let bundle = Bundle::parse(&file).unwrap();
    let expected = Err(BundleError::SectionHash { section: 5 });
    assert_eq!(bundle.verify(), expected, "one after the other");
    for threads in [0, 1, 2, 3, 8, 100] {
        assert_eq!(bundle.verify_parallel(threads), expected, "{threads} threads");
    }
}

#[test]
fn the_hash_of_a_bundle_stands_for_every_section() {
    let mut sample = hybrid();
    let hash = |sample: &Sample| Bundle::parse(&sample.file()).unwrap().hash();
    let before = hash(&sample);
    sample.sections[3].bytes[0] ^= 1;
    assert_ne!(before, hash(&sample), "one byte of a weight");
}

#[test]
fn nine_end_tokens_are_too_many() {
    assert_eq!(TokenIds::new(&[7; 9]), None, "9");
    let eight = TokenIds::new(&[0, 1, 2, 3, 4, 5, 6, 7]).unwrap();
    assert!(eight.as_slice().len() == 8 && eight.contains(7) && !eight.contains(8), "8");
    assert!(!TokenIds::new(&[3]).unwrap().contains(0), "places that are not in use");
}

prop_compose! {
    fn any_sample()(
        (architecture, name, created_by) in ("[a-z0-9]{1,9}", "\\PC{0,30}", ".{0,200}"),
        (params, context_max) in (any::<u64>(), 1_u32..=1 << 24),
        (context, max_rows) in (any::<prop::sample::Index>(), 1_u32..=1 << 16),
        (bos, eos) in (prop::option::of(0_u32..5), prop::collection::vec(0_u32..5, 0..=8)),
        quant in prop::sample::select(vec![DType::F32, DType::F16, DType::Q8, DType::Q4]),
        others in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..150), 3),
        seed in any::<u8>(),
    ) -> Sample {
        let mut sample = hybrid();
        let meta = &mut sample.meta;
        (meta.architecture, meta.name, meta.created_by) = (architecture, name, created_by);
        (meta.params, meta.context_max, meta.max_rows) = (params, context_max, max_rows);
        meta.context = context.index(context_max as usize) as u32 + 1;
        (meta.bos, meta.quant) = (bos, quant);
        meta.eos = TokenIds::new(&eos).unwrap();
        let kinds = [SectionKind::ChatTemplate, SectionKind::Calibration, SectionKind::Provenance];
        for (kind, bytes) in kinds.into_iter().zip(others).take(usize::from(seed % 4)) {
            sample.sections.push(Stored { kind, name: String::new(), bytes });
        }
        sample.sections[0].bytes.iter_mut().for_each(|byte| *byte ^= seed);
        sample
    }
}

proptest! {
    #[test]
    fn any_sound_bundle_reads_back(sample in any_sample()) {
        reads_back(&sample);
        prop_assert_eq!(sample.file(), sample.file_unchecked(|_, _, _| ()), "two writers");
    }
}
