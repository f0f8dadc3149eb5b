//! What a file holds is what a bundle gets: bit for bit where it can be, and with a warning where it cannot.

use std::path::Path;

use dynamax_bundle::{Bundle, DType, Kind, SectionKind};
use dynamax_engine::Line;
use dynamax_kernels::{Format, Matrix};
use dynamax_models::Config;
use dynamax_models::build::{BuildOptions, Draft};
use dynamax_models::checkpoint::{Checkpoint, sources};
use serde_json::Value as Json;

use super::blocks::{ENCODINGS, random};
use super::convert::convert;
use super::writer::{Tensor, Writer};
use super::{file, golden};

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gguf/fixture");

/// The hash of the fixture. Its heads are 2 wide, so that queries and keys have no order but one.
fn hash(numbers: &[f32]) -> String {
    let bytes = numbers.iter().flat_map(|number| number.to_le_bytes());
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    format!("{:016x}", bytes.fold(0xcbf2_9ce4_8422_2325, mix))
}

#[test]
fn every_encoding_is_decoded_as_another_implementation_decodes_it() {
    let path = Path::new(FIXTURE).join("encodings.gguf");
    let expected = std::fs::read_to_string(Path::new(FIXTURE).join("encodings.json")).unwrap();
    let expected: Json = serde_json::from_str(&expected).unwrap();
    let config = Config::open(&path).unwrap();
    let checkpoint = Checkpoint::open(&path, &config).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for source in sources(&config) {
        let (encoding, name) = checkpoint.encoding(&source.param).unwrap();
        let mut numbers = Vec::new();
        checkpoint.read(&source.param, 0..source.matrix_shape().0, &mut numbers).unwrap();
        let first: Vec<f64> = numbers[..4].iter().map(|number| f64::from(*number)).collect();
        let expected = &expected[name];
        assert_eq!(
            hash(&numbers),
            expected["fnv"],
            "{name}, {encoding}: {first:?}, not {expected}"
        );
        seen.insert(encoding.to_string());
    }
    assert_eq!(seen.len(), 11, "encodings in the fixture: {seen:?}");
}

/// A llama whose matrices with whole blocks of 32 or 256 inputs are of one encoding.
fn llama(name: &str) -> Writer {
    let (_, kind, numbers, _) = *ENCODINGS.iter().find(|(known, ..)| *known == name).unwrap();
    let mut writer = convert(&golden("llama-mha-tied"));
    let mut seed = 1;
    for tensor in &mut writer.tensors {
        let [rows, columns] = tensor.shape[..] else { continue };
        if columns % numbers == 0 {
            seed += 1;
            *tensor = Tensor {
                kind,
                bytes: random(name, rows * columns / numbers, seed),
                ..tensor.clone()
            };
        }
    }
    writer
}

/// The numbers of every matrix of a bundle, by name.
fn matrices(bytes: &[u8]) -> Vec<(String, DType, Vec<f32>)> {
    let lines = Line::copy_from(bytes);
    let bundle = Bundle::parse(Line::as_bytes(&lines, bytes.len())).unwrap();
    let sections: Vec<_> = bundle.sections().collect();
    let program = bundle.program_buf().unwrap();
    let matrix = |tensor: &dynamax_bundle::Tensor| {
        let Kind::Weight { section, layout: dynamax_bundle::Layout::Tiled } = tensor.kind else {
            return None;
        };
        let dynamax_bundle::Rows::Fixed(rows) = tensor.rows else { return None };
        let section = &sections[usize::from(section)];
        assert_eq!(section.kind, SectionKind::Weight, "{section:?}");
        let format = match tensor.dtype {
            DType::F32 => Format::F32,
            DType::F16 => Format::F16,
            DType::Q8 => Format::Q8,
            DType::Q4 => Format::Q4,
        };
        let (rows, width) = (rows as usize, tensor.width as usize);
        let matrix = Matrix::new(format, rows, width, section.bytes).unwrap();
        let mut numbers = vec![0.0; rows * width];
        numbers.chunks_mut(width).enumerate().for_each(|(row, out)| matrix.row_into(row, out));
        Some((section.name.to_owned(), tensor.dtype, numbers))
    };
    program.tensors.iter().filter_map(matrix).collect()
}

