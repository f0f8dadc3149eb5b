//! The Program on a GPU: the tokens of the `cpu` executor, and logits close to its own.
//!
//! Any Vulkan driver will do, a software one too. Without any these tests say so and pass, unless `DYNAMAX_NEEDS_GPU` is
//! set: then they fail.
#![cfg(feature = "vulkan")]

use dynamax_bundle::{Bundle, DType, StateMode};
use dynamax_engine::decoder::Crew;
use dynamax_engine::{Decoder, ExitSettings, Line, Loaded, Settings, Thresholds};
use dynamax_kernels::Isa;
use dynamax_tests::{
    Architecture, Asked, Random, Trace, VOCAB_SIZE, Way, each_operator, flat, hybrid, pure,
};
use dynamax_wgpu::{Counts, Held, Unavailable, WgpuDevice};

const CONTEXT: u32 = 300;
const GREEDY: usize = 256;

/// Of matrices, and of keys and values.
const FORMATS: [(DType, DType); 4] = [
    (DType::F32, DType::F32),
    (DType::F16, DType::F16),
    (DType::Q8, DType::F16),
    (DType::Q4, DType::F16),
];

/// Logits differ by less than this part of their range: sums are rounded in another order, and where that moves a number
/// over the edge between two of 255 steps, a product moves with it.
const TOLERANCE: f32 = 0.02;

fn tokens(count: usize) -> Vec<u32> {
    let mut random = Random::new(5);
    (0..count).map(|_| random.below(VOCAB_SIZE)).collect()
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

/// How far two executors are apart.
#[derive(Debug, Default)]
struct Apart {
    /// The largest difference of logits, as a part of their range.
    logits: f32,
    /// The largest difference of scores.
    scores: f32,
    /// Choices of a token that differ, and by how much the chosen one led, as a part of the range.
    tokens: Vec<(usize, f32)>,
    /// Exits that one would have taken and the other not, and how far the score was from enough.
    exits: Vec<(usize, f32)>,
}

impl Apart {
    fn of(expected: &Trace, found: &Trace) -> Self {
        let mut apart = Self::default();
        assert_eq!(expected.logits.len(), found.logits.len(), "choices");
        for (expected, found) in expected.logits.iter().zip(&found.logits) {
            let of_row =
                expected.iter().zip(found).map(|(a, b)| (a - b).abs()).fold(0.0_f32, f32::max);
            apart.logits = apart.logits.max(of_row / range(expected));
        }
        for (index, (a, b)) in expected.tokens.iter().zip(&found.tokens).enumerate() {
            if a != b {
                let logits = &expected.logits[index];
                let lead = logits[*a as usize] - logits[*b as usize];
                apart.tokens.push((index, lead / range(logits)));
            }
        }
        assert_eq!(expected.asked.len(), found.asked.len(), "exits that were asked");
        for (index, (a, b)) in expected.asked.iter().zip(&found.asked).enumerate() {
            apart.scores = apart.scores.max((a.score - b.score).abs());
            if a.leaves() != b.leaves() {
                apart.exits.push((index, (a.score - a.limit).abs()));
            }
        }
        apart
    }
}

fn range(logits: &[f32]) -> f32 {
    let largest = logits.iter().copied().fold(f32::MIN, f32::max);
    largest - logits.iter().copied().fold(f32::MAX, f32::min)
}

/// Compares what is said along some ways.
fn check(bytes: &[u8], what: &str, ways: &[Way], made: usize) {
    let settings = Settings { head_rows: 4, drafts: 3, ..Settings::new(CONTEXT, 16) };
    let Some((loaded, device)) = load(bytes, settings) else { return };
    let asked: Vec<_> =
        ways.iter().flat_map(|way| check_way(&loaded, &device, what, *way, made)).collect();
    let early = asked.iter().filter(|asked| asked.leaves()).count();
    let is_mixed = early > 0 && early < asked.len();
    assert!(is_mixed || asked.is_empty(), "{what}: some leave, and some do not");
}

/// Choices are the same, but where the two that differ were as good as equal. Returns the exits that were asked.
fn check_way(
    loaded: &Loaded<'_>,
    device: &WgpuDevice,
    what: &str,
    way: Way,
    made: usize,
) -> Vec<Asked> {
    let along = |crew: Crew<'_>, leader: Option<&Trace>| {
        let mut memory = vec![Line::ZERO; crew.memory_lines(&loaded.model())];
        let mut decoder = Decoder::new(loaded.model(), &mut memory, Isa::detect(), crew);
        Trace::of(&mut decoder, way, made, leader)
    };
    let expected = along(Crew::Alone, None);
    let found = along(Crew::Device(device), Some(&expected));
    assert_eq!(expected.outcomes, found.outcomes, "{what}: ways through the model");
    let apart = Apart::of(&expected, &found);
    println!("{what}, {way:?}: {} tokens, {apart:?}", expected.tokens.len());
    assert!(apart.logits < TOLERANCE, "{what}, {way:?}: logits");
    assert!(apart.scores < TOLERANCE, "{what}, {way:?}: scores");
    let is_tie = |(_, lead): &(usize, f32)| *lead < TOLERANCE;
    assert!(apart.tokens.iter().all(is_tie), "{what}, {way:?}: tokens that are no near ties");
    assert!(apart.exits.iter().all(is_tie), "{what}, {way:?}: exits that are no near ties");
    let few = apart.tokens.len() + apart.exits.len() <= made / 64;
    assert!(few, "{what}, {way:?}: more near ties than chance makes");
    expected.asked
}

