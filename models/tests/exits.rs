//! Exits from Burn to the device: the step of a backbone with exits on Flex, and its Program on the CPU executor, say the
//! same, bit for bit.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::path::{Path, PathBuf};

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Int, Tensor, TensorData};
use dynamax_bundle::{Bundle, DType};
use dynamax_engine::decoder::Crew;
use dynamax_engine::{Decoder, ExitSettings, Line, Loaded, Probed, Settings};
use dynamax_kernels::Isa;
use dynamax_models::Config;
use dynamax_models::build::{BuildOptions, Draft, ExitSource};
use dynamax_models::checkpoint::Checkpoint;
use dynamax_models::exits::{self, ClassifierConfig, ExitConfig, Exits, ExitsConfig, WithExits};
use dynamax_models::step::Step;

const TOKENS: usize = 9;

fn golden() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    let entries = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    let mut dirs: Vec<_> = entries.filter(|dir| dir.join("config.json").exists()).collect();
    dirs.sort();
    assert!(dirs.len() >= 5, "checkpoints in tests/golden");
    dirs
}

/// Draws every parameter, also those that start at zero: exits that were just made say nothing.
struct Drawn(u64);

impl ModuleMapper for Drawn {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, shape) = (param.id, param.lazy_shape());
        let numbers: Vec<f32> = (0..shape.num_elements())
            .map(|_| {
                self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (self.0 >> 40) as f32 / (1_u32 << 24) as f32 - 0.4
            })
            .collect();
        let value = Tensor::from_data(TensorData::new(numbers, shape), &param.lazy_device());
        param.transform_for_load(value, id)
    }
}

/// Exits of a kind behind every layer but the last, with an adapter at the first; classifiers that say something.
fn exits_config(config: &Config, kind: &str) -> ExitsConfig {
    let classifier = ClassifierConfig::narrow(kind, config.d_model()).unwrap();
    let exit = |after_layer| ExitConfig {
        after_layer,
        classifier,
        adapter: (after_layer == 1).then_some(24),
    };
    let exits = (1..config.n_layers()).map(exit).collect();
    ExitsConfig { d_model: config.d_model(), norm_eps: config.norm_eps(), exits }
}

#[test]
fn exits_in_burn_have_the_bits_of_their_program() {
    for dir in golden() {
        let config = Config::open(&dir).unwrap();
        if config.n_layers() < 2 {
            continue;
        }
        for kind in ["calm", "ffn", "mamba"] {
            compare(&dir, &config, kind);
        }
    }
}

fn compare(dir: &Path, config: &Config, kind: &str) {
    let what = format!("{}, {kind}", dir.display());
    let device = Device::flex();
    let checkpoint = Checkpoint::open(dir, config).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let described = exits_config(config, kind);
    let drawn = Exits::new(&described, &device).map(&mut Drawn(1));
    let fingerprint = checkpoint.fingerprint(config);
    exits::write(folder.path(), (config, &fingerprint), &described, &drawn, None).unwrap();

    let (described, weights) = exits::open(folder.path(), config, &fingerprint).unwrap();
    let mut model = WithExits::new(config, &described, &device);
    model.backbone = checkpoint.load(model.backbone).unwrap();
    model.exits = weights.load(model.exits).unwrap();

    let options = BuildOptions {
        quant: Some(DType::F32),
        exits: ExitSource::Folder(folder.path().into()),
        context: Some(64),
        ..BuildOptions::default()
    };
    let bytes = Draft::open(dir, &options).unwrap().assemble().unwrap();
    let lines = Line::copy_from(&bytes);
    let bundle = Bundle::parse(Line::as_bytes(&lines, bytes.len())).unwrap();
    let program = bundle.program_buf().unwrap();
    assert_eq!(program.exits.len(), config.n_layers() - 1, "{what}: exits");
    let section = |index: u16| bundle.section(index.into());
    let loaded = Loaded::new(program, section, 64, Settings::new(64, 16)).unwrap();
    let mut memory = vec![Line::ZERO; loaded.model().memory_lines()];
    let mut decoder = Decoder::new(loaded.model(), &mut memory, Isa::detect(), Crew::Alone);

    for exit in 0..config.n_layers() - 1 {
        decoder.use_exits(Some(ExitSettings::default())).unwrap();
        let mut states = model.states(64, &device);
        for position in 0..TOKENS {
            let token = (position * 7 + 3) % config.vocab_size();
            let int = |value: usize| {
                Tensor::<1, Int>::from_data(TensorData::from([value as i32]), &device)
            };
            let out = model.step(int(token), int(position), states);
            let said = &out.exits[exit];
            let score: Vec<f32> = said.score.clone().into_data().iter().collect();
            let expected: Vec<f32> = said.logits.clone().into_data().iter().collect();
            let settled = 1.0 / (1.0 + dynamax_kernels::math::exp(score[0] - score[1]));
            let decide = |probed: Probed| {
                assert!(
                    probed.exit != exit || probed.score.to_bits() == settled.to_bits(),
                    "{what}: the score at exit {exit}, token {position}"
                );
                probed.exit == exit
            };
            decoder.step(token as u32, decide).unwrap();
            assert!(decoder.logits() == expected, "{what}: logits of exit {exit}, {position}");
            states = out.states;
        }
    }
}
