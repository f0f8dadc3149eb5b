//! The Program on Burn devices: the same bits as the `cpu` executor, whatever a token's way through the model.

use dynamax_bundle::{Bundle, DType};
use dynamax_burn::{Backend, BurnDevice};
use dynamax_engine::decoder::Crew;
use dynamax_engine::{Decoder, Device, Line, Loaded, Said, Settings};
use dynamax_kernels::Isa;
use dynamax_tests::{
    Architecture, Hybrid, Random, Trace, VOCAB_SIZE, Way, each_operator, flat, hybrid, pure,
};

const CONTEXT: u32 = 300;
const GREEDY: usize = 256;

/// Of matrices, and of keys and values.
const FORMATS: [(DType, DType); 4] = [
    (DType::F32, DType::F32),
    (DType::F16, DType::F16),
    (DType::Q8, DType::F16),
    (DType::Q4, DType::F16),
];

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

#[test]
fn every_operator_has_the_bits_of_the_reference() {
    for (quant, kv) in FORMATS {
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
fn every_format_says_what_the_cpu_executor_says() {
    for (quant, kv) in FORMATS {
        let what = format!("{} with caches of {}", quant.name(), kv.name());
        on_each(&hybrid(quant, kv), &what, |decoder| Trace::of(decoder, Way::Off, GREEDY, None));
    }
}

#[test]
fn every_architecture_says_what_the_cpu_executor_says_in_every_mode() {
    let pure = |(index, architecture): (usize, Architecture)| {
        let (quant, kv) = FORMATS[index % FORMATS.len()];
        (format!("{architecture:?}"), pure(architecture, quant, kv))
    };
    let mut models: Vec<(String, Hybrid)> =
        Architecture::ALL.into_iter().enumerate().map(pure).collect();
    models.push(("hybrid".into(), hybrid(DType::Q4, DType::F16)));
    models.push(("flat".into(), flat(DType::Q4, DType::F32)));
    for (name, model) in &models {
        for way in Way::all() {
            let what = format!("{name}, {way:?}");
            on_each(model, &what, |decoder| {
                let trace = Trace::of(decoder, way, GREEDY, None);
                let early = trace.asked.iter().filter(|asked| asked.leaves()).count();
                // Layers that add nothing may say the same for ever, and leave at the same place.
                let is_mixed = early > 0 && early < trace.asked.len();
                assert!(way == Way::Off || name == "flat" || is_mixed, "{what}: some leave");
                trace
            });
        }
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
