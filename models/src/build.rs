//! Builds a bundle: streams the tensors of a checkpoint through the quantizer into the sections of a file.
//!
//! ```text
//! checkpoint ─ rows of f32 ─▶ panels of 16 rows, quantized on all cores ─▶ section of the bundle, hashed on the way
//! ```
//!
//! Only one batch of panels is in memory at a time. The file appears under its name when it is complete, or not at
//! all.

mod numbers;
mod sections;
mod text;

use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use dynamax_bundle::{DType, Hash, MetaBuf, ProgramBuf, SectionKind, SectionSpec, Tensor, Writer};

use crate::capture::{CaptureError, CaptureOptions, Captured, WeightSpec};
use crate::checkpoint::CheckpointError;
use crate::config::{Config, ConfigError};
use crate::exits::ExitsError;
use crate::gguf::Gguf;

use numbers::Numbers;
pub use sections::{Quality, WeightQuality};
pub use text::{TextError, TextFiles};

/// What may be chosen about a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildOptions {
    /// How matrices are stored; by default as a GGUF file has them, and q4 from any other checkpoint.
    pub quant: Option<DType>,
    /// How caches of attention are stored; by default f32 for an f32 bundle, f16 otherwise.
    pub kv: Option<DType>,
    /// Tokens to plan for by default.
    pub context: Option<u32>,
    /// Rows of a chunk to plan for by default.
    pub max_rows: u32,
    /// Where exits come from.
    pub exits: ExitSource,
}

impl Default for BuildOptions {
    fn default() -> Self {
        let exits = ExitSource::default();
        Self { quant: None, kv: None, context: None, max_rows: 32, exits }
    }
}

/// Where the exits of a bundle come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ExitSource {
    /// From the checkpoint's folder, if it has some.
    #[default]
    Beside,
    /// From this folder.
    Folder(PathBuf),
    /// From nowhere.
    Nowhere,
}

/// Contexts planned by default are no longer than this, however long the model could go.
const DEFAULT_CONTEXT: u32 = 4096;

/// Why no bundle was built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The weights cannot be used.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The exits cannot be used.
    #[error(transparent)]
    Exits(#[from] ExitsError),
    /// The model's step cannot be captured.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The tokenizer cannot be used.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The bundle's parts do not fit together.
    #[error("the bundle cannot be laid out: {0}")]
    Bundle(#[from] dynamax_bundle::BundleError),
    /// A context that the model was not made for.
    #[error("--context {found}: the model allows 1 to {max} tokens; choose one of these")]
    Context {
        /// Tokens asked for.
        found: u32,
        /// Longest context of the model.
        max: u32,
    },
    /// A number in a weight is none, or too large for the stored type.
    #[error(
        "{tensor}[{row}, {column}] is {found}, which cannot be stored as {dtype}: weights must be finite and in \
             range; export the checkpoint again"
    )]
    NotStorable {
        /// Parameter path.
        tensor: String,
        /// Row of the parameter.
        row: usize,
        /// Column of the parameter.
        column: usize,
        /// The number.
        found: f32,
        /// How it was to be stored.
        dtype: &'static str,
    },
    /// Writing failed.
    #[error("{}: {error}; nothing was left there", path.display())]
    Write {
        /// The bundle.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
}

/// What was built.
#[derive(Clone, Debug)]
pub struct Built {
    /// Bytes of the bundle.
    pub file_bytes: u64,
    /// Bytes of all weights.
    pub weights_bytes: u64,
    /// Weights, as trained.
    pub params: u64,
    /// How well each matrix survived.
    pub quality: Quality,
    /// What a user should know.
    pub warnings: Vec<String>,
}

/// A bundle whose parts are all known but for the weights' bytes.
#[derive(Debug)]
pub struct Draft {
    numbers: Numbers,
    weights: Vec<WeightSpec>,
    program: ProgramBuf,
    texts: Vec<(SectionKind, Vec<u8>)>,
    writer: Writer,
    params: u64,
    warnings: Vec<String>,
}

impl Draft {
    /// Reads everything but the weights of the checkpoint in `dir`, or in the GGUF file `dir`.
    ///
    /// # Errors
    ///
    /// A configuration, checkpoint or tokenizer that cannot be used.
    pub fn open(dir: &Path, options: &BuildOptions) -> Result<Self, BuildError> {
        let config = Config::open(dir)?;
        let numbers = Numbers::open(dir, &config, &options.exits)?;
        let keeps = options.quant.is_none() && Gguf::is_one(dir);
        let quant = if keeps { numbers.most_common() } else { options.quant.unwrap_or(DType::Q4) };
        let kv = options.kv.unwrap_or(if quant == DType::F32 { DType::F32 } else { DType::F16 });
        let capture_options = CaptureOptions { quant, kv, ..CaptureOptions::default() };
        let mut captured = numbers.capture(&config, &capture_options)?;
        if keeps {
            numbers.keep_types(&mut captured);
        }
        let texts = TextFiles::open(dir, &config)?;
        let mut warnings = texts.warnings.clone();
        warnings.extend(numbers.warnings().iter().cloned());
        warnings.extend(numbers.requantized(&captured));
        let params = captured
            .weights
            .iter()
            .filter(|weight| weight.is_trained())
            .map(WeightSpec::numbers)
            .sum();
        let meta = MetaBuf { quant, kv, params, ..meta(dir, &config, options, texts.add_bos)? };
        let texts: Vec<_> = texts.into_sections();
        let mut specs = sections::weight_sections(&captured);
        specs.extend(texts.iter().map(|(kind, bytes)| SectionSpec {
            name: String::new(),
            kind: *kind,
            len: bytes.len() as u64,
        }));
        let Captured { program, weights, .. } = captured;
        let writer = Writer::new(meta, program.clone(), specs)?;
        Ok(Self { numbers, weights, program, texts, writer, params, warnings })
    }

