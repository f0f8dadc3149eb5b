//! Tensors in mapped files: safetensors, or GGUF under the names of transformers.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::ops::Range;
use std::path::Path;

use dynamax_bundle::DType;
use memmap2::{Mmap, UncheckedAdvice};
use safetensors::SafeTensors;

use super::{CheckpointError, Encoding};
use crate::config::Config;
use crate::gguf::{self, Gguf};

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
    encoding: Encoding,
    shape: Vec<usize>,
    bytes: Range<usize>,
    /// Rows of one head, where those of its two halves alternate in the file.
    interleaved: Option<usize>,
    /// It holds `-exp` of what the name says.
    is_neg_exp: bool,
}

impl Stored {
    /// Numbers in a row: in all but the first axis.
    fn width(&self) -> usize {
        self.shape.get(1..).map_or(1, |rest| rest.iter().product())
    }

    /// Bytes of some numbers, which begin and end with whole blocks.
    fn bytes_of(&self, numbers: &Range<usize>) -> Range<usize> {
        let bytes =
            |numbers: usize| numbers / self.encoding.block_numbers() * self.encoding.block_bytes();
        self.bytes.start + bytes(numbers.start)..self.bytes.start + bytes(numbers.end)
    }

    /// Where the file has a row: the halves of a head one after the other become neighbours.
    fn place(&self, row: usize) -> usize {
        let Some(head) = self.interleaved else { return row };
        let (first, within) = (row / head * head, row % head);
        first + within % (head / 2) * 2 + within / (head / 2)
    }
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

    /// Takes the tensors of a GGUF file.
    pub(super) fn open_gguf(file: Gguf, config: &Config) -> Result<Self, CheckpointError> {
        let of = |tensor: gguf::Tensor| {
            let stored = Stored {
                file: 0,
                name: tensor.name,
                encoding: tensor.stored.encoding,
                shape: tensor.shape,
                bytes: tensor.stored.bytes,
                interleaved: tensor.interleaved,
                is_neg_exp: tensor.is_neg_exp,
            };
            (tensor.known_as, stored)
        };
        let stored = gguf::tensors(&file, config)?.into_iter().map(of).collect();
        Ok(Self { files: vec![file.into_map()], stored })
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
            (Some(a), Some(b)) => a.encoding == b.encoding && self.bytes(a) == self.bytes(b),
            _ => false,
        }
    }

    /// How a tensor is written, and what its file calls it.
    pub(super) fn encoding(&self, tensor: &str) -> Option<(Encoding, &str)> {
        self.stored.get(tensor).map(|stored| (stored.encoding, stored.name.as_str()))
    }

    /// The tensor holds `-exp` of what its name says.
    pub(super) fn is_neg_exp(&self, tensor: &str) -> bool {
        self.stored.get(tensor).is_some_and(|stored| stored.is_neg_exp)
    }

    /// Appends numbers of a tensor, row-major, to `out`; rows of block encodings are whole.
    pub(super) fn numbers(
        &self,
        tensor: &str,
        range: Range<usize>,
        out: &mut Vec<f32>,
    ) -> Result<(), CheckpointError> {
        let first = out.len();
        let stored = self.parts(tensor, &range, |encoding, bytes| encoding.decode(bytes, out))?;
        match out[first..].iter().position(|number| !number.is_finite()) {
            None => Ok(()),
            Some(index) => Err(CheckpointError::NotFinite {
                tensor: stored.name.clone(),
                index: range.start + index,
                found: out[first + index],
            }),
        }
    }

    /// Appends the blocks of some rows of a matrix to `out`, as blocks of `dtype`.
    pub(super) fn blocks(
        &self,
        tensor: &str,
        range: Range<usize>,
        dtype: DType,
        out: &mut Vec<u8>,
    ) -> Result<(), CheckpointError> {
        self.parts(tensor, &range, |encoding, bytes| encoding.carry(dtype, bytes, out)).map(drop)
    }

    /// Hands the bytes of some numbers to `take`: at once, or row by row where the file has rows in another order.
    fn parts(
        &self,
        tensor: &str,
        range: &Range<usize>,
        mut take: impl FnMut(Encoding, &[u8]),
    ) -> Result<&Stored, CheckpointError> {
        let stored = self.stored.get(tensor);
        let stored = stored
            .ok_or_else(|| CheckpointError::Missing { tensor: tensor.into(), shape: Vec::new() })?;
        let file = &self.files[stored.file];
        if stored.interleaved.is_none() {
            take(stored.encoding, &file[stored.bytes_of(range)]);
            self.forget(stored, range);
            return Ok(stored);
        }
        let width = stored.width();
        for row in range.start / width..range.end / width {
            let row = stored.place(row) * width;
            take(stored.encoding, &file[stored.bytes_of(&(row..row + width))]);
        }
        // Rows of a head lie within the head, wherever in it.
        self.forget(stored, range);
        Ok(stored)
    }

    /// Gives pages that have been read back to the system, so that a checkpoint larger than memory passes through.
    fn forget(&self, stored: &Stored, range: &Range<usize>) {
        let bytes = stored.bytes_of(range);
        #[expect(
            unsafe_code,
            reason = "advice that drops pages is unsafe for maps that are written"
        )]
        // SAFETY: the map is a read-only view of a file: a dropped page is read again when it is touched.
        let advised = unsafe {
            self.files[stored.file].unchecked_advise_range(
                UncheckedAdvice::DontNeed,
                bytes.start,
                bytes.len(),
            )
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
            let Some(encoding) = Encoding::of_safetensors(info.dtype) else {
                let found = format!("{:?}", info.dtype);
                return Err(CheckpointError::Type { tensor: name, found });
            };
            let short = PREFIXES
                .iter()
                .find_map(|prefix| name.strip_prefix(prefix))
                .unwrap_or(&name)
                .to_owned();
            let stored = Stored {
                file: self.files.len(),
                encoding,
                shape: info.shape.clone(),
                bytes: data + info.data_offsets.0..data + info.data_offsets.1,
                name,
                interleaved: None,
                is_neg_exp: false,
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
pub(crate) fn map(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: the map is read-only and private to its reader. Another process that changes a checkpoint while it is
    // imported can at worst change the numbers or end this process: bounds were checked against the mapped length.
    unsafe { Mmap::map(file) }
}
