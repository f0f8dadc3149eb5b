//! What a run needs to go on exactly where it stopped, in one file that is replaced as a whole.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use safetensors::{Dtype, SafeTensors, View};
use serde::{Deserialize, Serialize};

use super::TrainError;
use super::adamw::{AdamW, Slot};
use super::parameters::Parameter;
use crate::exits::Balance;

/// How far a run is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps made.
    pub step: u64,
    /// Seconds that the run has taken so far, evaluations included.
    pub seconds: f64,
    /// Tells the corpus from others.
    pub corpus: u64,
    /// What classifiers are balanced with.
    #[serde(default)]
    pub(crate) balance: Balance,
}

/// The key of [`Progress`] in the file's metadata.
const PROGRESS: &str = "progress";

/// The three tensors of a slot.
const PARTS: [&str; 3] = ["value", "mean", "square"];

/// Writes a checkpoint.
///
/// # Errors
///
/// A disk that is full, or a folder that cannot be written to; the file that was there stays as it was.
pub fn save(path: &Path, adamw: &AdamW, progress: &Progress) -> Result<(), TrainError> {
    let tensors = adamw.slots.iter().flat_map(|slot| {
        let shape = slot.parameter.shape.as_slice();
        let parts = [&slot.parameter.values, &slot.mean, &slot.square];
        let tensor = move |(part, values)| {
            (format!("{part}/{}", slot.parameter.name), Numbers { shape, values })
        };
        PARTS.into_iter().zip(parts.map(Vec::as_slice)).map(tensor)
    });
    // Rust writes the shortest text that reads back as the same f64, and integers of 64 bits whole.
    let progress = serde_json::to_string(progress).map_err(|error| damaged(path, error))?;
    let metadata = HashMap::from([(PROGRESS.to_owned(), progress)]);
    let bytes =
        safetensors::serialize(tensors, Some(metadata)).map_err(|error| damaged(path, error))?;
    replace(path, &bytes)
}

/// Reads a checkpoint of the same parameters as `parameters`, whose own numbers do not matter.
///
/// # Errors
///
/// A file that is missing, damaged, or of another model.
pub fn load(path: &Path, parameters: Vec<Parameter>) -> Result<(AdamW, Progress), TrainError> {
    let bytes = std::fs::read(path).map_err(|error| damaged(path, error))?;
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| damaged(path, error))?;
    let progress = header.metadata().as_ref().and_then(|metadata| metadata.get(PROGRESS));
    let progress = progress.ok_or_else(|| damaged(path, "it does not say how far the run is"))?;
    let progress = serde_json::from_str(progress).map_err(|error| damaged(path, error))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| damaged(path, error))?;
    let read = |part: &str, parameter: &Parameter| {
        let tensor = file
            .tensor(&format!("{part}/{}", parameter.name))
            .map_err(|error| damaged(path, error))?;
        if tensor.dtype() != Dtype::F32 || tensor.shape() != parameter.shape {
            return Err(damaged(
                path,
                format!(
                    "{} is {:?}, expected {:?}",
                    parameter.name,
                    tensor.shape(),
                    parameter.shape
                ),
            ));
        }
        let (numbers, _) = tensor.data().as_chunks::<4>();
        Ok(numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect::<Vec<f32>>())
    };
    let slot = |parameter: Parameter| {
        let [value, mean, square] = PARTS.map(|part| read(part, &parameter));
        Ok(Slot {
            parameter: Parameter { values: value?, ..parameter },
            mean: mean?,
            square: square?,
        })
    };
    let slots = parameters.into_iter().map(slot).collect::<Result<_, TrainError>>()?;
    Ok((AdamW { slots }, progress))
}

/// Puts `bytes` under `path`, at once or not at all: also if power fails in between.
///
/// # Errors
///
/// As [`save`].
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    put(path, bytes).map_err(|error| TrainError::Write { path: path.into(), error })
}

/// As [`replace`], with the system's own error.
pub(crate) fn put(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    let part = Path::new(&name);
    let write = || {
        let mut file = File::create(part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(part, path)
    };
    write().inspect_err(|_| {
        // Half a file is of no use, and a full disk needs the room.
        let _ = std::fs::remove_file(part);
    })
}

fn damaged(path: &Path, reason: impl ToString) -> TrainError {
    TrainError::Damaged { path: path.into(), reason: reason.to_string() }
}

/// A tensor of a file.
pub(crate) struct Numbers<'n> {
    pub(crate) shape: &'n [usize],
    pub(crate) values: &'n [f32],
}

impl View for Numbers<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>().into()
    }

    fn data_len(&self) -> usize {
        size_of_val(self.values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> (AdamW, Progress) {
        let parameter =
            Parameter { name: "a.weight".into(), shape: vec![1, 2], values: vec![0.1, -3e-41] };
        let slot = Slot { parameter, mean: vec![1.0, 2.0], square: vec![f32::MIN_POSITIVE, 4.0] };
        (
            AdamW { slots: vec![slot] },
            Progress { step: 7, seconds: 0.1, corpus: u64::MAX - 1, balance: Balance::default() },
        )
    }

    fn parameters(adamw: &AdamW) -> Vec<Parameter> {
        adamw.slots.iter().map(|slot| slot.parameter.clone()).collect()
    }

    #[test]
    fn a_checkpoint_comes_back_bit_by_bit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.safetensors");
        let (adamw, progress) = state();
        save(&path, &adamw, &progress).unwrap();
        assert_eq!(load(&path, parameters(&adamw)).unwrap(), (adamw, progress), "all of it");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_cut_checkpoint_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.safetensors");
        let (adamw, progress) = state();
        save(&path, &adamw, &progress).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        let error = load(&path, parameters(&adamw)).unwrap_err();
        assert!(matches!(error, TrainError::Damaged { .. }), "{error}");
    }

    #[test]
    fn a_write_that_fails_leaves_the_file_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.safetensors");
        replace(&path, b"good").unwrap();
        // A folder in the way of the new file stands for any failure, also where the tests run as root.
        std::fs::create_dir(dir.path().join("state.safetensors.part")).unwrap();
        assert!(
            matches!(replace(&path, b"new").unwrap_err(), TrainError::Write { .. }),
            "it says so"
        );
        assert_eq!(std::fs::read(&path).unwrap(), b"good", "as it was");
    }
}
