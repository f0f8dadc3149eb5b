//! One wrong bundle for each reason there is, with hashes that are right.

use std::collections::BTreeSet;

use dynamax_bundle::{
    Bundle, BundleError, DType, Kind, Layout, SectionKind, SectionSpec, TokenIds, Writer,
};

use crate::sample::{Sample, Stored, seal, tiny};

/// The code with which the reader refuses `file`; 0 if it does not.
fn code(file: &[u8]) -> u16 {
    let result = Bundle::parse(file).and_then(|bundle| {
        bundle.verify()?;
        bundle.program_buf()
    });
    result.map_or_else(|error| error.code(), |_| 0)
}

/// Writes the sample after `change`, by the writer that checks nothing.
fn changed(change: impl FnOnce(&mut Sample)) -> u16 {
    let mut sample = tiny();
    change(&mut sample);
    let code = code(&sample.file_unchecked(|_, _, _| ()));
    let (meta, program) = (sample.meta.clone(), sample.program.clone());
    let writer = Writer::new(meta, program, sample.specs());
    assert_eq!(writer.map_or_else(|error| error.code(), |_| 0), code, "the writer refuses it too");
    code
}

/// Changes bytes of the file, then makes its hash right again.
fn patched(patch: impl FnOnce(&mut Vec<u8>)) -> u16 {
    let mut file = tiny().file();
    patch(&mut file);
    seal(&mut file);
    code(&file)
}

#[test]
fn the_prelude_is_checked() {
    let file = tiny().file();
    assert_eq!(code(&file), 0, "as written");
    assert_eq!((code(&file[..63]), code(&[])), (1, 1), "too short");
    assert_eq!((code(b"GGUF"), patched(|file| file[0] = b'G')), (2, 2), "magic");
    for version in [0, 1, 3, 255] {
        assert_eq!(patched(|file| file[8] = version), 3, "version {version}");
    }
    for at in 24..32 {
        assert_eq!(patched(|file| file[at] = 1), 4, "byte {at} is not zero");
    }
    assert_eq!(code(&file[..file.len() - 64]), 5, "cut off");
    assert_eq!(patched(|file| file[14] = 1), 6, "a header longer than the file");
    let mut file = file;
    file[70] ^= 1;
    assert_eq!(code(&file), 7, "a changed header");
}

#[test]
fn the_header_is_decoded_to_its_end_and_no_further() {
    // A header one byte longer takes a byte of padding; one byte shorter lacks the end of the last segment.
    assert_eq!(patched(|file| file[12] += 1), 9, "one more");
    assert_eq!(patched(|file| file[12] -= 1), 8, "one less");
    // The length of the first string.
    assert_eq!(patched(|file| file[64] = 200), 8, "a string longer than the header");
    assert_eq!(patched(|file| file[65] = 0xff), 8, "a string that is not UTF-8");
}

#[test]
fn sections_lie_one_behind_the_other() {
    let table = |change: fn(usize, &mut u64, &mut u64)| code(&tiny().file_unchecked(change));
    assert_eq!(table(|_, _, _| ()), 0, "as written");
    assert_eq!(table(|at, offset, _| *offset += 64 * u64::from(at == 1)), 10, "a gap");
    assert_eq!(table(|at, offset, _| *offset -= 64 * u64::from(at == 1)), 10, "an overlap");
    assert_eq!(table(|_, offset, _| *offset += 1), 10, "not aligned");
    assert_eq!(table(|_, offset, _| *offset = u64::MAX), 10, "behind everything");
    assert_eq!(table(|at, _, len| *len += 64 * u64::from(at == 1)), 11, "longer than the file");
    assert_eq!(table(|at, _, len| *len += u64::from(at == 1) * (u64::MAX - *len)), 11, "overflow");
    assert_eq!(patched(|file| file.extend([0; 64])), 11, "shorter than the file");
    assert_eq!(patched(|file| *file.last_mut().unwrap() = 1), 12, "padding at the end");
    let header_end = 64 + usize::from(tiny().file()[12]) + 256 * usize::from(tiny().file()[13]);
    assert_eq!(patched(|file| file[header_end] = 1), 12, "padding behind the header");
    let first = tiny().writer().offset(0) as usize;
    assert_eq!(patched(|file| file[first] ^= 1), 25, "content");
}

#[test]
fn sections_are_what_tensors_take_them_for() {
    let other = |kind| Stored { kind, name: String::new(), bytes: vec![1; 16] };
    let twice =
        |sample: &mut Sample| sample.sections.extend([0; 2].map(|_| other(SectionKind::Tokenizer)));
    assert_eq!(changed(twice), 13, "two tokenizers");
    assert_eq!(changed(|sample| sample.sections[1].name.clear()), 14, "no name");
    let weight = |section, layout| Kind::Weight { section, layout };
    let at = |kind| changed(|sample| sample.program.tensors[1].kind = kind);
    assert_eq!(at(weight(2, Layout::Plain)), 15, "no such section");
    assert_eq!(at(weight(0, Layout::Plain)), 18, "the size of another tensor");
    let kind = |sample: &mut Sample| sample.sections[1].kind = SectionKind::Calibration;
    assert_eq!(changed(kind), 16, "not a weight");
    assert_eq!(changed(|sample| sample.sections[1].bytes.push(0)), 18, "one byte more");
}

#[test]
fn a_weight_without_a_stored_form_is_refused() {
    let mut sample = tiny();
    sample.program.tensors[1].dtype = DType::F16;
    assert_eq!(code(&sample.file_unchecked(|_, _, _| ())), 17, "plain f16");
}

