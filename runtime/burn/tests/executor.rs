//! The Program on Burn devices: the same bits as the `cpu` executor, whatever a token's way through the model.

use dynamax_bundle::{Bundle, DType, StateMode};
use dynamax_burn::{Backend, BurnDevice};
use dynamax_engine::decoder::Crew;
use dynamax_engine::{
    Decoder, Device, ExitSettings, Line, Loaded, Outcome, Probed, Said, Settings,
};
use dynamax_kernels::Isa;
use dynamax_tests::{Hybrid, Random, VOCAB_SIZE, WINDOW, each_operator, flat, hybrid};

const CONTEXT: u32 = 300;
const GREEDY: usize = 256;

const BACKENDS: &[Backend] =
    if cfg!(feature = "ndarray") { &[Backend::Flex, Backend::Ndarray] } else { &[Backend::Flex] };

/// Bytes at the place where a mapped file would have them.
fn mapped(model: &Hybrid) -> bytes::Bytes {
    struct Owner(Vec<Line>, usize);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            Line::as_bytes(&self.0, self.1)
        }
    }
    bytes::Bytes::from_owner(Owner(Line::copy_from(model.bytes()), model.bytes().len()))
}

/// Runs `with` on a decoder of the `cpu` executor, and on one of each backend with each number of threads.
fn on_each<T: PartialEq>(model: &Hybrid, what: &str, with: impl Fn(&mut Decoder<'_>) -> T) {
    let bytes = mapped(model);
    let bundle = Bundle::parse(&bytes).expect("sound");
    let section = |index: u16| bundle.section(index.into());
    let program = bundle.program_buf().expect("checked");
    let settings = Settings { head_rows: 4, drafts: 3, ..Settings::new(CONTEXT, 16) };
    let loaded = Loaded::new(program, section, 4096, settings).expect("fits");
    let run = |crew: Crew<'_>| {
        let mut memory = vec![Line::ZERO; crew.memory_lines(&loaded.model())];
        with(&mut Decoder::new(loaded.model(), &mut memory, Isa::detect(), crew))
    };
    let expected = run(Crew::Alone);
    for &backend in BACKENDS {
        for threads in [1, 3] {
            let device =
                BurnDevice::new(backend, &loaded.model(), &bytes, threads).expect("is there");
            let found = run(Crew::Device(&device));
            assert!(found == expected, "{what} on {} with {threads} threads", device.name());
        }
    }
}

fn tokens(count: usize) -> Vec<u32> {
    let mut random = Random::new(5);
    (0..count).map(|_| random.below(VOCAB_SIZE)).collect()
}

/// Leaves at an exit or not, by chance that depends on the position alone.
fn at_random(probed: Probed) -> bool {
    let mut random = Random::new(u64::from(probed.position) * 2 + probed.exit as u64);
    random.below(100) < 55
}

/// What was said, bit for bit.
#[derive(PartialEq, Debug)]
struct Trace {
    logits: Vec<u32>,
    tokens: Vec<u32>,
    outcomes: Vec<Outcome>,
}

/// Feeds a prompt, then what is said, most probable token by most probable token.
fn greedy(decoder: &mut Decoder<'_>, exits: Option<ExitSettings>, made: usize) -> Trace {
    decoder.use_exits(exits).expect("possible");
    let mut trace = Trace { logits: Vec::new(), tokens: Vec::new(), outcomes: Vec::new() };
    decoder.feed(&tokens(WINDOW as usize + 20)).expect("accepted");
    for _ in 0..made {
        trace.logits.extend(decoder.logits().iter().map(|logit| logit.to_bits()));
        trace.tokens.push(decoder.best());
        let token = trace.tokens[trace.tokens.len() - 1];
        trace.outcomes.push(decoder.step(token, at_random).expect("accepted"));
    }
    decoder.catch_up();
    // Of the state that was left behind: what it says next, at full depth.
    let last = decoder.feed(&[7]).expect("accepted");
    trace.logits.extend(last.iter().map(|logit| logit.to_bits()));
    trace
}

#[test]
fn every_operator_has_the_bits_of_the_reference() {
    for (quant, kv) in [(DType::F32, DType::F32), (DType::F16, DType::F16), (DType::Q4, DType::F16)]
    {
        let bytes = mapped(&hybrid(quant, kv));
        let bundle = Bundle::parse(&bytes).expect("sound");
        let section = |index: u16| bundle.section(index.into());
        let program = bundle.program_buf().expect("checked");
        let loaded = Loaded::new(program, section, 4096, Settings::new(64, 16)).expect("fits");
        let all = tokens(33);
        for &backend in BACKENDS {
            let device = BurnDevice::new(backend, &loaded.model(), &bytes, 2).expect("is there");
            let chunks = [&all[..16], &all[16..17], &all[17..33]];
            each_operator(loaded.model(), &device, &chunks, |name, expected, found| {
                let same = expected.iter().zip(found).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same && expected.len() == found.len(), "{name} on {}", backend.name());
            });
        }
    }
}

