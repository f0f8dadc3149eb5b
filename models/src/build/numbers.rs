//! Where the numbers of a bundle come from: a checkpoint, and the exits that were trained for it.

use std::ops::Range;
use std::path::Path;

use super::{BuildError, ExitSource};
use crate::backbone::Backbone;
use crate::capture::{CaptureError, CaptureOptions, Captured, capture};
use crate::checkpoint::{Checkpoint, CheckpointError};
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
}
