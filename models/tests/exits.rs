//! Exits as deployed against exits as trained.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Distribution, Tensor};
use dynamax_models::exits::{ClassifierConfig, Exit, ExitConfig, Exits, ExitsConfig};
use dynamax_models::step::States;

const D_MODEL: usize = 64;

fn config() -> ExitsConfig {
    let exit = |(layer, name): (usize, &str)| ExitConfig {
        after_layer: layer,
        classifier: ClassifierConfig::narrow(name, D_MODEL).unwrap(),
        adapter: (layer > 1).then_some(32),
    };
    let exits = [(1, "calm"), (2, "ffn"), (3, "mamba")].map(exit).into();
    ExitsConfig { d_model: D_MODEL, norm_eps: 1e-5, exits }
}

/// Moves every number: exits start without an opinion, which would make any two of them equal.
struct Shake;

impl ModuleMapper for Shake {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|x| {
            let noise = Tensor::random(x.dims(), Distribution::Uniform(-0.2, 0.2), &x.device());
            x + noise
        })
    }
}

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter().collect()
}

fn assert_near(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: numbers");
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-4, "{what}: {found}, expected {expected}");
    }
}

fn check_scores(exit: &Exit, x: &Tensor<3>, rows: usize, device: &Device) {
    let [_, seq, _] = x.dims();
    let scores = numbers(exit.scores(x.clone()));
    assert!(scores.iter().any(|score| score.abs() > 1e-2), "it has an opinion: {scores:?}");
    let mut states = States::new();
    exit.add_states(&mut states, device);
    for start in (0..seq).step_by(rows) {
        let len = rows.min(seq - start);
        let part = x.clone().narrow(1, start, len).reshape([len, D_MODEL]);
        let score = numbers(exit.step_score(part, &mut states));
        states = states.finish();
        let last = start + len - 1;
        let what = format!("after layer {}, {rows} rows, token {last}", exit.after_layer);
        assert_near(&score, &scores[2 * last..2 * last + 2], &what);
    }
}

#[test]
fn steps_of_any_length_score_and_adapt_as_the_whole_sequence() {
    let device = Device::flex();
    let exits = Exits::new(&config(), &device).map(&mut Shake);
    let x = Tensor::<3>::random([1, 13, D_MODEL], Distribution::Normal(0.0, 2.0), &device);
    for exit in &exits.exits {
        for rows in [1, 4, 13] {
            check_scores(exit, &x, rows, &device);
        }
        let adapted = numbers(exit.adapt(x.clone()));
        let step = numbers(exit.step_adapt(x.clone().reshape([13, D_MODEL])));
        assert_near(&step, &adapted, "adapted");
        let is_same = adapted == numbers(x.clone());
        assert_eq!(is_same, exit.adapter.is_none(), "an adapter adapts");
    }
}

#[test]
fn new_exits_have_no_opinion_and_change_nothing() {
    let device = Device::flex();
    let exits = Exits::new(&config(), &device);
    let x = Tensor::<3>::random([2, 5, D_MODEL], Distribution::Normal(0.0, 2.0), &device);
    for exit in &exits.exits {
        assert!(numbers(exit.scores(x.clone())).iter().all(|score| *score == 0.0), "half and half");
        assert_eq!(numbers(exit.adapt(x.clone())), numbers(x.clone()), "as it was");
    }
}