#[test]
fn greedy_tokens_and_logits_are_those_of_the_cpu_executor() {
    for (quant, kv) in [
        (DType::F32, DType::F32),
        (DType::F16, DType::F16),
        (DType::Q8, DType::F16),
        (DType::Q4, DType::F16),
    ] {
        let what = format!("{} with caches of {}", quant.name(), kv.name());
        on_each(&hybrid(quant, kv), &what, |decoder| greedy(decoder, None, GREEDY));
    }
}

#[test]
fn every_treatment_of_skipped_state_is_that_of_the_cpu_executor() {
    for kv in [DType::F32, DType::F16] {
        for model in [hybrid(DType::Q4, kv), flat(DType::Q4, kv)] {
            for state in StateMode::ALL {
                let reveals = state == StateMode::Deferred;
                let exits = Some(ExitSettings {
                    state,
                    reveals,
                    pending_max: 5,
                    ..ExitSettings::default()
                });
                on_each(&model, state.name(), |decoder| greedy(decoder, exits, 60));
            }
        }
    }
}

/// Drafts greedily, and keeps what the last layer says.
fn verified(decoder: &mut Decoder<'_>, made: usize) -> Trace {
    let exits = ExitSettings { drafts: true, ..ExitSettings::default() };
    decoder.use_exits(Some(exits)).expect("possible");
    let mut trace = Trace { logits: Vec::new(), tokens: Vec::new(), outcomes: Vec::new() };
    decoder.feed(&tokens(30)).expect("accepted");
    let mut token = decoder.best();
    while trace.tokens.len() < made {
        trace.tokens.push(token);
        let mut next = token;
        loop {
            let outcome = decoder.step(next, at_random).expect("accepted");
            trace.outcomes.push(outcome);
            next = decoder.best();
            if outcome.reach as usize == 2 {
                break;
            }
        }
        token = decoder.best();
        while decoder.accept(token) {
            trace.tokens.push(token);
            token = decoder.best();
        }
        trace.logits.extend(decoder.logits().iter().map(|logit| logit.to_bits()));
    }
    trace
}

#[test]
fn verified_drafts_are_those_of_the_cpu_executor() {
    for quant in [DType::F32, DType::Q4] {
        on_each(&hybrid(quant, DType::F16), "verified", |decoder| verified(decoder, 120));
    }
}

#[test]
fn what_exits_say_together_is_that_of_the_cpu_executor() {
    on_each(&hybrid(DType::Q8, DType::F16), "survey", |decoder| {
        let mut said = vec![Said::default(); 8];
        let mut all = Vec::new();
        decoder
            .survey(&tokens(50), &mut said, |_, said, logits| {
                all.extend(said.iter().map(|said| (said.score.to_bits(), said.token)));
                all.extend(logits.iter().map(|logit| (logit.to_bits(), 0)));
            })
            .expect("accepted");
        all
    });
}

#[test]
fn chunks_of_a_prompt_change_nothing_and_a_reset_starts_anew() {
    on_each(&hybrid(DType::Q4, DType::F16), "chunks", |decoder| {
        let prompt = tokens(70);
        let mut logits = Vec::new();
        for sizes in [1, 5, 16, 70] {
            decoder.reset();
            for chunk in prompt.chunks(sizes) {
                decoder.feed(chunk).expect("accepted");
            }
            logits.push(decoder.logits().to_vec());
        }
        assert!(logits.iter().all(|found| *found == logits[0]), "one answer");
        logits
    });
}

#[test]
#[cfg(not(feature = "ndarray"))]
fn a_backend_that_is_not_built_in_says_how_to_get_it() {
    let model = hybrid(DType::F32, DType::F32);
    let bytes = mapped(&model);
    let bundle = Bundle::parse(&bytes).expect("sound");
    let section = |index: u16| bundle.section(index.into());
    let program = bundle.program_buf().expect("checked");
    let loaded = Loaded::new(program, section, 4096, Settings::new(64, 8)).expect("fits");
    let error = BurnDevice::new(Backend::Ndarray, &loaded.model(), &bytes, 1).unwrap_err();
    assert!(error.to_string().contains("--features ndarray"), "{error}");
}
