//! What is to be run, noted in order, until it is submitted as one.

use bytemuck::{Pod, Zeroable};

use crate::kernel::Kernel;
use crate::plan::UNIFORM_ALIGN;

/// What kernels are told of one run; `Job` in the shaders.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Run {
    pub(crate) rows: u32,
    pub(crate) cache_position: u32,
    pub(crate) selected: u32,
    pub(crate) upload: u32,
    pub(crate) shifted: u32,
    pub(crate) shift: u32,
    pub(crate) stream: u32,
    pub(crate) stream_stride: u32,
    pub(crate) picked: u32,
    pub(crate) log: u32,
    pub(crate) replayed: u32,
    pub(crate) kept: u32,
}

/// In place of a word, where there is none.
pub(crate) const NONE: u32 = u32::MAX;

/// One thing to do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Entry {
    /// `kernel` with the bindings of dispatch `index`, as run `run` says, over `x` times `y` groups, for `rows` rows.
    Dispatch { kernel: Kernel, index: usize, run: usize, x: u32, y: u32, rows: u32 },
    /// Bytes of one state to another.
    Copy { from: usize, from_byte: u64, to: usize, to_byte: u64, bytes: u64 },
}

/// Everything noted since the last submit.
#[derive(Debug, Default)]
pub(crate) struct Tape {
    pub(crate) entries: Vec<Entry>,
    /// Runs as they lie in their buffer.
    runs: Vec<u8>,
    pub(crate) uploads: Vec<u32>,
}

impl Tape {
    /// Notes a run, and returns its number.
    pub(crate) fn run(&mut self, run: Run) -> usize {
        let index = self.runs.len() / UNIFORM_ALIGN as usize;
        self.runs.extend_from_slice(bytemuck::bytes_of(&run));
        self.runs.resize((index + 1) * UNIFORM_ALIGN as usize, 0);
        index
    }

    /// Runs noted.
    pub(crate) fn run_count(&self) -> usize {
        self.runs.len() / UNIFORM_ALIGN as usize
    }

    /// The runs, as kernels see them.
    pub(crate) fn run_bytes(&self) -> &[u8] {
        &self.runs
    }

    /// Forgets all; the room stays.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.runs.clear();
        self.uploads.clear();
    }
}