#[test]
fn metadata_is_in_range_and_agrees_with_the_program() {
    assert_eq!(changed(|sample| sample.meta.architecture.clear()), 20, "architecture");
    assert_eq!(changed(|sample| sample.meta.kv = DType::Q8), 21, "kv");
    type Change = fn(&mut Sample);
    let out_of_range: [Change; 10] = [
        |sample| sample.meta.d_model = 0,
        |sample| sample.meta.vocab_size = 0,
        |sample| sample.meta.context_max = 0,
        |sample| sample.meta.context = 0,
        |sample| sample.meta.context = 65,
        |sample| sample.meta.max_rows = 0,
        |sample| sample.meta.max_rows = (1 << 16) + 1,
        |sample| sample.meta.n_layers = 1 << 16,
        |sample| sample.meta.bos = Some(3),
        |sample| sample.meta.eos = TokenIds::new(&[0, 3]).unwrap(),
    ];
    for (index, change) in out_of_range.into_iter().enumerate() {
        assert_eq!(changed(change), 19, "range {index}");
    }
    let disagrees: [Change; 3] = [
        |sample| sample.meta.d_model = 5,
        |sample| sample.meta.vocab_size = 4,
        |sample| sample.meta.n_layers = 1,
    ];
    for (index, change) in disagrees.into_iter().enumerate() {
        assert_eq!(changed(change), 22, "disagreement {index}");
    }
    // No cache, no rotation: positions have no bound.
    assert_eq!(changed(|sample| sample.meta.context_max = u32::MAX), 0, "an endless context");
    let mut hybrid = crate::sample::hybrid();
    hybrid.meta.context_max = (1 << 24) + 1;
    assert_eq!(code(&hybrid.file_unchecked(|_, _, _| ())), 19, "positions that f32 cannot hold");
    hybrid.meta.context_max = 1 << 24;
    hybrid.meta.kv = DType::F32;
    assert_eq!(code(&hybrid.file_unchecked(|_, _, _| ())), 22, "caches are f16");
}

#[test]
fn an_end_token_in_a_place_not_in_use_is_refused() {
    let mut sample = tiny();
    sample.meta.eos = TokenIds::new(&[1, 2]).unwrap();
    let mut file = sample.file();
    let at = file.windows(3).position(|bytes| bytes == [2, 1, 2]).unwrap();
    file[at] = 1;
    seal(&mut file);
    assert_eq!(code(&file), 19, "the 2 behind the count of 1");
    file[at] = 9;
    seal(&mut file);
    assert_eq!(code(&file), 19, "a count of 9");
}

#[test]
fn the_writer_refuses_two_weights_of_one_name() {
    let mut sample = tiny();
    sample.sections[1].name = sample.sections[0].name.clone();
    let error = Writer::new(sample.meta.clone(), sample.program.clone(), sample.specs());
    assert_eq!(error.unwrap_err(), BundleError::NameRepeated { section: 1 }, "a name");
}

#[test]
fn the_writer_refuses_more_sections_than_an_index_can_count() {
    let sample = tiny();
    let spec = |index| SectionSpec { name: format!("{index}"), kind: SectionKind::Weight, len: 0 };
    let specs = (0..=65_535).map(spec).collect();
    let error = Writer::new(sample.meta.clone(), sample.program, specs).unwrap_err();
    assert_eq!(error.code(), 26, "{error}");
}

#[test]
fn every_refusal_says_what_to_do() {
    let errors = [
        BundleError::TooShort { found: 1 },
        BundleError::Magic,
        BundleError::Version { found: 2 },
        BundleError::Reserved,
        BundleError::FileLength { found: 1, expected: 2 },
        BundleError::HeaderLength { found: 2, most: 1 },
        BundleError::HeaderHash,
        BundleError::Malformed { what: "tensor", index: 1 },
        BundleError::HeaderExcess { left: 1 },
        BundleError::SectionOffset { section: 1, found: 1, expected: 2 },
        BundleError::SectionsEnd { found: 1, expected: 2 },
        BundleError::Padding { offset: 1 },
        BundleError::SectionRepeated { section: 1, kind: SectionKind::Tokenizer },
        BundleError::WeightUnnamed { section: 1 },
        BundleError::NoSuchSection { tensor: 1, section: 2, sections: 1 },
        BundleError::NotAWeight { tensor: 1, section: 2, kind: SectionKind::ChatTemplate },
        BundleError::NoStoredForm { tensor: 1 },
        BundleError::SectionLength { tensor: 1, section: 2, found: 1, expected: 2 },
        BundleError::MetaRange { field: "bos", found: 3, least: 1, most: 2 },
        BundleError::MetaEmpty { field: "architecture" },
        BundleError::MetaCache { found: DType::Q4 },
        BundleError::MetaDisagrees { field: "d_model", meta: 1, program: 2 },
        BundleError::Storage { what: "tensors", found: 1, expected: 2 },
        BundleError::SectionIndex { index: 2, sections: 1 },
        BundleError::SectionHash { section: 1 },
        BundleError::TooMany { what: "sections", found: 2, most: 1 },
        BundleError::NameRepeated { section: 1 },
        BundleError::SignatureMagic,
    ];
    let codes: BTreeSet<u16> = errors.iter().map(BundleError::code).collect();
    assert_eq!(codes, (1..=28).collect(), "one code each");
    for error in errors {
        let sentence = error.to_string();
        let parts: Vec<&str> = sentence.split("; ").collect();
        assert!(parts.len() == 2 && parts[0].len() > 20 && parts[1].len() > 10, "{sentence}");
    }
}
