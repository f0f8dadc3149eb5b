//! Early exits: state is exact where it is said to be, and the answer is one everywhere.

use dynamax_bundle::{Bundle, DType, StateMode};
use dynamax_engine::decoder::Crew;
use dynamax_engine::{
    Decide, Decoder, ExitError, ExitSettings, Line, Loaded, Outcome, Probed, Said, Settings, Team,
    Thresholds,
};
use dynamax_kernels::Isa;
use dynamax_tests::{Hybrid, Random, VOCAB_SIZE, flat, hash_bits, hybrid};

const CONTEXT: u32 = 96;
const PROMPT: usize = 11;

fn tokens() -> Vec<u32> {
    let mut random = Random::new(5);
    (0..80).map(|_| random.below(VOCAB_SIZE)).collect()
}

/// Leaves at an exit or not, by chance that depends on the position alone.
fn at_random(probed: Probed) -> bool {
    let mut random = Random::new(u64::from(probed.position) * 2 + probed.exit as u64);
    random.below(100) < 55
}

fn never(_: Probed) -> bool {
    false
}

/// How a sequence is decoded.
struct Way<'a> {
    isa: Isa,
    crew: Crew<'a>,
    settings: Settings,
    exits: Option<ExitSettings>,
}

impl Default for Way<'_> {
    fn default() -> Self {
        Self {
            isa: Isa::detect(),
            crew: Crew::Alone,
            settings: Settings::new(CONTEXT, 16),
            exits: Some(ExitSettings::default()),
        }
    }
}

/// What came of a sequence.
#[derive(PartialEq)]
struct Trace {
    logits: Vec<f32>,
    outcomes: Vec<Outcome>,
    state: Vec<u8>,
}

/// Feeds a prompt, then token by token, then takes along all that still wait.
fn trace(model: &Hybrid, way: &Way<'_>, decide: impl Fn(Probed) -> bool + Sync) -> Trace {
    trace_by(model, way, |decoder, token| decoder.step(token, &decide).expect("accepted"))
}

