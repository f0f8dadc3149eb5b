//! Blocks that were quantized elsewhere keep the value of every weight, bit for bit.

#![expect(clippy::unwrap_used, reason = "a panic is a failed test")]

use dynamax_kernels::format::{BLOCK, PANEL};
use dynamax_kernels::quantize::{block_bytes, tile_panel};
use dynamax_kernels::{Format, Matrix, PackError};

/// Bytes that look random, the same everywhere.
fn bytes(len: usize, mut state: u64) -> Vec<u8> {
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Rows of blocks with any integers, and with scales of either sign from subnormal to large.
fn rows(format: Format, rows: usize, d_in: usize) -> Vec<u8> {
    let len = block_bytes(format).unwrap();
    let mut rows = bytes(rows * d_in / BLOCK * len, 7);
    for (index, block) in rows.chunks_exact_mut(len).enumerate() {
        let scale = [0x0001_u16, 0x83ff, 0x2e66, 0xb800, 0x5bff, 0x0000][index % 6];
        block[..2].copy_from_slice(&scale.to_le_bytes());
    }
    rows
}

/// What a block says, by the definition of the format.
fn weights(format: Format, block: &[u8]) -> Vec<f32> {
    let scale = half::f16::from_le_bytes([block[0], block[1]]).to_f32();
    let integer = |i: usize| match format {
        Format::Q8 => i32::from(block[2 + i] as i8),
        _ if i < 16 => i32::from(block[2 + i] & 15) - 8,
        _ => i32::from(block[2 + i - 16] >> 4) - 8,
    };
    (0..BLOCK).map(|i| scale * integer(i) as f32).collect()
}

fn tiled(format: Format, rows: &[u8], d_in: usize) -> Result<Vec<f32>, PackError> {
    let len = format.panel_bytes(d_in).unwrap();
    let mut bytes = vec![0xcc; len + 64];
    let start = bytes.as_ptr().align_offset(64);
    tile_panel(format, rows, d_in, &mut bytes[start..][..len])?;
    let matrix = Matrix::new(format, PANEL, d_in, &bytes[start..][..len]).unwrap();
    let mut back = vec![f32::NAN; PANEL * d_in];
    for (row, back) in back.chunks_mut(d_in).enumerate() {
        matrix.row_into(row, back);
    }
    Ok(back)
}

#[test]
fn every_weight_keeps_its_bits() {
    for format in [Format::Q8, Format::Q4] {
        for (count, d_in) in [(16, 96), (5, 32), (1, 160)] {
            let rows = rows(format, count, d_in);
            let back = tiled(format, &rows, d_in).unwrap();
            let want: Vec<f32> = rows
                .chunks_exact(block_bytes(format).unwrap())
                .flat_map(|block| weights(format, block))
                .collect();
            for (index, (back, want)) in back.iter().zip(&want).enumerate() {
                assert_eq!(back.to_bits(), want.to_bits(), "{format:?} {count}x{d_in} [{index}]");
            }
            assert!(back[count * d_in..].iter().all(|w| *w == 0.0), "{format:?}: missing rows");
        }
    }
}

#[test]
fn a_scale_that_is_no_number_is_refused_by_row_and_column() {
    for (format, scale) in [(Format::Q8, 0x7c00_u16), (Format::Q4, 0xfe01)] {
        let (mut rows, len) = (rows(format, 5, 96), block_bytes(format).unwrap());
        rows[(3 * 3 + 2) * len..][..2].copy_from_slice(&scale.to_le_bytes());
        let error = tiled(format, &rows, 96).unwrap_err();
        assert_eq!(error, PackError::NotFinite { row: 3, column: 64 }, "{format:?}");
    }
}
