//! The Program on a GPU: the tokens of the `cpu` executor, and logits close to its own.
//!
//! Any Vulkan driver will do, a software one too. Without any these tests say so and pass, unless `DYNAMAX_NEEDS_GPU` is
//! set: then they fail.
#![cfg(feature = "vulkan")]

use dynamax_bundle::{Bundle, DType, StateMode};
use dynamax_engine::decoder::Crew;
use dynamax_engine::{Decoder, ExitSettings, Line, Loaded, Outcome, Probed, Settings};
use dynamax_kernels::Isa;
use dynamax_tests::{Hybrid, Random, VOCAB_SIZE, WINDOW, flat, hybrid};
use dynamax_wgpu::{Counts, Unavailable, WgpuDevice};

const CONTEXT: u32 = 300;
const GREEDY: usize = 256;

/// Logits differ by less than this part of their range: sums are rounded in another order, and where that moves a number
/// over the edge between two of 255 steps, a product moves with it.
const TOLERANCE: f32 = 0.02;

fn tokens(count: usize) -> Vec<u32> {
    let mut random = Random::new(5);
    (0..count).map(|_| random.below(VOCAB_SIZE)).collect()
}

/// What was said.
#[derive(Debug, Default)]
struct Trace {
    logits: Vec<Vec<f32>>,
    tokens: Vec<u32>,
    outcomes: Vec<Outcome>,
}

/// Runs `with` on the `cpu` executor and on the GPU; nothing, where there is no GPU.
fn both<T>(
    model: &Hybrid,
    with: impl Fn(&mut Decoder<'_>, &dyn Fn() -> Counts) -> T,
) -> Option<(T, T)> {
    let bundle = Bundle::parse(model.bytes()).expect("sound");
    let section = |index: u16| bundle.section(index.into());
    let program = bundle.program_buf().expect("checked");
    let settings = Settings { head_rows: 4, ..Settings::new(CONTEXT, 16) };
    let loaded = Loaded::new(program, section, 4096, settings).expect("fits");
    let device = match WgpuDevice::new(&loaded.model()) {
        Ok(device) => device,
        Err(error @ Unavailable::NoGpu(_)) if std::env::var_os("DYNAMAX_NEEDS_GPU").is_none() => {
            println!("not run: {error}");
            return None;
        }
        Err(error) => panic!("{error}"),
    };
    println!("on {}", device.gpu());
    let run = |crew: Crew<'_>, counts: &dyn Fn() -> Counts| {
        let mut memory = vec![Line::ZERO; crew.memory_lines(&loaded.model())];
        with(&mut Decoder::new(loaded.model(), &mut memory, Isa::detect(), crew), counts)
    };
    let expected = run(Crew::Alone, &Counts::default);
    Some((expected, run(Crew::Device(&device), &|| device.counts())))
}

/// Leaves at an exit or not, by chance that depends on the position alone.
fn at_random(probed: Probed) -> bool {
    let mut random = Random::new(u64::from(probed.position) * 2 + probed.exit as u64);
    random.below(100) < 55
}

/// Feeds a prompt, then what is said, most probable token by most probable token.
fn greedy(decoder: &mut Decoder<'_>, exits: Option<ExitSettings>, made: usize) -> Trace {
    decoder.use_exits(exits).expect("possible");
    let mut trace = Trace::default();
    decoder.feed(&tokens(WINDOW as usize + 20)).expect("accepted");
    for _ in 0..made {
        trace.logits.push(decoder.logits().to_vec());
        trace.tokens.push(decoder.best());
        let token = trace.tokens[trace.tokens.len() - 1];
        trace.outcomes.push(decoder.step(token, at_random).expect("accepted"));
    }
    decoder.catch_up();
    trace.logits.push(decoder.feed(&[7]).expect("accepted").to_vec());
    trace
}

/// The largest difference of logits, as a part of their range.
fn difference(expected: &Trace, found: &Trace) -> f32 {
    let pairs = expected.logits.iter().zip(&found.logits);
    let of_row = |(expected, found): (&Vec<f32>, &Vec<f32>)| {
        let range = expected.iter().copied().fold(f32::MIN, f32::max)
            - expected.iter().copied().fold(f32::MAX, f32::min);
        let largest =
            expected.iter().zip(found).map(|(a, b)| (a - b).abs()).fold(0.0_f32, f32::max);
        largest / range
    };
    pairs.map(of_row).fold(0.0, f32::max)
}

fn check(model: &Hybrid, what: &str, exits: Option<ExitSettings>, made: usize) {
    let Some((expected, found)) = both(model, |decoder, _| greedy(decoder, exits, made)) else {
        return;
    };
    let difference = difference(&expected, &found);
    println!("{what}: logits within {difference:.2e} of their range");
    let first = expected.tokens.iter().zip(&found.tokens).position(|(a, b)| a != b);
    assert_eq!(first, None, "{what}: the first token that differs, of {made}");
    assert_eq!(expected.outcomes, found.outcomes, "{what}: ways through the model");
    assert!(difference < TOLERANCE, "{what}: logits differ by {difference} of their range");
}

#[test]
fn greedy_tokens_are_those_of_the_cpu_executor() {
    for (quant, kv) in [
        (DType::F32, DType::F32),
        (DType::F16, DType::F16),
        (DType::Q8, DType::F16),
        (DType::Q4, DType::F16),
    ] {
        let what = format!("{} with caches of {}", quant.name(), kv.name());
        check(&hybrid(quant, kv), &what, None, GREEDY);
    }
}

#[test]
fn every_treatment_of_skipped_state_is_that_of_the_cpu_executor() {
    for model in [hybrid(DType::Q4, DType::F16), flat(DType::Q4, DType::F16)] {
        for state in StateMode::ALL {
            let reveals = state == StateMode::Deferred;
            let exits = Some(ExitSettings { state, reveals, pending_max: 5 });
            check(&model, state.name(), exits, 40);
        }
    }
}

#[test]
fn a_token_is_one_submit_and_four_bytes() {
    let counted = both(&hybrid(DType::Q4, DType::F16), |decoder, counts| {
        decoder.feed(&tokens(5)).expect("accepted");
        let mut token = decoder.best();
        let before = counts();
        for _ in 0..10 {
            decoder.step(token, at_random).expect("accepted");
            token = decoder.best();
        }
        (before, counts())
    });
    let Some((_, (before, after))) = counted else { return };
    assert_eq!(after.submits - before.submits, 10, "one submit each");
    assert_eq!(after.reads - before.reads, 10, "one read-back each");
    assert_eq!(after.read_bytes - before.read_bytes, 40, "the id of the token");
    println!("{} dispatches a token", (after.dispatches - before.dispatches) / 10);
    assert_eq!((after.dispatches - before.dispatches) % 10, 0, "the same for every token");
}
