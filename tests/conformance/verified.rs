//! Drafts that are verified: whatever was drafted, the answers are those of full depth, bit for bit.

use core::ops::Range;

use dynamax_bundle::{Bundle, DType, StateMode};
use dynamax_engine::decoder::Crew;
use dynamax_engine::{
    Decoder, ExitError, ExitSettings, Line, LoadError, Loaded, Probed, Settings, StepError, Team,
};
use dynamax_kernels::Isa;
use dynamax_tests::{Hybrid, Random, VOCAB_SIZE, flat, hybrid};

const CONTEXT: u32 = 128;
const PROMPT: [u32; 5] = [3, 1, 4, 1, 5];
/// Longer than the sliding window several times.
const ANSWER: usize = 90;
/// A token of each round may be fed and forgotten behind the last one.
const MOST_DRAFTS: u32 = 6;

fn settings(drafts: u32) -> Settings {
    Settings { head_rows: drafts + 1, drafts, ..Settings::new(CONTEXT, 8) }
}

/// The same where states go ahead with drafts, and where they go over the log again.
fn both_settings(drafts: u32) -> [Settings; 2] {
    [u64::MAX, 0].map(|most_ahead| Settings { most_ahead, ..settings(drafts) })
}

fn with_decoder<R>(
    model: &Hybrid,
    settings: Settings,
    (isa, crew): (Isa, Crew<'_>),
    run: impl FnOnce(&mut Decoder<'_>) -> R,
) -> R {
    let bundle = Bundle::parse(model.bytes()).expect("sound");
    let program = bundle.program_buf().expect("checked");
    let section = |index: u16| bundle.section(index.into());
    let loaded = Loaded::new(program, section, 4096, settings).expect("fits");
    let mut memory = vec![Line::ZERO; loaded.model().memory_lines()];
    run(&mut Decoder::new(loaded.model(), &mut memory, isa, crew))
}

fn largest(logits: &[f32]) -> u32 {
    Isa::reference().argmax(logits) as u32
}

/// Tokens with the logits behind each.
type Answer = Vec<(u32, Vec<f32>)>;

/// What full depth says.
fn full_depth(model: &Hybrid) -> Answer {
    with_decoder(model, settings(0), (Isa::detect(), Crew::Alone), |decoder| {
        let mut token = largest(decoder.feed(&PROMPT).expect("accepted"));
        let mut answer = Vec::new();
        for _ in 0..ANSWER {
            answer.push((token, decoder.feed(&[token]).expect("accepted").to_vec()));
            token = largest(decoder.logits());
        }
        answer
    })
}

/// Where tokens leave, and what is drafted behind them.
struct Way {
    /// In how many of a hundred cases a token leaves at an exit.
    leaves: u32,
    /// In how many of a hundred cases the draft is right, whatever the exit says.
    right: u32,
    /// In how many of a hundred rounds drafts are guessed, and no exit is asked.
    guessed: u32,
    drafts: u32,
}

/// The same answer in rounds of drafts; how many of them were right, and all.
fn in_rounds(decoder: &mut Decoder<'_>, expected: &Answer, way: &Way) -> (Answer, usize, usize) {
    let exits = ExitSettings { drafts: true, ..ExitSettings::default() };
    decoder.use_exits(Some(exits)).expect("can draft");
    let mut token = largest(decoder.feed(&PROMPT).expect("accepted"));
    let (mut answer, mut random) = (Answer::new(), Random::new(u64::from(way.drafts)));
    let (mut right, mut all) = (0, 0);
    let leave = |probed: Probed| {
        let seed = u64::from(probed.position) * 7 + probed.exit as u64;
        Random::new(seed).below(100) < way.leaves
    };
    while answer.len() < ANSWER {
        if decoder.accept(token) {
            right += 1;
        } else if random.below(100) < way.guessed {
            let drafts = guesses(expected, answer.len(), way, &mut random);
            let outcome = decoder.verify(token, &drafts).expect("accepted");
            let last = decoder.model().program().segments.len() - 1;
            let went = (usize::from(outcome.reach), outcome.drafts as usize);
            assert_eq!(went, (last, drafts.len()), "through all layers");
            all += drafts.len();
        } else {
            all += round(decoder, expected, (token, answer.len()), &leave, way, &mut random);
        }
        answer.push((token, decoder.logits().to_vec()));
        token = largest(decoder.logits());
    }
    (answer, right, all)
}

/// What follows the token at `at`, or often something else.
fn guesses(expected: &Answer, at: usize, way: &Way, random: &mut Random) -> Vec<u32> {
    let room = (ANSWER + 8 - at).min(way.drafts as usize);
    let draft = |index| {
        let known = expected.get(at + 1 + index).map_or(0, |(token, _)| *token);
        if random.below(100) < way.right { known } else { random.below(VOCAB_SIZE) }
    };
    (0..room).map(draft).collect()
}

/// Feeds a token, and drafts until the last layer has been asked; the number of drafts.
fn round(
    decoder: &mut Decoder<'_>,
    expected: &Answer,
    (token, at): (u32, usize),
    leave: &(impl Fn(Probed) -> bool + Sync),
    way: &Way,
    random: &mut Random,
) -> usize {
    let mut token = token;
    for draft in 0.. {
        let room = draft + at < ANSWER + 8;
        let outcome = decoder.step(token, |probed| room && leave(probed)).expect("accepted");
        if outcome.reach == 2 || outcome.segment == outcome.reach && decoder.waiting() == 0 {
            return draft;
        }
        let says = largest(decoder.logits());
        let known = expected.get(at + draft + 1).map(|(token, _)| *token);
        token = match known.filter(|_| random.below(100) < way.right) {
            Some(known) => known,
            None => says,
        };
    }
    unreachable!("rounds end")
}

fn assert_same(found: &Answer, expected: &Answer, what: &str) {
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(found.0, expected.0, "token {index}, {what}");
        assert!(found.1 == expected.1, "logits behind token {index}, {what}");
    }
}

#[test]
fn verified_answers_are_those_of_full_depth_bit_for_bit() {
    let team = Team::new(3).expect("threads start");
    let models = [
        hybrid(DType::F32, DType::F32),
        hybrid(DType::Q8, DType::F16),
        flat(DType::Q4, DType::F16),
    ];
    let mut ways: Vec<(Isa, Crew<'_>)> = Isa::available().map(|isa| (isa, Crew::Alone)).collect();
    ways.push((Isa::detect(), Crew::Team(&team)));
    for (index, model) in models.iter().enumerate() {
        let expected = full_depth(model);
        for (isa, crew) in &ways {
            for settings in [1, 2, MOST_DRAFTS].into_iter().flat_map(both_settings) {
                for (leaves, right, guessed) in [
                    (100, 100, 0),
                    (60, 70, 0),
                    (100, 0, 0),
                    (30, 100, 0),
                    (0, 0, 0),
                    (0, 100, 100),
                    (100, 70, 50),
                    (50, 0, 50),
                ] {
                    let way = Way { leaves, right, guessed, drafts: settings.drafts };
                    let what = format!(
                        "model {index}, {isa:?}, {} threads, {settings:?}, {leaves} % leave, {right} % right, \
                         {guessed} % guessed",
                        crew.threads()
                    );
                    let (found, accepted, drafted) =
                        with_decoder(model, settings, (*isa, *crew), |decoder| {
                            in_rounds(decoder, &expected, &way)
                        });
                    assert_same(&found, &expected, &what);
                    assert_eq!(drafted == 0, leaves + guessed == 0, "{drafted} drafts, {what}");
                    if right == 100 && leaves + guessed > 0 {
                        assert!(
                            accepted + 2 * MOST_DRAFTS as usize >= drafted,
                            "{accepted} of {drafted}: {what}"
                        );
                    }
                }
            }
        }
    }
}

/// The models that are shipped.
fn demos() -> [Hybrid; 2] {
    let demo = |bytes: &[u8]| Hybrid::from_bytes(bytes);
    [
        demo(include_bytes!("../../tools/cli/demo/mamba2.dmx")),
        demo(include_bytes!("../../tools/cli/demo/transformer.dmx")),
    ]
}

/// Answers random prompts at full depth and in rounds of drafts that exits make and often make wrong; counts tokens and wrong
/// drafts.
fn compare_demos(prompts: Range<u64>, ways: &[(Isa, Crew<'_>)]) {
    let count = prompts.end - prompts.start;
    for (index, model) in demos().iter().enumerate() {
        let drafts = 4;
        let expected: Vec<Vec<u32>> = with_decoder(model, settings(drafts), ways[0], |decoder| {
            prompts.clone().map(|seed| greedy(decoder, seed)).collect()
        });
        let [ahead, again] = both_settings(drafts);
        let ways = ways.iter().map(|way| (way, ahead)).chain([(&ways[0], again)]);
        for (way, settings) in ways {
            let (mut wrong, mut right) = (0, 0);
            with_decoder(model, settings, *way, |decoder| {
                let exits = ExitSettings { drafts: true, ..ExitSettings::default() };
                decoder.use_exits(Some(exits)).expect("can draft");
                for (seed, expected) in prompts.clone().zip(&expected) {
                    let (found, tally) = greedy_in_rounds(decoder, seed);
                    assert_eq!(&found, expected, "demo {index}, prompt {seed}, {way:?}");
                    (wrong, right) = (wrong + tally.0, right + tally.1);
                }
            });
            println!(
                "demo {index}, {}: {count} prompts, {right} drafts right, {wrong} wrong",
                way.0.name()
            );
            assert!(wrong > count / 4 && right > count, "drafts of both kinds: {right}, {wrong}");
        }
    }
}

const DEMO_TOKENS: usize = 32;

fn prompt(seed: u64) -> Vec<u32> {
    let mut random = Random::new(seed);
    let len = 1 + random.below(24);
    (0..len).map(|_| random.below(2048)).collect()
}

fn greedy(decoder: &mut Decoder<'_>, seed: u64) -> Vec<u32> {
    decoder.reset();
    let mut tokens = vec![largest(decoder.feed(&prompt(seed)).expect("accepted"))];
    while tokens.len() < DEMO_TOKENS {
        let last = tokens[tokens.len() - 1];
        tokens.push(largest(decoder.feed(&[last]).expect("accepted")));
    }
    tokens
}

/// Leaves at any exit that is more sure than not, and drafts what was said before in every other round that can: wrong drafts are
/// wanted here.
fn greedy_in_rounds(decoder: &mut Decoder<'_>, seed: u64) -> (Vec<u32>, (u64, u64)) {
    decoder.reset();
    let mut token = largest(decoder.feed(&prompt(seed)).expect("accepted"));
    let (mut tokens, mut right, mut all) = (vec![token], 0, 0);
    while tokens.len() < DEMO_TOKENS {
        if decoder.accept(token) {
            right += 1;
        } else if let Some(drafts) = what_followed(&tokens).filter(|_| tokens.len() % 2 == 0) {
            decoder.verify(token, drafts).expect("accepted");
            all += drafts.len() as u64;
        } else {
            let mut fed = token;
            while decoder.step(fed, |probed| probed.score > 0.5).is_ok() && decoder.waiting() > 0 {
                fed = largest(decoder.logits());
                all += 1;
            }
        }
        token = largest(decoder.logits());
        tokens.push(token);
    }
    (tokens, (all - right, right))
}

/// What followed the last token when it was said before.
fn what_followed(tokens: &[u32]) -> Option<&[u32]> {
    let (last, before) = tokens.split_last()?;
    let at = before.iter().rposition(|token| token == last)?;
    Some(&tokens[at + 1..tokens.len().min(at + 5)])
}

/// `DYNAMAX_PROMPTS=10000 cargo test --release -p dynamax-tests --test verified -- --nocapture` takes minutes; `DYNAMAX_SEED`
/// is the first prompt's.
#[test]
fn answers_of_the_demos_are_those_of_full_depth() {
    let asked = |name| std::env::var(name).ok().map(|number| number.parse::<u64>().expect(name));
    let first = asked("DYNAMAX_SEED").unwrap_or(0);
    let team = Team::new(2).expect("threads start");
    let fast = Isa::available().filter(|isa| *isa != Isa::reference());
    let mut ways: Vec<(Isa, Crew<'_>)> = fast.map(|isa| (isa, Crew::Alone)).collect();
    ways.push((Isa::detect(), Crew::Team(&team)));
    // Elsewhere this runs in emulation.
    let few = if cfg!(target_arch = "x86_64") { 60 } else { 4 };
    compare_demos(first..first + asked("DYNAMAX_PROMPTS").unwrap_or(few), &ways);
    compare_demos(
        first..first + few.div_ceil(12),
        &[(Isa::detect(), Crew::Alone), (Isa::reference(), Crew::Alone)],
    );
}

#[test]
fn a_state_that_went_over_a_wrong_draft_answers_otherwise() {
    // What the test above would find if nothing went back.
    let model = hybrid(DType::Q8, DType::F16);
    let expected = full_depth(&model);
    with_decoder(&model, settings(1), (Isa::detect(), Crew::Alone), |decoder| {
        decoder.feed(&PROMPT).expect("accepted");
        decoder.feed(&[expected[0].0]).expect("accepted");
        let wrong = (expected[1].0 + 1) % VOCAB_SIZE;
        decoder.feed(&[wrong]).expect("accepted");
        let found = decoder.feed(&[expected[1].0]).expect("accepted");
        assert!(found != expected[1].1, "the wrong token left a trace");
    });
}

#[test]
fn drafts_that_nobody_accepts_are_forgotten_by_whatever_is_fed_next() {
    let model = hybrid(DType::Q4, DType::F16);
    let expected = full_depth(&model);
    let run = |settings: Settings, between: fn(&mut Decoder<'_>)| {
        with_decoder(&model, settings, (Isa::detect(), Crew::Alone), |decoder| {
            let exits = ExitSettings { drafts: true, ..ExitSettings::default() };
            decoder.use_exits(Some(exits)).expect("can draft");
            decoder.feed(&PROMPT).expect("accepted");
            decoder.step(expected[0].0, |_| true).expect("accepted");
            for wrong in [7, 8] {
                decoder.step(wrong, |_| true).expect("accepted");
            }
            between(decoder);
            decoder.feed(&[expected[1].0]).expect("accepted").to_vec()
        })
    };
    let ways: [fn(&mut Decoder<'_>); 3] = [
        |_| (),
        |decoder| decoder.catch_up(),
        |decoder| {
            decoder.step(9, |_| false).expect("accepted");
        },
    ];
    for (index, way) in ways.into_iter().enumerate() {
        for settings in both_settings(4) {
            assert!(run(settings, way) == expected[1].1, "way {index}, {settings:?}");
        }
    }
}

#[test]
fn what_cannot_be_verified_is_refused() {
    let model = hybrid(DType::Q8, DType::F16);
    let refused = |settings, exits| {
        with_decoder(&model, settings, (Isa::detect(), Crew::Alone), |decoder| {
            decoder.use_exits(Some(exits))
        })
    };
    let drafts = ExitSettings { drafts: true, ..ExitSettings::default() };
    assert_eq!(refused(settings(0), drafts), Err(ExitError::Drafts), "nothing was planned");
    let skip = ExitSettings { state: StateMode::Skip, ..drafts };
    assert_eq!(refused(settings(3), skip), Err(ExitError::Drafts), "state is not exact");
    let verified = |exits: Option<ExitSettings>, drafts: &[u32]| {
        with_decoder(&model, settings(2), (Isa::detect(), Crew::Alone), |decoder| {
            decoder.use_exits(exits).expect("can");
            decoder.feed(&PROMPT).expect("accepted");
            let before = decoder.logits().to_vec();
            let refused = decoder.verify(1, drafts).map(|_| ());
            assert!(before == decoder.logits(), "as it was");
            refused
        })
    };
    let many = |found, most| Err(StepError::Drafts { found, most });
    assert_eq!(verified(Some(drafts), &[1, 2, 3]), many(3, 2), "more than were planned");
    assert_eq!(verified(None, &[1]), many(1, 0), "not in use");
    let unknown = StepError::Token { found: VOCAB_SIZE, vocab_size: VOCAB_SIZE };
    assert_eq!(verified(Some(drafts), &[1, VOCAB_SIZE]), Err(unknown), "no such token");
    let many = ExitSettings { pending_max: 4, ..drafts };
    assert_eq!(refused(settings(3), many), Err(ExitError::Pending { found: 4, most: 3 }), "more");

    let bundle = Bundle::parse(model.bytes()).expect("sound");
    let program = bundle.program_buf().expect("checked");
    let section = |index: u16| bundle.section(index.into());
    let settings = Settings { head_rows: 3, drafts: 3, ..Settings::new(CONTEXT, 8) };
    let refused = Loaded::new(program, section, 4096, settings).map(|_| ());
    assert_eq!(refused.unwrap_err(), LoadError::Drafts { found: 3, most: 2 }, "logits of 4 rows");
}
