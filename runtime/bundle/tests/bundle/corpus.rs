//! The fuzzer's corpus and seeded changes of it, through the fuzzer's own function, on stable Rust.

use std::path::PathBuf;

use dynamax_bundle::{KeyId, Signature};

use crate::exercise::exercise;
use crate::sample::{hybrid, seal, tiny};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus/bundle")
}

/// What the corpus is: sound bundles, and some that are wrong in ways that chance would not find soon.
fn corpus() -> Vec<(&'static str, Vec<u8>)> {
    let small = tiny().file();
    let mut next_version = small.clone();
    next_version[8] = 3;
    let mut cut = small.clone();
    cut.truncate(200);
    let mut one_row_short = hybrid();
    one_row_short.program.segments[2].end_op -= 1;
    one_row_short.sections.truncate(0);
    let mut no_such_section = tiny();
    no_such_section.sections.pop();
    let mut other_section = tiny().file();
    let last = other_section.len() - 64;
    other_section[last] ^= 1;
    seal(&mut other_section);
    let mut signed = small.clone();
    signed.extend(Signature { counter: 1, key: KeyId([2; 16]), bytes: [3; 64] }.emit());
    vec![
        ("signed.dmx", signed),
        ("tiny.dmx", small),
        ("hybrid.dmx", hybrid().file()),
        ("next_version.dmx", next_version),
        ("cut.dmx", cut),
        ("no_weights.dmx", one_row_short.file_unchecked(|_, _, _| ())),
        ("no_such_section.dmx", no_such_section.file_unchecked(|_, _, _| ())),
        ("changed_weight.dmx", other_section),
        ("overlap.dmx", tiny().file_unchecked(|index, offset, _| *offset -= 64 * index as u64)),
    ]
}

/// Also holds the format still: a bundle of version 2 is written today as it was on the first day.
///
/// `BLESS=1` writes the files.
#[test]
fn the_corpus_is_what_the_writer_writes() {
    for (name, file) in corpus() {
        let path = folder().join(name);
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&path, &file).unwrap();
        }
        assert!(std::fs::read(&path).unwrap() == file, "{name} differs from the repository");
    }
}

#[test]
fn the_corpus_is_accepted_where_it_is_sound() {
    for (name, file) in corpus() {
        // A prelude that is wrong, the fuzzer's function makes right.
        let sound = ["tiny.dmx", "hybrid.dmx", "next_version.dmx", "signed.dmx"].contains(&name);
        assert_eq!(exercise(&file), sound, "{name}");
    }
}

#[test]
fn seeded_changes_of_the_corpus_never_panic() {
    let mut random = SplitMix(7);
    let corpus = corpus();
    let mut accepted = 0;
    for round in 0..40_000 {
        let (_, file) = &corpus[round % corpus.len()];
        let mut file = file.clone();
        for _ in 0..=random.below(3) {
            change(&mut file, &mut random);
        }
        accepted += usize::from(exercise(&file));
    }
    // Names and metadata may be others, and still be right.
    assert!(accepted > 100, "changes behind the hash are reached: {accepted} accepted");
}

/// What fuzzers do: bytes set, moved, removed, put in; mostly in the header.
fn change(file: &mut Vec<u8>, random: &mut SplitMix) {
    if file.is_empty() {
        return;
    }
    let end = if random.below(4) == 0 { file.len() } else { file.len().min(600) };
    let at = random.below(end);
    match random.below(8) {
        0 => file[at] = random.below(256) as u8,
        1 => file[at] ^= 1 << random.below(8),
        2 => file[at] = file[at].wrapping_add(1),
        3 => file[at] = file[at].wrapping_sub(1),
        4 => file[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
        5 => file.truncate(at),
        6 => file.insert(at, random.below(256) as u8),
        _ => {
            let from = random.below(end);
            let len = random.below(16).min(file.len() - at.max(from));
            file.copy_within(from..from + len, at);
        }
    }
}

/// Vigna's `SplitMix64`.
struct SplitMix(u64);

impl SplitMix {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) % bound as u64) as usize
    }
}
