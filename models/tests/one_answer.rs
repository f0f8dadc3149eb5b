//! One answer: a step on Burn's CPU device, and its Program on the board's executor, agree in every bit.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Int, Tensor, TensorData};
use dynamax_bundle::{Bundle, DType};
use dynamax_engine::decoder::Crew;
use dynamax_engine::{Decoder, Line, Loaded, Settings};
use dynamax_kernels::Isa;
use dynamax_models::build::{BuildOptions, Draft};
use dynamax_models::step::Step;
use dynamax_models::{Config, load_model};

const TOKENS: usize = 40;

fn golden() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    let entries = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    let mut dirs: Vec<_> = entries.filter(|dir| dir.join("config.json").exists()).collect();
    dirs.sort();
    assert!(dirs.len() >= 5, "checkpoints in tests/golden");
    dirs
}

/// The logits behind each token, from the model in Burn, fed in steps of `rows`.
fn in_burn(dir: &Path, config: &Config, tokens: &[u32], rows: usize) -> Vec<Vec<f32>> {
    let device = Device::flex();
    let model = load_model(dir, config).unwrap();
    let mut states = model.states(TOKENS, &device);
    let mut logits = Vec::new();
    for (index, chunk) in tokens.chunks(rows).enumerate() {
        let ids: Vec<i64> = chunk.iter().map(|&token| token.into()).collect();
        let ids = Tensor::<1, Int>::from_data(TensorData::new(ids, [chunk.len()]), &device);
        let position = Tensor::<1, Int>::from_data([(index * rows) as i64], &device);
        let out = model.step(ids, position, states);
        states = out.states;
        logits.push(out.logits.into_data().iter().collect());
    }
    logits
}

/// The same from a bundle, on the executor.
fn on_the_executor(dir: &Path, tokens: &[u32], rows: usize) -> Vec<Vec<f32>> {
    let options = BuildOptions { quant: Some(DType::F32), ..BuildOptions::default() };
    let file = Draft::open(dir, &options).unwrap().assemble().unwrap();
    // Where a board maps the file, it starts at a page.
    let mut bytes = vec![0; file.len() + 64];
    let start = bytes.as_ptr().align_offset(64);
    let bytes = &mut bytes[start..start + file.len()];
    bytes.copy_from_slice(&file);
    let bundle = Bundle::parse(bytes).unwrap();
    let settings = Settings::new(TOKENS as u32, 16);
    let program = bundle.program_buf().unwrap();
    let loaded =
        Loaded::new(program, |index| bundle.section(index.into()), 4096, settings).unwrap();
    let model = loaded.model();
    let mut memory = vec![Line::ZERO; model.memory_lines()];
    let mut decoder = Decoder::new(model, &mut memory, Isa::detect(), Crew::Alone);
    tokens.chunks(rows).map(|chunk| decoder.feed(chunk).unwrap().to_vec()).collect()
}

#[test]
fn a_step_in_burn_has_the_bits_of_its_program() {
    for dir in golden() {
        let config = Config::open(&dir).unwrap();
        let vocab_size = config.vocab_size() as u32;
        let tokens: Vec<u32> = (0..TOKENS as u32).map(|i| (i * i * 31 + 7) % vocab_size).collect();
        for rows in [1, 7] {
            let expected = in_burn(&dir, &config, &tokens, rows);
            let found = on_the_executor(&dir, &tokens, rows);
            assert_eq!(found.len(), expected.len(), "steps");
            let differs = |(found, expected): (&Vec<f32>, &Vec<f32>)| {
                let bits = |row: &[f32]| row.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                bits(found) != bits(expected)
            };
            let first = found.iter().zip(&expected).position(differs);
            assert_eq!(first, None, "{}: first step that differs, {rows} rows", dir.display());
        }
    }
}