/// Builds, and holds the matrices that the file has as `encoding` against its numbers; counts those.
fn carried(path: &Path, encoding: &str, quant: Option<DType>, dtype: DType) -> usize {
    let options = BuildOptions { quant, ..BuildOptions::default() };
    let matrices = matrices(&Draft::open(path, &options).unwrap().assemble().unwrap());
    let config = Config::open(path).unwrap();
    let (checkpoint, sources) = (Checkpoint::open(path, &config).unwrap(), sources(&config));
    let mut count = 0;
    for (name, found, stored) in &matrices {
        if checkpoint.encoding(name).unwrap().0.to_string() != encoding {
            continue;
        }
        assert_eq!(*found, dtype, "{name}: {encoding} is stored so");
        let source = sources.iter().find(|source| source.param == *name).unwrap();
        let mut numbers = Vec::new();
        checkpoint.read(name, 0..source.matrix_shape().0, &mut numbers).unwrap();
        let bits =
            |numbers: &[f32]| numbers.iter().map(|number| number.to_bits()).collect::<Vec<_>>();
        assert!(bits(stored) == bits(&numbers), "{name}: weights have changed");
        count += 1;
    }
    count
}

#[test]
fn blocks_that_a_bundle_knows_keep_every_bit() {
    for (encoding, quant, dtype) in [
        ("Q4_0", None, DType::Q4),
        ("Q8_0", None, DType::Q8),
        ("Q5_0", None, DType::Q8),
        ("Q4_0", Some(DType::Q8), DType::Q8),
        ("Q4_0", Some(DType::F32), DType::F32),
        ("Q5_1", Some(DType::F32), DType::F32),
    ] {
        let (_kept, path) = file(&llama(encoding).bytes());
        // The table and six of each layer: the down projection's 172 inputs are no whole blocks.
        assert_eq!(carried(&path, encoding, quant, dtype), 31, "{encoding} as {dtype:?}");
    }
}

#[test]
fn numbers_that_are_not_quantized_stay_as_they_are() {
    let bits = |number: &[u8]| u32::from_le_bytes(number.try_into().unwrap());
    for (kind, name, dtype) in
        [(0, "F32", DType::F32), (1, "F16", DType::F16), (30, "BF16", DType::F32)]
    {
        let mut writer = convert(&golden("llama-mha-tied"));
        for tensor in &mut writer.tensors {
            if tensor.shape.len() == 2 && kind != 0 {
                // What an f16 and a BF16 can hold: a power of two, as the upper bits of the number have it.
                let half = |number: &[u8]| match kind {
                    1 => half::f16::from_f32(f32::from_bits(bits(number))).to_bits(),
                    _ => (bits(number) >> 16) as u16,
                };
                let halves = tensor.bytes.chunks(4).flat_map(|number| half(number).to_le_bytes());
                *tensor = Tensor { kind, bytes: halves.collect(), ..tensor.clone() };
            }
        }
        let (_kept, path) = file(&writer.bytes());
        assert_eq!(carried(&path, name, None, dtype), 36, "{name}");
    }
}

#[test]
fn what_is_rounded_again_is_named() {
    // An input of 256, so that there are whole blocks of 256.
    let path = Path::new(FIXTURE).join("encodings.gguf");
    let built = |quant| {
        let folder = tempfile::tempdir().unwrap();
        let options = BuildOptions { quant, ..BuildOptions::default() };
        let draft = Draft::open(&path, &options).unwrap();
        draft.write(&folder.path().join("m.dmx"), &mut |_| ()).unwrap().warnings.join("\n")
    };
    let warnings = built(None);
    for (encoding, dtype, tensor) in [
        ("Q4_K", "q4", "token_embd.weight"),
        ("Q5_K", "q8", "blk.0.attn_q.weight"),
        ("Q6_K", "q8", "blk.0.attn_k.weight"),
        ("Q4_1", "q4", "blk.0.ffn_up.weight"),
        ("Q5_1", "q8", "output.weight"),
    ] {
        let named = warnings.lines().find(|line| line.starts_with(encoding));
        let named = named.unwrap_or_else(|| panic!("{encoding} is not in {warnings:?}"));
        assert!(named.contains(dtype) && named.contains(tensor), "{named}");
    }
    for exact in ["Q4_0", "Q5_0", "Q8_0"] {
        assert!(!warnings.contains(exact), "{exact} loses nothing: {warnings}");
    }
    let warnings = built(Some(DType::F32));
    assert!(!warnings.contains("rounded"), "f32 holds every number: {warnings}");
}
