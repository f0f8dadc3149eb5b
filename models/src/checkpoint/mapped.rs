//! Tensors in mapped safetensors files.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::ops::Range;
use std::path::Path;

use half::{bf16, f16};
use memmap2::{Mmap, UncheckedAdvice};
use safetensors::{Dtype, SafeTensors};

use super::CheckpointError;

/// The prefixes of a language model's backbone in transformers; a checkpoint may have been saved without.
const PREFIXES: [&str; 2] = ["model.", "backbone."];

/// All tensors of a checkpoint, by name without prefix.
#[derive(Debug)]
pub(super) struct Tensors {
    files: Vec<Mmap>,
    stored: BTreeMap<String, Stored>,
}

/// Where a tensor lies.
#[derive(Clone, Debug)]
struct Stored {
    file: usize,
    /// As the file names it.
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Range<usize>,
}

impl Tensors {
    /// Maps `model.safetensors` in `dir`, or all that `model.safetensors.index.json` names.
    pub(super) fn open(dir: &Path) -> Result<Self, CheckpointError> {
        let mut tensors = Self { files: Vec::new(), stored: BTreeMap::new() };
        let (single, index) =
            (dir.join("model.safetensors"), dir.join("model.safetensors.index.json"));
        if single.exists() {
            tensors.add_file(&single, |_| true)?;
        } else if index.exists() {
            tensors.add_index(dir, &index)?;
        } else {
            let has_pickle = [
                "pytorch_model.bin",
                "pytorch_model.bin.index.json",
                "model.pth",
                "consolidated.00.pth",
            ]
            .iter()
            .any(|name| dir.join(name).exists());
            return Err(CheckpointError::NoWeights { dir: dir.into(), has_pickle });
        }
        Ok(tensors)
    }

    /// Maps one file.
    pub(super) fn open_file(path: &Path) -> Result<Self, CheckpointError> {
        let mut tensors = Self { files: Vec::new(), stored: BTreeMap::new() };
        tensors.add_file(path, |_| true)?;
        Ok(tensors)
    }

    /// Shape and first bytes of a tensor.
    pub(super) fn first_bytes(&self, tensor: &str, most: usize) -> (&[usize], &[u8]) {
        self.stored.get(tensor).map_or((&[], &[]), |stored| {
            let bytes = self.bytes(stored);
            (stored.shape.as_slice(), &bytes[..bytes.len().min(most)])
        })
    }

