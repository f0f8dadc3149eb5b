//! Exits that were never trained, for a checkpoint of random weights: what drafting and deferring cost depends on shapes
//! alone.
//!
//! ```sh
//! cargo xtask random-checkpoint mistral-7b DIR
//! cargo run --release -p dynamax-models --example random_exits DIR EXITS 8 16
//! dynamax build DIR -o m.dmx --quant q4 --exits EXITS
//! dynamax bench m.dmx --exit verified --acceptance 0.8
//! ```

use std::error::Error;
use std::path::PathBuf;

use burn::tensor::Device;
use dynamax_models::Config;
use dynamax_models::checkpoint::Checkpoint;
use dynamax_models::exits::{self, ClassifierConfig, ExitConfig, Exits, ExitsConfig};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut folder = || arguments.next().map(PathBuf::from);
    let folders = folder().zip(folder());
    let (checkpoint, out) = folders.ok_or("usage: random_exits CHECKPOINT OUT LAYER...")?;
    let layers: Vec<usize> = arguments.map(|layer| layer.parse()).collect::<Result<_, _>>()?;
    let config = Config::open(&checkpoint)?;
    let places = layers.into_iter().map(|after_layer| ExitConfig {
        after_layer,
        classifier: ClassifierConfig::Calm,
        adapter: None,
    });
    let exits_config =
        ExitsConfig { d_model: config.d_model(), norm_eps: 1e-5, exits: places.collect() };
    exits_config.check(config.n_layers())?;
    let fingerprint = Checkpoint::open(&checkpoint, &config)?.fingerprint(&config);
    std::fs::create_dir_all(&out)?;
    let random = Exits::new(&exits_config, &Device::flex());
    exits::write(&out, (&config, &fingerprint), &exits_config, &random, None)?;
    Ok(())
}