/// Each number is within this part of the largest of its row's operator: sums in another order, products not fused.
const OPERATOR_TOLERANCE: f32 = 5e-6;

#[test]
fn every_operator_is_that_of_the_reference() {
    for (quant, kv) in FORMATS {
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
fn every_format_says_what_the_cpu_executor_says() {
    for (quant, kv) in FORMATS {
        let what = format!("{} with caches of {}", quant.name(), kv.name());
        check(hybrid(quant, kv).bytes(), &what, &[Way::Off], GREEDY);
    }
}

/// Of the architecture with this index, in a format of its own.
fn in_every_mode(index: usize) {
    let (architecture, (quant, kv)) =
        (Architecture::ALL[index], FORMATS[FORMATS.len() - 1 - index]);
    let model = pure(architecture, quant, kv);
    let what = format!("{architecture:?} {}", quant.name());
    check(model.bytes(), &what, &Way::all(), GREEDY);
}

#[test]
fn mamba_says_what_the_cpu_executor_says_in_every_mode() {
    in_every_mode(0);
}

#[test]
fn mamba2_says_what_the_cpu_executor_says_in_every_mode() {
    in_every_mode(1);
}

#[test]
fn attention_says_what_the_cpu_executor_says_in_every_mode() {
    in_every_mode(2);
}

#[test]
fn a_sliding_window_says_what_the_cpu_executor_says_in_every_mode() {
    in_every_mode(3);
}

#[test]
fn a_hybrid_says_what_the_cpu_executor_says_in_every_mode() {
    for model in [hybrid(DType::Q4, DType::F16), flat(DType::Q4, DType::F16)] {
        check(model.bytes(), "hybrid q4", &Way::all(), 64);
    }
}

#[test]
fn a_token_is_one_submit_and_four_bytes() {
    let counted = both(hybrid(DType::Q4, DType::F16).bytes(), |decoder, counts| {
        decoder.feed(&tokens(5)).expect("accepted");
        let mut token = decoder.best();
        let before = counts();
        for _ in 0..10 {
            decoder.step(token, |_| false).expect("accepted");
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
fn an_exit_is_read_only_where_its_score_matters() {
    let counted = both(hybrid(DType::Q4, DType::F16).bytes(), |decoder, counts| {
        let exits = decoder.model().program().exits.len() as u64;
        decoder.use_exits(Some(ExitSettings::default())).expect("possible");
        decoder.feed(&tokens(5)).expect("accepted");
        let mut token = decoder.best();
        let before = counts();
        for _ in 0..10 {
            let outcome = decoder.step_by(token, &Thresholds::all(1.001)).expect("accepted");
            assert_eq!(outcome.asked, 0, "no score would do");
            token = decoder.best();
        }
        let unasked = counts();
        for _ in 0..10 {
            let outcome = decoder.step(token, |_| false).expect("accepted");
            assert_eq!(u64::from(outcome.asked.count_ones()), exits, "all");
            token = decoder.best();
        }
        (exits, [before, unasked, counts()])
    });
    let Some((_, (exits, [before, unasked, asked]))) = counted else { return };
    assert!(exits > 0, "there are some");
    assert_eq!(unasked.reads - before.reads, 10, "the token, and nothing else");
    assert_eq!(unasked.read_bytes - before.read_bytes, 40, "its id");
    assert_eq!(unasked.submits - before.submits, 10, "one submit each");
    assert_eq!(asked.reads - unasked.reads, 10 * (exits + 1), "each exit, and the token");
    assert_eq!(asked.read_bytes - unasked.read_bytes, 10 * (8 * exits + 4), "two logits each");
    let (less, more) =
        (unasked.dispatches - before.dispatches, asked.dispatches - unasked.dispatches);
    assert!(less < more, "nor is its probe run: {less} and {more} dispatches");
}

#[test]
fn what_is_known_is_not_read_again() {
    let counted = both(hybrid(DType::Q4, DType::F16).bytes(), |decoder, counts| {
        decoder.feed(&tokens(5)).expect("accepted");
        let before = counts();
        let (best, logits) = (decoder.best(), decoder.logits().to_vec());
        assert_eq!((decoder.best(), decoder.logits()), (best, &logits[..]), "the same");
        (before, counts())
    });
    let Some((_, (before, after))) = counted else { return };
    // The logits were read when the tokens were fed.
    assert_eq!(after.reads - before.reads, 1, "the id alone");
}

#[test]
fn buffers_are_those_of_the_plan() {
    for (quant, kv) in FORMATS {
        let model = hybrid(quant, kv);
        for drafts in [0, 3] {
            let settings = Settings { head_rows: 4, drafts, ..Settings::new(CONTEXT, 16) };
            let Some((loaded, device)) = load(model.bytes(), settings) else { return };
            let held = Held::of(&loaded.model());
            println!("{held:?}, {:?} reserved", device.reserved_bytes());
            assert_eq!(
                device.made_bytes(),
                held.gpu_bytes(),
                "{} and {drafts} drafts",
                quant.name()
            );
            let before = device.made_bytes();
            let crew = Crew::Device(&device);
            let mut memory = vec![Line::ZERO; crew.memory_lines(&loaded.model())];
            let mut decoder = Decoder::new(loaded.model(), &mut memory, Isa::detect(), crew);
            decoder.feed(&tokens(40)).expect("accepted");
            assert_eq!(device.made_bytes(), before, "none is made while decoding");
        }
    }
}

#[test]
fn demos_say_the_same_at_full_depth_and_with_exits() {
    for demo in ["mamba2", "transformer"] {
        let path = format!("{}/../../tools/cli/demo/{demo}.dmx", env!("CARGO_MANIFEST_DIR"));
        let file = std::fs::read(&path).expect("the demo is there");
        let lines = Line::copy_from(&file);
        let bytes = Line::as_bytes(&lines, file.len());
        check(bytes, demo, &[Way::Off], GREEDY);
        check(bytes, demo, &[Way::Fixed(StateMode::Deferred), Way::Verified], 48);
    }
}
