//! Where the numbers of a bundle come from: a checkpoint, and the exits that were trained for it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use dynamax_bundle::DType;

use super::{BuildError, ExitSource};
use crate::backbone::Backbone;
use crate::capture::{CaptureError, CaptureOptions, Captured, Store, capture};
use crate::checkpoint::{Checkpoint, CheckpointError, Encoding};
use crate::config::Config;
use crate::exits::{self, ExitsConfig, WithExits};

/// Where the exits of a model with exits are, and its backbone.
const EXITS: &str = "exits.";
const BACKBONE: &str = "backbone.";

/// A checkpoint with its exits, if it has some.
#[derive(Debug)]
pub(super) struct Numbers {
    checkpoint: Checkpoint,
    exits: Option<(ExitsConfig, Checkpoint)>,
}

impl Numbers {
    /// Opens both, and checks that they belong together.
    pub(super) fn open(
        dir: &Path,
        config: &Config,
        exits: &ExitSource,
    ) -> Result<Self, BuildError> {
        let checkpoint = Checkpoint::open(dir, config)?;
        let folder = match exits {
            ExitSource::Folder(folder) => Some(folder.as_path()),
            ExitSource::Beside => Some(dir).filter(|dir| dir.join("exits.json").exists()),
            ExitSource::Nowhere => None,
        };
        let open = |dir: &Path| exits::open(dir, config, &checkpoint.fingerprint(config));
        let exits = folder.map(open).transpose()?;
        Ok(Self { checkpoint, exits })
    }

    /// What a user should know, though the checkpoint can be used.
    pub(super) fn warnings(&self) -> &[String] {
        self.checkpoint.warnings()
    }

    /// Captures the step of the model, with its exits; no weights are made. Parameters are named as in
    /// [`Numbers::read`].
    pub(super) fn capture(
        &self,
        config: &Config,
        options: &CaptureOptions,
    ) -> Result<Captured, CaptureError> {
        let Some((exits, _)) = &self.exits else {
            return capture(|device| Backbone::new(config, device), options);
        };
        let mut captured = capture(|device| WithExits::new(config, exits, device), options)?;
        for weight in &mut captured.weights {
            let short = [BACKBONE, EXITS].iter().find_map(|part| weight.param.strip_prefix(part));
            weight.param = short.unwrap_or(&weight.param).to_owned();
        }
        Ok(captured)
    }

    /// Reads rows of a parameter: `exits.0.…` of the exits, any other of the backbone.
    pub(super) fn read(
        &self,
        param: &str,
        rows: Range<usize>,
        out: &mut Vec<f32>,
    ) -> Result<(), CheckpointError> {
        match &self.exits {
            Some((_, exits)) if param.starts_with(EXITS) => exits.read(param, rows, out),
            _ => self.checkpoint.read(param, rows, out),
        }
    }

    /// Reads `-exp` of rows of a parameter.
    pub(super) fn read_neg_exp(
        &self,
        param: &str,
        rows: Range<usize>,
        out: &mut Vec<f32>,
    ) -> Result<(), CheckpointError> {
        match &self.exits {
            Some((_, exits)) if param.starts_with(EXITS) => exits.read_neg_exp(param, rows, out),
            _ => self.checkpoint.read_neg_exp(param, rows, out),
        }
    }

    /// The blocks of a matrix can be stored as `dtype` as they are.
    pub(super) fn are_blocks_of(&self, param: &str, dtype: DType) -> bool {
        let encoding = self.checkpoint.encoding(param);
        encoding.is_some_and(|(encoding, _)| encoding.is_carried_as(dtype))
    }

    /// Reads rows of a matrix as blocks of `dtype`.
    pub(super) fn read_blocks(
        &self,
        param: &str,
        rows: Range<usize>,
        dtype: DType,
        out: &mut Vec<u8>,
    ) -> Result<(), CheckpointError> {
        self.checkpoint.read_blocks(param, rows, dtype, out)
    }

    /// The stored type of most of the backbone's weights.
    pub(super) fn most_common(&self) -> DType {
        self.checkpoint.most_common()
    }

    /// Stores each matrix of the backbone as the file does, or as closely as can be.
    pub(super) fn keep_types(&self, captured: &mut Captured) {
        for weight in captured.weights.iter().filter(|weight| weight.store == Store::Matrix) {
            if let Some((encoding, _)) = self.checkpoint.encoding(&weight.param) {
                captured.program.tensors[weight.tensor.index()].dtype = encoding.closest();
            }
        }
    }

    /// Says which matrices are quantized a second time.
    pub(super) fn requantized(&self, captured: &Captured) -> Vec<String> {
        let mut found: BTreeMap<(Encoding, &str), Vec<&str>> = BTreeMap::new();
        for weight in captured.weights.iter().filter(|weight| weight.store == Store::Matrix) {
            let dtype = captured.program.tensors[weight.tensor.index()].dtype;
            let Some((encoding, name)) = self.checkpoint.encoding(&weight.param) else { continue };
            let is_rounded = matches!(dtype, DType::Q4 | DType::Q8 | DType::F16);
            if encoding.block_numbers() > 1 && is_rounded && !encoding.is_carried_as(dtype) {
                let names = found.entry((encoding, dtype.name())).or_default();
                // A tensor may be several matrices.
                if names.last() != Some(&name) {
                    names.push(name);
                }
            }
        }
        let warning = |((encoding, dtype), names): ((Encoding, &str), Vec<&str>)| {
            let others = match names.len() {
                1 => String::new(),
                count => format!(" and {} others", count - 1),
            };
            format!(
                "{encoding} is rounded a second time, to {dtype}: {}{others}; of the unquantized model less would be lost",
                names[0]
            )
        };
        found.into_iter().map(warning).collect()
    }
}
