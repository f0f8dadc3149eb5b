//! Memory is bounded before the first token, and what does not fit is refused with numbers.

use dynamax_bundle::{Bundle, DType};
use dynamax_engine::decoder::Crew;
use dynamax_engine::model::fit;
use dynamax_engine::{Decoder, Line, LoadError, Loaded, Settings, StepError};
use dynamax_kernels::Isa;
use dynamax_plan::{Buffer, verify};
use dynamax_tests::{VOCAB_SIZE, hybrid};

const SETTINGS: Settings = Settings::new(48, 8);

fn with_loaded(settings: Settings, check: impl FnOnce(&Loaded<'_>)) {
    let model = hybrid(DType::Q4, DType::F16);
    let bundle = Bundle::parse(model.bytes()).expect("sound");
    let program = bundle.program_buf().expect("checked");
    check(
        &Loaded::new(program, |index| bundle.section(index.into()), 4096, settings).expect("fits"),
    );
}

#[test]
fn the_arena_is_within_a_hundredth_of_its_bound() {
    for max_rows in [1, 2, 8, 32] {
        with_loaded(Settings { max_rows, ..SETTINGS }, |loaded| {
            let sizes = loaded.model().sizes();
            let (arena, bound) = (sizes.arena_bytes, sizes.lower_bound_bytes);
            assert!(arena >= bound, "{arena} bytes hold {bound}");
            assert!(
                arena * 100 <= bound * 101,
                "{max_rows} rows: {arena} bytes, {bound} would be the least"
            );
            let buffers: Vec<Buffer> =
                loaded.buffers().iter().map(|planned| planned.buffer).collect();
            let offsets: Vec<u64> = loaded.buffers().iter().map(|planned| planned.offset).collect();
            assert_eq!(verify(&buffers, &offsets, arena), Ok(()), "an independent look");
        });
    }
}

#[test]
fn every_limit_below_the_need_is_refused_with_settings_that_fit() {
    let model = hybrid(DType::Q4, DType::F16);
    let bundle = Bundle::parse(model.bytes()).expect("sound");
    let program = bundle.program_buf().expect("checked");
    let need = fit(&program, 0, 4096, SETTINGS, u64::MAX).expect("without limit");
    assert_eq!(fit(&program, 0, 4096, SETTINGS, need), Ok(need), "exactly enough");
    for missing in [1, 64, need / 8, need / 3] {
        let have = need - missing;
        let error = fit(&program, 0, 4096, SETTINGS, have).expect_err("too little");
        let LoadError::Memory { need: reported, have: limit, context_that_fits, rows_that_fit } =
            error
        else {
            panic!("{error}");
        };
        assert_eq!((reported, limit), (need, have), "the exact numbers");
        if context_that_fits > 0 {
            let settings = Settings::new(context_that_fits, rows_that_fit);
            assert!(
                fit(&program, 0, 4096, settings, have).is_ok(),
                "{settings:?} was promised to fit into {have}"
            );
        }
    }
    let error = fit(&program, need, 4096, SETTINGS, need).expect_err("weights alone fill it");
    assert!(
        matches!(error, LoadError::Memory { context_that_fits: 0, .. }),
        "nothing fits: {error}"
    );
}

#[test]
fn settings_out_of_range_are_refused() {
    let model = hybrid(DType::F32, DType::F32);
    let bundle = Bundle::parse(model.bytes()).expect("sound");
    let load = |context, max_rows| {
        let program = bundle.program_buf().expect("checked");
        Loaded::new(
            program,
            |index| bundle.section(index.into()),
            4096,
            Settings::new(context, max_rows),
        )
        .err()
    };
    assert_eq!(load(0, 1), Some(LoadError::Context { found: 0, max: 4096 }), "no context");
    assert_eq!(
        load(4097, 1),
        Some(LoadError::Context { found: 4097, max: 4096 }),
        "beyond the model"
    );
    assert_eq!(load(16, 0), Some(LoadError::Rows { found: 0, max: 16 }), "no rows");
    assert_eq!(load(16, 17), Some(LoadError::Rows { found: 17, max: 16 }), "more rows than tokens");
    assert_eq!(load(4096, 8), None, "the longest context");
}

#[test]
fn a_refused_request_leaves_the_sequence_as_it_was() {
    with_loaded(SETTINGS, |loaded| {
        let mut memory = vec![Line::ZERO; loaded.model().memory_lines()];
        let mut decoder = Decoder::new(loaded.model(), &mut memory, Isa::detect(), Crew::Alone);
        let before = decoder.feed(&[5, 6]).expect("accepted").to_vec();
        assert_eq!(decoder.feed(&[]).err(), Some(StepError::Empty), "no tokens");
        let unknown = StepError::Token { found: VOCAB_SIZE, vocab_size: VOCAB_SIZE };
        assert_eq!(decoder.feed(&[1, VOCAB_SIZE]).err(), Some(unknown), "an id too large");
        let full = StepError::ContextFull { need: 49, context: 48 };
        assert_eq!(decoder.feed(&[1; 47]).err(), Some(full), "one token too many");
        assert_eq!(decoder.position(), 2, "nothing was fed");
        assert_eq!(decoder.logits(), before, "nor computed");
        assert!(decoder.feed(&[1; 46]).is_ok(), "up to the last");
    });
}
