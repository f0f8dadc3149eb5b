//! From the first token on, nothing is allocated: counted, on every thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use dynamax_bundle::{Bundle, DType, StateMode};
use dynamax_engine::decoder::Crew;
use dynamax_engine::{
    Decoder, ExitSettings, Line, Loaded, Probed, Sampler, Sampling, Settings, Team, sample,
};
use dynamax_kernels::Isa;
use dynamax_tests::{VOCAB_SIZE, hybrid};

/// The system's allocator, counting.
struct Counting;

static CALLS: AtomicUsize = AtomicUsize::new(0);

#[expect(unsafe_code, reason = "an allocator is unsafe by its trait")]
// SAFETY: passes everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// One test in this file: others would allocate at the same time.
#[test]
fn nothing_is_allocated_from_the_first_token_on() {
    for quant in [DType::F32, DType::F16, DType::Q8, DType::Q4] {
        for threads in [1, 2] {
            let with = |state| ExitSettings { state, pending_max: 3, reveals: true, drafts: false };
            let drafts = ExitSettings { drafts: true, reveals: false, ..with(StateMode::Deferred) };
            let exits = StateMode::ALL.map(with).into_iter().chain([drafts]);
            for exits in [None].into_iter().chain(exits.map(Some)) {
                let calls = calls_while_decoding(quant, threads, exits);
                let quant = quant.name();
                assert_eq!(calls, 0, "{quant} weights, {threads} threads, exits {exits:?}");
            }
        }
    }
}

fn calls_while_decoding(quant: DType, threads: usize, exits: Option<ExitSettings>) -> usize {
    let model = hybrid(quant, DType::F16);
    let bundle = Bundle::parse(model.bytes()).expect("sound");
    let program = bundle.program_buf().expect("checked");
    let settings = Settings { head_rows: 8, drafts: 3, ..Settings::new(64, 8) };
    let loaded =
        Loaded::new(program, |index| bundle.section(index.into()), 4096, settings).expect("fits");
    let mut memory = vec![Line::ZERO; loaded.model().memory_lines()];
    let mut candidates = vec![Line::ZERO; sample::storage_bytes(VOCAB_SIZE) as usize / Line::BYTES];
    let team = Team::new(threads).expect("threads start");
    let mut decoder = Decoder::new(loaded.model(), &mut memory, Isa::detect(), Crew::Team(&team));
    let sampling = Sampling {
        temperature: 0.8,
        top_k: 20,
        top_p: 0.9,
        repetition_penalty: 1.1,
        ..Sampling::default()
    };
    let mut sampler = Sampler::new(sampling, VOCAB_SIZE, &mut candidates);

    decoder.use_exits(exits).expect("possible");

    let before = CALLS.load(Ordering::Relaxed);
    let mut token =
        sampler.choose(decoder.feed(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]).expect("accepted"));
    for _ in 0..40 {
        let leaves = |probed: Probed| !(probed.position + probed.exit as u32).is_multiple_of(3);
        if !decoder.accept(token) {
            decoder.step(token, leaves).expect("accepted");
        }
        token = sampler.choose(decoder.logits());
    }
    decoder.catch_up();
    decoder.reset();
    CALLS.load(Ordering::Relaxed) - before
}
