//! What is written comes back, and what does not fit is refused by name.

use super::*;
use crate::config::Mamba2Config;
use crate::exits::ClassifierConfig;

const D_MODEL: usize = 32;

fn model() -> Config {
    Config::Mamba2(Mamba2Config { d_model: D_MODEL, n_layers: 4, ..Mamba2Config::default() })
}

fn fingerprint() -> Hash {
    Hash::of(b"some weights")
}

fn exits_config() -> ExitsConfig {
    let exit = |(index, name)| ExitConfig {
        after_layer: index + 1,
        classifier: ClassifierConfig::narrow(name, D_MODEL).unwrap(),
        adapter: (index == 2).then_some(8),
    };
    let exits = ["calm", "ffn", "mamba"].into_iter().enumerate().map(exit).collect();
    ExitsConfig { d_model: D_MODEL, norm_eps: 1e-5, exits }
}

/// Some exits in a folder of their own.
fn stored() -> (tempfile::TempDir, Exits) {
    let dir = tempfile::tempdir().unwrap();
    let exits = Exits::new(&exits_config(), &Device::flex());
    write(dir.path(), (&model(), &fingerprint()), &exits_config(), &exits, None).unwrap();
    (dir, exits)
}

fn refusal(dir: &Path, config: &Config) -> String {
    open(dir, config, &fingerprint()).unwrap_err().to_string()
}

/// Changes the text of `exits.json`.
fn edit(dir: &Path, from: &str, to: &str) {
    let path = dir.join("exits.json");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from:?} in {text}");
    std::fs::write(path, text.replacen(from, to, 1)).unwrap();
}

#[test]
fn exits_come_back_as_they_were_written() {
    let (dir, exits) = stored();
    let (config, checkpoint) = open(dir.path(), &model(), &fingerprint()).unwrap();
    assert_eq!(config, exits_config(), "where and what they are");
    let loaded = checkpoint.load(Exits::new(&config, &Device::flex())).unwrap();
    let (mut before, mut after) = (Reader::default(), Reader::default());
    exits.visit(&mut before);
    loaded.visit(&mut after);
    assert_eq!(before.found, after.found, "every number");
    assert!(before.found.contains_key("exits.0.classifier.linear.weight"), "named by place");
}

#[test]
fn exits_of_another_model_are_refused() {
    let (dir, _) = stored();
    let error = open(dir.path(), &model(), &Hash::of(b"fine-tuned")).unwrap_err().to_string();
    assert!(error.contains("fingerprint is") && error.contains("another model's"), "{error}");
    let wide = Config::Mamba2(Mamba2Config { d_model: 64, n_layers: 4, ..Mamba2Config::default() });
    let error = refusal(dir.path(), &wide);
    assert!(error.contains("d_model is 32, the model has 64"), "{error}");
}

#[test]
fn a_newer_description_is_not_guessed_at() {
    let (dir, _) = stored();
    edit(dir.path(), "\"format\": 1", "\"format\": 2");
    let error = refusal(dir.path(), &model());
    assert!(error.contains("format is 2, this program reads 1"), "{error}");
}

#[test]
fn an_exit_behind_the_last_layer_is_refused() {
    let (dir, _) = stored();
    edit(dir.path(), "\"after_layer\": 3", "\"after_layer\": 4");
    let error = refusal(dir.path(), &model());
    assert!(error.contains("after layer 4 of 4"), "{error}");
}

#[test]
fn weights_that_do_not_fit_are_named() {
    let (dir, _) = stored();
    edit(dir.path(), "\"adapter\": null", "\"adapter\": 8");
    let error = refusal(dir.path(), &model());
    assert!(error.contains("exits.0.adapter.") && error.contains("is missing"), "{error}");

    let (dir, _) = stored();
    edit(dir.path(), "\"adapter\": 8", "\"adapter\": null");
    let error = refusal(dir.path(), &model());
    assert!(error.contains("exits.2.adapter.") && error.contains("does not know"), "{error}");

    let (dir, _) = stored();
    edit(dir.path(), "\"adapter\": 8", "\"adapter\": 16");
    let error = refusal(dir.path(), &model());
    assert!(error.contains("[32, 8]") && error.contains("[32, 16]"), "{error}");
}

#[test]
fn numbers_that_are_none_are_neither_written_nor_read() {
    let (dir, mut exits) = stored();
    let before = std::fs::read(dir.path().join("exits.safetensors")).unwrap();
    let bias = exits.exits[0].classifier.decision_mut().bias.take();
    exits.exits[0].classifier.decision_mut().bias = bias.map(|bias| bias.map(|x| x * f32::NAN));
    let error = write(dir.path(), (&model(), &fingerprint()), &exits_config(), &exits, None);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("exits.0.classifier.linear.bias: number 0 is NaN"), "{error}");
    let path = dir.path().join("exits.safetensors");
    assert!(std::fs::read(&path).unwrap() == before, "as it was");

    let mut bytes = before;
    let len = bytes.len();
    bytes[len - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    let error = refusal(dir.path(), &model());
    assert!(error.contains("is NaN, weights have to be finite"), "{error}");
}
