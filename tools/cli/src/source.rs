//! Where a command finds its bundle: a file, or a demo inside this binary.

use std::path::PathBuf;

use anyhow::Result;
use dynamax_session::{Aligned, Source};

static MAMBA2: &Aligned<[u8]> = &Aligned(*include_bytes!("../demo/mamba2.dmx"));
static TRANSFORMER: &Aligned<[u8]> = &Aligned(*include_bytes!("../demo/transformer.dmx"));

/// A demo inside this binary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Demo {
    /// A Mamba-2, trained on public-domain books.
    #[default]
    Mamba2,
    /// A transformer, trained on the same.
    Transformer,
}

/// The bundle that a command names, or a demo.
pub(crate) fn source(bundle: Option<&PathBuf>, demo: Demo) -> Result<Source> {
    let embedded = |name, bytes| Ok(Source::embedded(name, bytes));
    match (bundle, demo) {
        (Some(path), _) => Source::open(path),
        (None, Demo::Mamba2) => embedded("(demo mamba2)", MAMBA2),
        (None, Demo::Transformer) => embedded("(demo transformer)", TRANSFORMER),
    }
}
