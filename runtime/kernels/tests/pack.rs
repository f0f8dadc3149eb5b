//! Weights into panels and back.

#![expect(clippy::unwrap_used, reason = "a panic is a failed test")]

use dynamax_kernels::format::PANEL;
use dynamax_kernels::{Format, Matrix, PackError, PackReport, pack_panel};

const FORMATS: [Format; 4] = [Format::F32, Format::F16, Format::Q8, Format::Q4];

/// Numbers that look like weights: sums of four uniform ones, the same everywhere.
fn weights(len: usize) -> Vec<f32> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / 16_777_216.0 - 0.5
    };
    (0..len).map(|_| (uniform() + uniform() + uniform() + uniform()) * 0.05).collect()
}

/// Packs rows and reads them back.
fn round_trip(
    format: Format,
    rows: &[f32],
    d_in: usize,
) -> Result<(Vec<f32>, PackReport), PackError> {
    let len = format.panel_bytes(d_in).unwrap();
    let mut bytes = vec![0xcc; len + 64];
    let start = bytes.as_ptr().align_offset(64);
    let report = pack_panel(format, rows, d_in, &mut bytes[start..][..len])?;
    let matrix = Matrix::new(format, PANEL, d_in, &bytes[start..][..len]).unwrap();
    let mut back = vec![f32::NAN; PANEL * d_in];
    for (row, back) in back.chunks_mut(d_in).enumerate() {
        matrix.row_into(row, back);
    }
    Ok((back, report))
}

#[test]
fn f32_weights_come_back() {
    let rows = weights(16 * 50);
    let (back, report) = round_trip(Format::F32, &rows, 50).unwrap();
    assert_eq!(back, rows, "the same numbers");
    assert_eq!(report.squared_error.to_bits(), 0, "nothing lost");
    assert!(report.snr_db().is_infinite(), "nothing lost");
}

#[test]
fn missing_rows_are_zeros() {
    for format in FORMATS {
        let (back, _) = round_trip(format, &weights(3 * 40), 40).unwrap();
        assert!(back[3 * 40..].iter().all(|w| *w == 0.0), "{format:?}");
        assert!(back[..3 * 40].iter().any(|w| *w != 0.0), "{format:?} has rows");
    }
}

#[test]
fn report_is_what_was_lost() {
    let rows = weights(16 * 128);
    // Measured on these numbers, and rounded down: what a worse search would not reach.
    for (format, db) in [(Format::F16, 73.7), (Format::Q8, 46.89), (Format::Q4, 22.41)] {
        let (back, report) = round_trip(format, &rows, 128).unwrap();
        let square = |x: f64| x * x;
        let energy: f64 = rows.iter().map(|w| square(f64::from(*w))).sum();
        let error: f64 =
            rows.iter().zip(&back).map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum();
        assert!((report.energy / energy - 1.0).abs() < 1e-12, "{format:?} energy");
        assert!((report.squared_error / error - 1.0).abs() < 1e-12, "{format:?} error");
        println!("{format:?}: {:.2} dB", report.snr_db());
        assert!(report.snr_db() > db, "{format:?}: {} dB", report.snr_db());
    }
}

#[test]
fn least_squares_beats_the_largest_weight_in_every_row() {
    let rows = weights(16 * 32);
    let (back, _) = round_trip(Format::Q4, &rows, 32).unwrap();
    let error = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f32>();
    for (row, back) in rows.chunks(32).zip(back.chunks(32)) {
        let largest = row.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap();
        let scale = half::f16::from_f32(largest / -8.0).to_f32();
        let plain: Vec<f32> =
            row.iter().map(|w| (w / scale).round().clamp(-8.0, 7.0) * scale).collect();
        assert!(
            error(row, back) <= error(row, &plain),
            "{} > {}",
            error(row, back),
            error(row, &plain)
        );
    }
}

#[test]
fn weights_that_are_not_finite_are_refused_by_row_and_column() {
    for format in FORMATS {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut rows = weights(5 * 40);
            rows[3 * 40 + 7] = bad;
            let error = round_trip(format, &rows, 40).unwrap_err();
            assert_eq!(error, PackError::NotFinite { row: 3, column: 7 }, "{format:?} {bad}");
        }
    }
}

#[test]
fn weights_beyond_f16_are_refused_unless_stored_as_f32() {
    for format in FORMATS {
        for (weight, fits) in [(65504.0, true), (-65504.0, true), (65505.0, false)] {
            let mut rows = vec![0.0; 40];
            rows[39] = weight;
            let fits = fits || format == Format::F32;
            let result = round_trip(format, &rows, 40).map(|(back, _)| back[39]);
            match result {
                Ok(back) => assert!(
                    fits && (back / weight - 1.0).abs() < 1e-3,
                    "{format:?} {weight} is {back}"
                ),
                Err(error) => {
                    assert!(!fits, "{format:?} {weight}");
                    assert_eq!(
                        error,
                        PackError::TooLarge { row: 0, column: 39 },
                        "{format:?} {weight}"
                    );
                }
            }
        }
    }
}

/// The bytes that every machine must pack: FNV-1a.
const BYTES: u64 = 0x1d62_c190_1597_977c;

#[test]
fn every_machine_packs_the_same_bytes() {
    let rows = weights(16 * 200);
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for format in FORMATS {
        let mut bytes = vec![0; format.panel_bytes(200).unwrap()];
        pack_panel(format, &rows, 200, &mut bytes).unwrap();
        bytes
            .iter()
            .for_each(|byte| hash = (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    }
    assert_eq!(hash, BYTES, "{hash:#x}");
}
