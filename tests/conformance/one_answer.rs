//! One answer everywhere: every logit has the same bits on every instruction set, with any number of threads, and
//! however the rows were grouped.
//!
//! The hashes below are the answer. They are compared on every machine that runs this test, so that equality between
//! x86-64 and arm64 does not need both at once.

use dynamax_bundle::{Bundle, DType};
use dynamax_engine::decoder::Crew;
use dynamax_engine::{Decoder, Line, Loaded, Settings, Team};
use dynamax_kernels::Isa;
use dynamax_tests::{Hybrid, Random, VOCAB_SIZE, hash_bits, hybrid};

/// Stored type of matrices and caches, and the hash of all logits of 50 tokens.
const ANSWERS: [(DType, DType, u64); 5] = [
    (DType::F32, DType::F32, 0x893e_2193_1ea2_d58a),
    (DType::F32, DType::F16, 0xb76f_3d17_0e57_ca37),
    (DType::F16, DType::F16, 0x7e8b_5f2b_f609_eb08),
    (DType::Q8, DType::F16, 0xccf7_a97d_ff1e_db04),
    (DType::Q4, DType::F16, 0x1fdd_c0e2_f9af_21ee),
];

fn tokens() -> Vec<u32> {
    let mut random = Random::new(3);
    (0..50).map(|_| random.below(VOCAB_SIZE)).collect()
}

/// All logits of [`tokens`], fed in the given chunks.
fn logits(
    bundle: &Bundle<'_>,
    isa: Isa,
    crew: Crew<'_>,
    max_rows: u32,
    chunks: &[usize],
) -> Vec<f32> {
    let program = bundle.program_buf().expect("checked");
    let settings = Settings::new(64, max_rows);
    let loaded =
        Loaded::new(program, |index| bundle.section(index.into()), 4096, settings).expect("fits");
    let model = loaded.model();
    let mut memory = vec![Line::ZERO; model.memory_lines()];
    let mut decoder = Decoder::new(model, &mut memory, isa, crew);
    let (tokens, mut rest, mut all) = (tokens(), 0, Vec::new());
    for len in chunks.iter().cycle() {
        let chunk = &tokens[rest..tokens.len().min(rest + len)];
        if chunk.is_empty() {
            break;
        }
        decoder.feed_each(chunk, |_, logits| all.extend_from_slice(logits)).expect("accepted");
        rest += chunk.len();
    }
    all
}

fn for_each_answer(check: impl Fn(&Bundle<'_>, &str, u64)) {
    for (quant, kv, hash) in ANSWERS {
        let model = hybrid(quant, kv);
        let bundle = Bundle::parse(model.bytes()).expect("sound");
        check(&bundle, &format!("{} weights, {} cache", quant.name(), kv.name()), hash);
    }
}

#[test]
fn every_instruction_set_gives_the_recorded_bits() {
    let names: Vec<_> = Isa::available().map(Isa::name).collect();
    println!("instruction sets: {}", names.join(", "));
    for_each_answer(|bundle, what, expected| {
        for isa in Isa::available() {
            let found = hash_bits(logits(bundle, isa, Crew::Alone, 8, &[8]));
            assert_eq!(found, expected, "{what} on {}: {found:#018x}", isa.name());
        }
    });
}

#[test]
fn every_instruction_set_of_this_machine_is_exercised() {
    let names: Vec<_> = Isa::available().map(Isa::name).collect();
    let mut expected = vec!["reference"];
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
        {
            expected.push("avx2");
        }
        if std::arch::is_x86_feature_detected!("avx512vnni") {
            expected.push("avx512-vnni");
        }
    }
    #[cfg(target_arch = "aarch64")]
    {
        expected.push("neon");
        if std::arch::is_aarch64_feature_detected!("dotprod") {
            expected.push("neon-dotprod");
        }
    }
    for name in expected {
        assert!(names.contains(&name), "this machine has {name}, the tests ran {names:?}");
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    for_each_answer(|bundle, what, expected| {
        for threads in [2, 3, 7] {
            let team = Team::new(threads).expect("threads start");
            for max_rows in [1, 8] {
                let found =
                    hash_bits(logits(bundle, Isa::detect(), Crew::Team(&team), max_rows, &[50]));
                assert_eq!(found, expected, "{what}, {threads} threads, {max_rows} rows");
            }
        }
    });
}

/// The matrices above are so small that every worker has an equal share; the demo's head is shared out as workers go.
#[test]
fn who_takes_which_panels_does_not_change_a_bit() {
    let model = Hybrid::from_bytes(include_bytes!("../../tools/cli/demo/transformer.dmx"));
    let bundle = Bundle::parse(model.bytes()).expect("sound");
    for max_rows in [1, 8] {
        let alone = logits(&bundle, Isa::detect(), Crew::Alone, max_rows, &[50]);
        for threads in [2, 3, 7] {
            let team = Team::new(threads).expect("threads start");
            let found = logits(&bundle, Isa::detect(), Crew::Team(&team), max_rows, &[50]);
            assert_eq!(
                hash_bits(found),
                hash_bits(alone.clone()),
                "{threads} threads, {max_rows} rows"
            );
        }
    }
}

#[test]
fn grouping_of_rows_does_not_change_a_bit() {
    for_each_answer(|bundle, what, expected| {
        for (max_rows, chunks) in
            [(1, vec![50]), (5, vec![50]), (50, vec![50]), (33, vec![33, 1, 7]), (16, vec![3, 11])]
        {
            let found = hash_bits(logits(bundle, Isa::detect(), Crew::Alone, max_rows, &chunks));
            assert_eq!(found, expected, "{what}, at most {max_rows} rows, chunks {chunks:?}");
        }
    });
}

#[test]
fn a_reset_decoder_starts_anew() {
    let model = hybrid(DType::Q8, DType::F16);
    let bundle = Bundle::parse(model.bytes()).expect("sound");
    let program = bundle.program_buf().expect("checked");
    let settings = Settings::new(64, 8);
    let loaded =
        Loaded::new(program, |index| bundle.section(index.into()), 4096, settings).expect("fits");
    let mut memory = vec![Line::ZERO; loaded.model().memory_lines()];
    let mut decoder = Decoder::new(loaded.model(), &mut memory, Isa::detect(), Crew::Alone);
    let first = hash_bits(decoder.feed(&tokens()).expect("accepted").to_vec());
    decoder.feed(&[1, 2, 3]).expect("accepted");
    decoder.reset();
    let again = hash_bits(decoder.feed(&tokens()).expect("accepted").to_vec());
    assert_eq!(first, again, "the same tokens from the same start");
}