    /// Names, without prefix.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.stored.keys().map(String::as_str)
    }

    /// Shape of a tensor.
    pub(super) fn shape(&self, tensor: &str) -> Option<&[usize]> {
        self.stored.get(tensor).map(|stored| stored.shape.as_slice())
    }

    /// Two tensors hold the same bytes.
    pub(super) fn are_equal(&self, a: &str, b: &str) -> bool {
        match (self.stored.get(a), self.stored.get(b)) {
            (Some(a), Some(b)) => a.dtype == b.dtype && self.bytes(a) == self.bytes(b),
            _ => false,
        }
    }

    /// Appends numbers of a tensor, row-major, to `out`.
    pub(super) fn numbers(
        &self,
        tensor: &str,
        range: Range<usize>,
        out: &mut Vec<f32>,
    ) -> Result<(), CheckpointError> {
        let stored = self.stored.get(tensor);
        let stored = stored
            .ok_or_else(|| CheckpointError::Missing { tensor: tensor.into(), shape: Vec::new() })?;
        let bytes = self.bytes(stored);
        let first = out.len();
        match stored.dtype {
            Dtype::F32 => {
                let bytes = bytes[range.start * 4..range.end * 4].as_chunks::<4>().0;
                out.extend(bytes.iter().map(|bytes| f32::from_le_bytes(*bytes)));
            }
            Dtype::F16 => {
                let bytes = bytes[range.start * 2..range.end * 2].as_chunks::<2>().0;
                out.extend(bytes.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32()));
            }
            Dtype::BF16 => {
                let bytes = bytes[range.start * 2..range.end * 2].as_chunks::<2>().0;
                out.extend(bytes.iter().map(|bytes| bf16::from_le_bytes(*bytes).to_f32()));
            }
            dtype => {
                return Err(CheckpointError::Type {
                    tensor: stored.name.clone(),
                    found: format!("{dtype:?}"),
                });
            }
        }
        self.forget(stored, &range);
        match out[first..].iter().position(|number| !number.is_finite()) {
            None => Ok(()),
            Some(index) => Err(CheckpointError::NotFinite {
                tensor: stored.name.clone(),
                index: range.start + index,
                found: out[first + index],
            }),
        }
    }

    /// Gives pages that have been read back to the system, so that a checkpoint larger than memory passes through.
    fn forget(&self, stored: &Stored, range: &Range<usize>) {
        let number_bytes = if stored.dtype == Dtype::F32 { 4 } else { 2 };
        let (start, len) =
            (stored.bytes.start + range.start * number_bytes, range.len() * number_bytes);
        #[expect(
            unsafe_code,
            reason = "advice that drops pages is unsafe for maps that are written"
        )]
        // SAFETY: the map is a read-only view of a file: a dropped page is read again when it is touched.
        let advised = unsafe {
            self.files[stored.file].unchecked_advise_range(UncheckedAdvice::DontNeed, start, len)
        };
        // Only advice: without it the pages stay until memory is short.
        drop(advised);
    }

    fn bytes(&self, stored: &Stored) -> &[u8] {
        &self.files[stored.file][stored.bytes.clone()]
    }

    /// Adds the tensors of a file that `wanted` names; returns how many.
    fn add_file(
        &mut self,
        path: &Path,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<usize, CheckpointError> {
        let read = |error| CheckpointError::Read { path: path.into(), error };
        let map = map(&File::open(path).map_err(read)?).map_err(read)?;
        let format = |error: String| CheckpointError::Format { path: path.into(), error };
        let (header, metadata) =
            SafeTensors::read_metadata(&map).map_err(|error| format(error.to_string()))?;
        // The header's length field comes first.
        let data = header + size_of::<u64>();
        let mut added = 0;
        for (name, info) in metadata.tensors().into_iter().filter(|(name, _)| wanted(name)) {
            if !matches!(info.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
                return Err(CheckpointError::Type {
                    tensor: name,
                    found: format!("{:?}", info.dtype),
                });
            }
            let short = PREFIXES
                .iter()
                .find_map(|prefix| name.strip_prefix(prefix))
                .unwrap_or(&name)
                .to_owned();
            let stored = Stored {
                file: self.files.len(),
                dtype: info.dtype,
                shape: info.shape.clone(),
                bytes: data + info.data_offsets.0..data + info.data_offsets.1,
                name,
            };
            if let Some(twice) = self.stored.insert(short, stored) {
                return Err(format(format!(
                    "{} is there twice, with and without prefix",
                    twice.name
                )));
            }
            added += 1;
        }
        self.files.push(map);
        Ok(added)
    }

    /// Adds every tensor that the index names, from the shard that it names.
    fn add_index(&mut self, dir: &Path, path: &Path) -> Result<(), CheckpointError> {
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|error| CheckpointError::Read { path: path.into(), error })?;
        let broken = |what: String| CheckpointError::Index { path: path.into(), what };
        let index: Index =
            serde_json::from_str(&text).map_err(|error| broken(format!("no index: {error}")))?;
        let mut shards: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (tensor, shard) in &index.weight_map {
            shards.entry(shard).or_default().push(tensor);
        }
        for (shard, tensors) in shards {
            if shard.contains(['/', '\\']) || shard == ".." {
                return Err(broken(format!("{shard:?} is no file name")));
            }
            let path = dir.join(shard);
            if !path.exists() {
                return Err(CheckpointError::MissingShard { path, tensor: tensors[0].into() });
            }
            let here = |name: &str| index.weight_map.get(name).is_some_and(|of| of == shard);
            if self.add_file(&path, here)? != tensors.len() {
                let missing = tensors
                    .iter()
                    .find(|name| !self.stored.values().any(|stored| stored.name == **name));
                return Err(broken(format!(
                    "{} is not in {shard}",
                    missing.copied().unwrap_or_default()
                )));
            }
        }
        Ok(())
    }
}

/// Which shard each tensor is in.
#[derive(serde::Deserialize)]
struct Index {
    weight_map: HashMap<String, String>,
}

/// Maps a file that is only read.
#[expect(
    unsafe_code,
    reason = "mapping a file is the only way to read a checkpoint that is larger than memory"
)]
fn map(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: the map is read-only and private to this module. Another process that changes a checkpoint while it is
    // imported can at worst change the numbers or end this process: bounds were checked against the mapped length.
    unsafe { Mmap::map(file) }
}
