//! What is exported is what was imported.

use std::path::Path;

use burn::tensor::Device;
use dynamax_models::Config;
use dynamax_models::backbone::Backbone;
use dynamax_models::checkpoint::{Checkpoint, export, load_model, sources};
use dynamax_models::golden::{Golden, compare};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden");

#[test]
fn an_exported_checkpoint_holds_the_same_numbers_and_shape() {
    for name in ["llama-mha-tied", "mistral-gqa-swa", "mamba1-tied", "mamba2-groups2-untied"] {
        let from = Path::new(GOLDEN).join(name);
        let config = Config::read(&from.join("config.json")).unwrap();
        let folder = tempfile::tempdir().unwrap();
        export(folder.path(), &config, &load_model(&from, &config).unwrap()).unwrap();
        assert_eq!(Config::open(folder.path()).unwrap(), config, "{name}: the shape");
        let (before, after) =
            (Checkpoint::open(&from, &config), Checkpoint::open(folder.path(), &config));
        let (before, after) = (before.unwrap(), after.unwrap());
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for source in sources(&config) {
            let (rows, _) = source.matrix_shape();
            before.read(&source.param, 0..rows, &mut a).unwrap();
            after.read(&source.param, 0..rows, &mut b).unwrap();
            assert!(a == b, "{name}: {}", source.param);
        }
    }
}

#[test]
fn a_model_made_from_nothing_can_be_exported_and_loaded() {
    let config = Config::read(&Path::new(GOLDEN).join("mamba1-tied/config.json")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let model = Backbone::new(&config, &Device::flex());
    export(folder.path(), &config, &model).unwrap();
    let golden = Golden::open(&Path::new(GOLDEN).join("mamba1-tied/golden.json")).unwrap();
    let loaded = load_model(folder.path(), &config).unwrap();
    let (made, loaded) = (compare(&model, &golden).unwrap(), compare(&loaded, &golden).unwrap());
    assert_eq!(made, loaded, "the same model twice");
    assert!(!made.greedy_equal, "random weights do not speak as the golden ones");
}