    /// Bytes of the finished file.
    #[must_use]
    pub fn file_len(&self) -> u64 {
        self.writer.file_len()
    }

    /// Weights, as trained.
    #[must_use]
    pub fn params(&self) -> u64 {
        self.params
    }

    /// Writes the file; `progress` is told of each written number of bytes.
    ///
    /// # Errors
    ///
    /// Weights that cannot be read or are not finite; a full disk. No file is left then.
    pub fn write(self, path: &Path, progress: &mut dyn FnMut(u64)) -> Result<Built, BuildError> {
        let failed = |error| BuildError::Write { path: path.into(), error };
        let folder =
            path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file =
            tempfile::Builder::new().prefix(".dynamax-").tempfile_in(folder).map_err(failed)?;
        let built = self.write_to(file.as_file_mut(), path, progress)?;
        file.as_file().sync_all().map_err(failed)?;
        make_readable(file.as_file()).map_err(failed)?;
        file.persist(path).map_err(|error| failed(error.error))?;
        Ok(built)
    }

    /// Builds the bundle in memory: for tests and comparisons of small models.
    ///
    /// # Errors
    ///
    /// Weights that cannot be read or are not finite.
    pub fn assemble(self) -> Result<Vec<u8>, BuildError> {
        let mut bytes = std::io::Cursor::new(Vec::new());
        self.write_to(&mut bytes, Path::new("(memory)"), &mut |_| ())?;
        Ok(bytes.into_inner())
    }

    fn write_to(
        self,
        file: &mut (impl Write + Seek),
        path: &Path,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Built, BuildError> {
        let failed = |error| BuildError::Write { path: path.into(), error };
        let mut file = BufWriter::with_capacity(PIECE_BYTES, file);
        let mut quality = Quality::default();
        let mut hashes: Vec<Hash> = Vec::new();
        // The header comes last, when all hashes are known.
        let mut at = 0;
        for weight in &self.weights {
            at += pad(&mut file, self.writer.offset(hashes.len()) - at).map_err(failed)?;
            let mut sink = sections::Sink::new(&mut file, progress);
            let tensor = self.program.tensors[weight.tensor.index()];
            sections::write_weight(&self.numbers, weight, &tensor, &mut sink, &mut quality)
                .map_err(|error| error.at(path))?;
            at += sink.written();
            hashes.push(sink.finish());
        }
        for (_, bytes) in &self.texts {
            at += pad(&mut file, self.writer.offset(hashes.len()) - at).map_err(failed)?;
            let mut sink = sections::Sink::new(&mut file, progress);
            sink.write(bytes).map_err(failed)?;
            at += sink.written();
            hashes.push(sink.finish());
        }
        pad(&mut file, self.writer.file_len() - at).map_err(failed)?;
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        file.write_all(&self.writer.header(&hashes)).map_err(failed)?;
        file.flush().map_err(failed)?;
        let weights_bytes = self.program.tensors.iter().filter_map(Tensor::stored_bytes).sum();
        let file_bytes = self.writer.file_len();
        Ok(Built {
            file_bytes,
            weights_bytes,
            params: self.params,
            quality,
            warnings: self.warnings,
        })
    }
}

/// Bytes written at once: a kernel that has large pages for files takes one for what it gets in one piece, and a bundle that was just built is
/// read from them.
const PIECE_BYTES: usize = 32 << 20;

/// Writes so many zeros, and returns their number.
fn pad(out: &mut impl Write, zeros: u64) -> std::io::Result<u64> {
    std::io::copy(&mut std::io::repeat(0).take(zeros), out)
}

/// Temporary files are private; a bundle is as readable as any other new file.
fn make_readable(file: &std::fs::File) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
    }
    Ok(())
}

/// What a bundle says of itself, but for its types and size.
fn meta(
    dir: &Path,
    config: &Config,
    options: &BuildOptions,
    add_bos: bool,
) -> Result<MetaBuf, BuildError> {
    let max = config.context_max();
    let context =
        options.context.unwrap_or(if max == u32::MAX { max } else { max.min(DEFAULT_CONTEXT) });
    if context == 0 || context > max {
        return Err(BuildError::Context { found: context, max });
    }
    let name = dir.canonicalize().unwrap_or_else(|_| dir.into());
    let name = if Gguf::is_one(&name) { name.file_stem() } else { name.file_name() };
    let name = name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(MetaBuf {
        architecture: config.architecture().into(),
        name,
        created_by: concat!("dynamax ", env!("CARGO_PKG_VERSION")).into(),
        quant: DType::Q4,
        params: 0,
        d_model: config.d_model() as u32,
        n_layers: config.n_layers() as u32,
        vocab_size: config.vocab_size() as u32,
        context_max: max,
        context,
        max_rows: options.max_rows.min(context),
        kv: DType::F16,
        bos: config.bos().filter(|_| add_bos),
        eos: dynamax_bundle::TokenIds::new(config.eos()).unwrap_or_default(),
    })
}