/// The same, where `step` feeds the tokens behind the prompt.
fn trace_by(
    model: &Hybrid,
    way: &Way<'_>,
    step: impl Fn(&mut Decoder<'_>, u32) -> Outcome,
) -> Trace {
    let bundle = Bundle::parse(model.bytes()).expect("sound");
    let program = bundle.program_buf().expect("checked");
    let section = |index: u16| bundle.section(index.into());
    let loaded = Loaded::new(program, section, 4096, way.settings).expect("fits");
    let model = loaded.model();
    let mut memory = vec![Line::ZERO; model.memory_lines()];
    let mut decoder = Decoder::new(model, &mut memory, way.isa, way.crew);
    decoder.use_exits(way.exits).expect("possible");
    let tokens = tokens();
    let mut logits = decoder.feed(&tokens[..PROMPT]).expect("accepted").to_vec();
    let mut outcomes = Vec::new();
    for &token in &tokens[PROMPT..] {
        outcomes.push(step(&mut decoder, token));
        logits.extend_from_slice(decoder.logits());
    }
    decoder.catch_up();
    let state_bytes = model.sizes().state_bytes as usize;
    Trace { logits, outcomes, state: Line::as_bytes(&memory, state_bytes).to_vec() }
}

fn with(state: StateMode) -> Option<ExitSettings> {
    Some(ExitSettings { state, ..ExitSettings::default() })
}

#[test]
fn a_threshold_that_no_token_reaches_is_full_depth_bit_for_bit() {
    for (quant, kv) in [(DType::F32, DType::F32), (DType::Q8, DType::F16), (DType::Q4, DType::F16)]
    {
        let model = hybrid(quant, kv);
        let full = trace(&model, &Way { exits: None, ..Way::default() }, never);
        for state in StateMode::ALL {
            let way = Way { exits: with(state), ..Way::default() };
            let thresholds = Thresholds::all(1.1);
            let found = trace(&model, &way, |probed| thresholds.leave(probed));
            assert!(found.logits == full.logits, "{} {}", quant.name(), state.name());
            assert!(found.outcomes.iter().all(|outcome| outcome.segment == 2), "to the end");
        }
    }
}

/// Passes the first exit, and leaves at the second by chance, or whatever it scores.
struct AtSecond {
    always: bool,
}

impl Decide for AtSecond {
    fn foregone(&self, exit: usize) -> Option<bool> {
        match exit {
            0 => Some(false),
            _ => self.always.then_some(true),
        }
    }

    fn leaves(&self, probed: Probed) -> bool {
        assert_ne!(probed.exit, 0, "what is foregone is not asked");
        at_random(probed)
    }
}

#[test]
fn what_is_foregone_is_not_asked_and_changes_no_bit() {
    let model = hybrid(DType::Q4, DType::F16);
    for state in StateMode::ALL {
        for always in [false, true] {
            let way = Way { exits: with(state), ..Way::default() };
            let decide = |probed: Probed| probed.exit == 1 && (always || at_random(probed));
            let expected = trace(&model, &way, decide);
            let found = trace_by(&model, &way, |decoder, token| {
                decoder.step_by(token, &AtSecond { always }).expect("accepted")
            });
            let what = format!("{} {always}", state.name());
            assert!(found.logits == expected.logits && found.state == expected.state, "{what}");
            for (found, expected) in found.outcomes.iter().zip(&expected.outcomes) {
                let asked = Outcome { asked: found.asked, ..*expected };
                assert_eq!(*found, asked, "{what}: the same way");
                let count = (found.asked.count_ones(), expected.asked.count_ones());
                assert_eq!(count, (u32::from(!always), 2), "{what}");
            }
        }
    }
}

#[test]
fn deferred_state_is_that_of_full_depth_whoever_left() {
    let exits: [fn(Probed) -> bool; 3] = [at_random, |_| true, |probed| probed.exit == 1];
    for quant in [DType::F32, DType::Q4] {
        let model = hybrid(quant, DType::F16);
        let full = trace(&model, &Way::default(), never);
        for (case, decide) in exits.into_iter().enumerate() {
            for pending_max in [1, 2, 5, 15] {
                let exits = Some(ExitSettings { pending_max, ..ExitSettings::default() });
                let found = trace(&model, &Way { exits, ..Way::default() }, decide);
                assert!(found.state == full.state, "case {case}, at most {pending_max} wait");
                let went_on = found.outcomes.iter().enumerate().filter(|(_, o)| o.segment == 2);
                for (index, _) in went_on {
                    // Of a token that was not settled early, the logits are those of full depth.
                    let rows = (index + 1) * VOCAB_SIZE as usize..(index + 2) * VOCAB_SIZE as usize;
                    assert!(found.logits[rows.clone()] == full.logits[rows], "token {index}");
                }
            }
        }
    }
}

#[test]
fn how_many_may_wait_changes_no_answer() {
    let model = hybrid(DType::Q8, DType::F16);
    let run = |pending_max| {
        let exits = Some(ExitSettings { pending_max, ..ExitSettings::default() });
        trace(&model, &Way { exits, ..Way::default() }, at_random)
    };
    let expected = run(15);
    for pending_max in [1, 2, 3, 7] {
        let found = run(pending_max);
        assert!(found.logits == expected.logits, "at most {pending_max} wait");
    }
}

/// The hash of all logits and of the state behind them, of two models, for each treatment of skipped state.
const ANSWERS: [(StateMode, u64); 4] = [
    (StateMode::Copy, 0xe142_fda6_4e07_18be),
    (StateMode::Propagate, 0x4523_6457_7fdb_56ab),
    (StateMode::Skip, 0x2328_fcf8_c344_b876),
    (StateMode::Deferred, 0xa4d6_064b_6305_c5c0),
];

#[test]
fn every_treatment_gives_the_recorded_bits_everywhere() {
    // Behind the exits of the one are Mamba layers alone, behind the first of the other is attention too.
    let models = [hybrid(DType::Q4, DType::F16), flat(DType::Q4, DType::F16)];
    let team = Team::new(3).expect("threads start");
    for (state, expected) in ANSWERS {
        let check = |isa, crew, what: &str| {
            let way = Way { isa, crew, exits: with(state), ..Way::default() };
            let bits = models.iter().flat_map(|model| {
                let Trace { logits, state, .. } = trace(model, &way, at_random);
                logits.into_iter().chain(state.into_iter().map(f32::from))
            });
            let found = hash_bits(bits);
            assert_eq!(found, expected, "{} on {isa:?}, {what}: {found:#018x}", state.name());
        };
        for isa in Isa::available() {
            check(isa, Crew::Alone, "one thread");
        }
        check(Isa::detect(), Crew::Team(&team), "three threads");
    }
}

#[test]
fn where_layers_add_nothing_propagated_state_is_exact() {
    let model = flat(DType::Q8, DType::F16);
    let full = trace(&model, &Way::default(), never).state;
    let way = Way { exits: with(StateMode::Propagate), ..Way::default() };
    let found = trace(&model, &way, at_random).state;
    // The states of the second probe come last: it hears only the tokens that reach it.
    let layers = full.len() - 2 * 3 * 32 * size_of::<f32>();
    assert!(found[..layers] == full[..layers], "whatever stands for a layer's input is its input");
    assert!(found[layers..] != full[layers..], "some tokens left before the second probe");
}

#[test]
fn copied_keys_and_values_are_those_of_the_layer_before() {
    // Both attention layers have the same weights and inputs; tokens leave between them, so only copies differ from
    // nothing. The Mamba layers behind are left as they are, which is what skipping leaves them as.
    let model = flat(DType::Q8, DType::F32);
    let first_only = |probed: Probed| probed.exit == 0 && at_random(probed);
    let run = |state| trace(&model, &Way { exits: with(state), ..Way::default() }, first_only);
    let (copied, skipped, full) =
        (run(StateMode::Copy).state, run(StateMode::Skip).state, run(StateMode::Deferred).state);
    let differs = |a: &[u8], b: &[u8]| a.iter().zip(b).filter(|(a, b)| a != b).count();
    let caches = cache_bytes(&model);
    assert_eq!(differs(&copied[..caches], &full[..caches]), 0, "caches are exact");
    assert_eq!(differs(&copied[caches..], &skipped[caches..]), 0, "other states hear nothing");
    assert!(differs(&skipped[..caches], &full[..caches]) > 0, "skipping leaves caches out");
    assert!(differs(&copied[caches..], &full[caches..]) > 0, "tokens were left out");
}

/// Bytes of the caches of both attention layers, which come first.
fn cache_bytes(model: &Hybrid) -> usize {
    let bundle = Bundle::parse(model.bytes()).expect("sound");
    let program = bundle.program_buf().expect("checked");
    let is_cache = |tensor: &&dynamax_bundle::Tensor| {
        matches!(tensor.rows, dynamax_bundle::Rows::Cache { .. })
    };
    let caches = program.tensors.iter().filter(is_cache);
    // A window of 19 and chunks of 16 rows.
    caches.map(|tensor| (34 * tensor.width as usize * 4).next_multiple_of(Line::BYTES)).sum()
}

#[test]
fn a_skipped_layer_is_as_if_the_token_had_not_been() {
    let model = flat(DType::Q8, DType::F32);
    let bundle = Bundle::parse(model.bytes()).expect("sound");
    let program = bundle.program_buf().expect("checked");
    let section = |index: u16| bundle.section(index.into());
    let loaded = Loaded::new(program, section, 4096, Settings::new(CONTEXT, 16)).expect("fits");
    let caches = cache_bytes(&model);
    let state_bytes = loaded.model().sizes().state_bytes as usize;
    let state = |tokens: &[u32], leaves: fn(u32) -> bool| {
        let mut memory = vec![Line::ZERO; loaded.model().memory_lines()];
        let mut decoder = Decoder::new(loaded.model(), &mut memory, Isa::detect(), Crew::Alone);
        decoder.use_exits(with(StateMode::Skip)).expect("possible");
        for &token in tokens {
            let decide = |probed: Probed| leaves(probed.position);
            decoder.step(token, decide).expect("accepted");
        }
        Line::as_bytes(&memory, state_bytes)[caches..].to_vec()
    };
    let tokens = tokens();
    let odd: Vec<u32> = tokens.iter().copied().skip(1).step_by(2).collect();
    // Layers that add nothing see the token alone, so what they keep does not depend on the layers before.
    let skipped = state(&tokens, |position| position % 2 == 0);
    assert!(skipped == state(&odd, |_| false), "Mamba layers know the tokens that reached them");
}

#[test]
fn what_waited_is_compared_with_what_it_had_said() {
    let model = hybrid(DType::Q8, DType::F16);
    for head_rows in [1, 4, 16] {
        for pending_max in [3, 15] {
            let settings = Settings { head_rows, ..Settings::new(CONTEXT, 16) };
            let exits =
                Some(ExitSettings { reveals: true, pending_max, ..ExitSettings::default() });
            let found = trace(&model, &Way { exits, settings, ..Way::default() }, at_random);
            let full = trace(&model, &Way { settings, ..Way::default() }, never);
            let argmax = |logits: &[f32]| Isa::detect().argmax(logits);
            let rows = |logits: &[f32]| {
                logits.chunks(VOCAB_SIZE as usize).skip(1).map(argmax).collect::<Vec<_>>()
            };
            let (said, settled) = (rows(&found.logits), rows(&full.logits));
            let left = |index: &usize| found.outcomes[*index].segment < 2;
            let agreed = (0..said.len()).filter(left).filter(|&i| said[i] == settled[i]).count();
            let sum = |of: fn(&Outcome) -> u32| found.outcomes.iter().map(of).sum::<u32>();
            let (revealed, reported) = (sum(|o| o.revealed), sum(|o| o.agreed));
            let (all_left, caught_up) =
                ((0..said.len()).filter(left).count(), sum(|o| o.caught_up));
            assert!(reported <= revealed && revealed <= caught_up, "{revealed} of {caught_up}");
            if head_rows == 16 {
                assert_eq!(revealed, caught_up, "room for all");
                // The last few still waited when the sequence ended.
                let waiting = all_left as u32 - caught_up;
                assert!(waiting < 16, "{waiting} wait");
                assert!(reported <= agreed as u32 && reported + waiting >= agreed as u32, "truly");
            }
        }
    }
}

#[test]
fn a_survey_says_what_stepping_says() {
    let model = hybrid(DType::Q4, DType::F16);
    let bundle = Bundle::parse(model.bytes()).expect("sound");
    let program = bundle.program_buf().expect("checked");
    let section = |index: u16| bundle.section(index.into());
    let settings = Settings { head_rows: 7, ..Settings::new(CONTEXT, 16) };
    let loaded = Loaded::new(program, section, 4096, settings).expect("fits");
    let mut memory = vec![Line::ZERO; loaded.model().memory_lines()];
    let mut decoder = Decoder::new(loaded.model(), &mut memory, Isa::detect(), Crew::Alone);
    decoder.use_exits(Some(ExitSettings::default())).expect("possible");
    let tokens = tokens();
    let mut room = [Said::default(); 14];
    let mut surveyed = Vec::new();
    let visit = |_: usize, said: &[Said], logits: &[f32]| {
        surveyed.push((said.to_vec(), Isa::detect().argmax(logits)));
    };
    decoder.survey(&tokens, &mut room, visit).expect("accepted");
    for exit in 0..2 {
        decoder.reset();
        for (token, (said, _)) in tokens.iter().zip(&surveyed) {
            let score = said[exit].score.to_bits();
            let decide = |probed: Probed| {
                assert!(probed.exit != exit || probed.score.to_bits() == score, "the same score");
                probed.exit == exit
            };
            decoder.step(*token, decide).expect("accepted");
            let token = Isa::detect().argmax(decoder.logits()) as u32;
            assert_eq!(token, said[exit].token, "the same token at exit {exit}");
        }
    }
    decoder.reset();
    for (token, (_, settled)) in tokens.iter().zip(&surveyed) {
        let logits = decoder.feed(&[*token]).expect("accepted");
        assert_eq!(Isa::detect().argmax(logits), *settled, "and in the end");
    }
}

#[test]
fn exits_that_cannot_be_used_are_refused_with_what_to_do() {
    let model = hybrid(DType::Q4, DType::F16);
    let bundle = Bundle::parse(model.bytes()).expect("sound");
    let section = |index: u16| bundle.section(index.into());
    let mut program = bundle.program_buf().expect("checked");
    let use_exits = |program, exits| {
        let loaded = Loaded::new(program, section, 4096, Settings::new(CONTEXT, 4)).expect("fits");
        let mut memory = vec![Line::ZERO; loaded.model().memory_lines()];
        Decoder::new(loaded.model(), &mut memory, Isa::detect(), Crew::Alone).use_exits(exits)
    };
    let many = Some(ExitSettings { pending_max: 4, ..ExitSettings::default() });
    let pending = ExitError::Pending { found: 4, most: 3 };
    assert_eq!(use_exits(program.clone(), many), Err(pending), "three rows and a new one");
    let end = program.as_program().head().end;
    program.ops.truncate(end);
    program.exits.clear();
    assert_eq!(
        use_exits(program, Some(ExitSettings::default())),
        Err(ExitError::NoExits),
        "nothing to leave at"
    );
}
