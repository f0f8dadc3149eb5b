//! The Program on a GPU: the tokens of the `cpu` executor, and logits close to its own.
//!
//! Any Vulkan driver will do, a software one too. Without any these tests say so and pass, unless `DYNAMAX_NEEDS_GPU` is
//! set: then they fail.
#![cfg(feature = "vulkan")]

use dynamax_bundle::{Bundle, DType, StateMode};
use dynamax_engine::decoder::Crew;
use dynamax_engine::{Decoder, ExitSettings, Line, Loaded, Outcome, Probed, Settings};
use dynamax_kernels::Isa;
use dynamax_tests::{Random, VOCAB_SIZE, WINDOW, each_operator, flat, hybrid};
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

/// Puts a model on the GPU; nothing, where there is none.
fn load(bytes: &[u8], settings: Settings) -> Option<(Loaded<'_>, WgpuDevice)> {
    let bundle = Bundle::parse(bytes).expect("sound");
    let section = |index: u16| bundle.section(index.into());
    let program = bundle.program_buf().expect("checked");
    let loaded = Loaded::new(program, section, 4096, settings).expect("fits");
    match WgpuDevice::new(&loaded.model()) {
        Ok(device) => Some((loaded, device)),
        Err(error @ Unavailable::NoGpu(_)) if std::env::var_os("DYNAMAX_NEEDS_GPU").is_none() => {
            println!("not run: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Runs `with` on the `cpu` executor and on the GPU; nothing, where there is no GPU.
fn both<T>(
    bytes: &[u8],
    with: impl Fn(&mut Decoder<'_>, &dyn Fn() -> Counts) -> T,
) -> Option<(T, T)> {
    let settings = Settings { head_rows: 4, drafts: 3, ..Settings::new(CONTEXT, 16) };
    let (loaded, device) = load(bytes, settings)?;
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

fn check(bytes: &[u8], what: &str, exits: Option<ExitSettings>, made: usize) {
    let Some((expected, found)) = both(bytes, |decoder, _| greedy(decoder, exits, made)) else {
        return;
    };
    let difference = difference(&expected, &found);
    println!("{what}: logits within {difference:.2e} of their range");
    let first = expected.tokens.iter().zip(&found.tokens).position(|(a, b)| a != b);
    assert_eq!(first, None, "{what}: the first token that differs, of {made}");
    assert_eq!(expected.outcomes, found.outcomes, "{what}: ways through the model");
    assert!(difference < TOLERANCE, "{what}: logits differ by {difference} of their range");
}

/// Each number is within this part of the largest of its row's operator: sums in another order, products not fused.
const OPERATOR_TOLERANCE: f32 = 2e-5;

#[test]
fn every_operator_is_that_of_the_reference() {
    for (quant, kv) in [
        (DType::F32, DType::F32),
        (DType::F16, DType::F16),
        (DType::Q8, DType::F16),
        (DType::Q4, DType::F16),
    ] {
        let model = hybrid(quant, kv);
        let Some((loaded, device)) = load(model.bytes(), Settings::new(64, 16)) else { return };
        let (all, mut worst) = (tokens(40), 0.0_f32);
        // Rows as they come: many, one, and a tile with a rest.
        let chunks = [&all[..16], &all[16..17], &all[17..28], &all[28..40]];
        each_operator(loaded.model(), &device, &chunks, |name, expected, found| {
            let largest = expected.iter().fold(1e-3_f32, |largest, x| largest.max(x.abs()));
            let error = expected.iter().zip(found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            worst = worst.max(error / largest);
            assert!(
                error <= OPERATOR_TOLERANCE * largest,
                "{name} of {}: {error} off, the largest is {largest}",
                quant.name()
            );
        });
        println!("{}: within {worst:.1e}", quant.name());
    }
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
        check(hybrid(quant, kv).bytes(), &what, None, GREEDY);
    }
}

#[test]
fn every_treatment_of_skipped_state_is_that_of_the_cpu_executor() {
    for model in [hybrid(DType::Q4, DType::F16), flat(DType::Q4, DType::F16)] {
        for state in StateMode::ALL {
            let reveals = state == StateMode::Deferred;
            let exits =
                Some(ExitSettings { state, reveals, pending_max: 5, ..ExitSettings::default() });
            check(model.bytes(), state.name(), exits, 40);
        }
    }
}

/// Drafts greedily, and keeps what the last layer says.
fn verified(decoder: &mut Decoder<'_>, made: usize) -> Trace {
    let exits = ExitSettings { drafts: true, ..ExitSettings::default() };
    decoder.use_exits(Some(exits)).expect("possible");
    let last = decoder.model().program().segments.len() as u16 - 1;
    let mut trace = Trace::default();
    decoder.feed(&tokens(30)).expect("accepted");
    let mut token = decoder.best();
    while trace.tokens.len() < made {
        let mut next = token;
        trace.tokens.push(token);
        loop {
            let outcome = decoder.step(next, at_random).expect("accepted");
            trace.outcomes.push(outcome);
            next = decoder.best();
            if outcome.reach == last {
                break;
            }
        }
        token = decoder.best();
        while decoder.accept(token) {
            trace.tokens.push(token);
            token = decoder.best();
        }
        trace.logits.push(decoder.logits().to_vec());
    }
    trace
}

#[test]
fn verified_drafts_are_those_of_the_cpu_executor() {
    for quant in [DType::F32, DType::Q4] {
        let model = hybrid(quant, DType::F16);
        let traces = both(model.bytes(), |decoder, _| verified(decoder, 100));
        let Some((expected, found)) = traces else { return };
        assert_eq!(expected.tokens, found.tokens, "{}", quant.name());
        assert_eq!(expected.outcomes, found.outcomes, "{}: ways", quant.name());
        let difference = difference(&expected, &found);
        assert!(difference < TOLERANCE, "logits differ by {difference} of their range");
    }
}

#[test]
fn a_token_is_one_submit_and_four_bytes() {
    let counted = both(hybrid(DType::Q4, DType::F16).bytes(), |decoder, counts| {
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

#[test]
fn demos_say_the_same_at_full_depth_and_with_exits() {
    for demo in ["mamba2", "transformer"] {
        let path = format!("{}/../../tools/cli/demo/{demo}.dmx", env!("CARGO_MANIFEST_DIR"));
        let file = std::fs::read(&path).expect("the demo is there");
        let lines = Line::copy_from(&file);
        let bytes = Line::as_bytes(&lines, file.len());
        check(bytes, demo, None, GREEDY);
        let exits = Some(ExitSettings { reveals: true, ..ExitSettings::default() });
        check(bytes, &format!("{demo} with exits"), exits, 48);
    }
}
