//! Linear kernels give the bits of the reference, and the reference those of the formula.

#![expect(clippy::unwrap_used, reason = "a panic is a failed test")]

use std::ops::Range;

use dynamax_kernels::format::{BLOCK, PANEL};
use dynamax_kernels::view::{ColumnsMut, Rows, stride};
use dynamax_kernels::{Format, Input, Isa, Matrix, QuantizedRows};
use half::f16;
use proptest::prelude::*;

const FORMATS: [Format; 4] = [Format::F32, Format::F16, Format::Q8, Format::Q4];

/// Bytes that start at a multiple of 64.
struct Aligned {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Aligned {
    fn new(len: usize) -> Self {
        let bytes = vec![0; len + 64];
        let start = bytes.as_ptr().align_offset(64);
        Self { bytes, start, len }
    }

    fn get(&self) -> &[u8] {
        &self.bytes[self.start..][..self.len]
    }

    fn get_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..][..self.len]
    }
}

/// Random numbers that are the same everywhere.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
    }

    /// −1..1, of very different magnitudes.
    fn number(&mut self) -> f32 {
        let number = (self.bits() as i32) as f32 / 2_147_483_648.0;
        number * [1.0, 1.0, 0.1, 1e-4][self.bits() as usize % 4]
    }

    /// A finite f16; some are subnormal.
    fn half(&mut self) -> u16 {
        let bits = self.bits() as u16;
        if bits & 0x7c00 == 0x7c00 { bits & 0x83ff } else { bits }
    }
}

/// A linear operator with everything it reads.
struct Case {
    format: Format,
    d_out: usize,
    d_in: usize,
    rows: usize,
    weight: Aligned,
    /// `[rows, stride]`.
    x: Vec<f32>,
    bias: Option<Vec<f32>>,
}

impl Case {
    /// Any bytes are a matrix, so all integers appear, and padding is not zero.
    fn random(format: Format, [d_out, d_in, rows]: [usize; 3], seed: u64) -> Self {
        let mut random = Random(seed * 2 + 1);
        let panel_bytes = format.panel_bytes(d_in).unwrap();
        let blocks = d_in.div_ceil(BLOCK);
        let mut weight = Aligned::new(format.matrix_bytes(d_out, d_in).unwrap());
        for panel in weight.get_mut().chunks_mut(panel_bytes.max(1)) {
            match format {
                Format::F32 => panel
                    .chunks_mut(4)
                    .for_each(|w| w.copy_from_slice(&random.number().to_le_bytes())),
                Format::F16 => panel
                    .chunks_mut(2)
                    .for_each(|w| w.copy_from_slice(&random.half().to_le_bytes())),
                Format::Q8 | Format::Q4 => {
                    let (scales, quants) = panel.split_at_mut((blocks * 32).next_multiple_of(64));
                    scales
                        .chunks_mut(2)
                        .for_each(|w| w.copy_from_slice(&random.half().to_le_bytes()));
                    quants.iter_mut().for_each(|w| *w = random.bits() as u8);
                }
            }
        }
        let x = (0..rows * stride(d_in)).map(|_| random.number()).collect();
        let bias = seed.is_multiple_of(2).then(|| (0..d_out).map(|_| random.number()).collect());
        Self { format, d_out, d_in, rows, weight, x, bias }
    }

    fn matrix(&self) -> Matrix<'_> {
        Matrix::new(self.format, self.d_out, self.d_in, self.weight.get()).unwrap()
    }

    fn rows(&self) -> Rows<'_> {
        Rows::new(&self.x, self.rows, self.d_in, stride(self.d_in))
    }

    fn quantized(&self, isa: Isa) -> Aligned {
        let row_bytes = QuantizedRows::row_bytes(self.d_in);
        let mut bytes = Aligned::new(self.rows * row_bytes);
        for row in 0..self.rows {
            isa.quantize_row(
                self.rows().row(row),
                &mut bytes.get_mut()[row * row_bytes..][..row_bytes],
            );
        }
        bytes
    }

    /// Result bits `[rows, columns of the panels]`.
    fn run(&self, isa: Isa, panels: Range<usize>) -> Vec<u32> {
        let quantized = self.quantized(isa);
        let x = if self.format.is_quantized() {
            Input::Quantized(QuantizedRows::new(quantized.get(), self.rows, self.d_in))
        } else {
            Input::F32(self.rows())
        };
        let width = (panels.end * PANEL).min(self.d_out) - (panels.start * PANEL).min(self.d_out);
        let mut out = vec![f32::NAN; self.rows * (width + 3)];
        let mut columns = ColumnsMut::new(&mut out, self.rows, width, width + 3);
        isa.linear(self.matrix(), x, self.bias.as_deref(), panels, &mut columns);
        (0..self.rows).flat_map(|row| columns.row(row).to_vec()).map(f32::to_bits).collect()
    }

    fn run_all(&self, isa: Isa) -> Vec<u32> {
        self.run(isa, 0..self.d_out.div_ceil(PANEL))
    }

    /// The formula, with weights found as `format.rs` describes.
    fn formula(&self) -> Vec<u32> {
        let quantized = self.quantized(Isa::reference());
        let quantized = QuantizedRows::new(quantized.get(), self.rows, self.d_in);
        let mut out = Vec::new();
        for row in 0..self.rows {
            for o in 0..self.d_out {
                let mut acc = 0.0_f32;
                for block in 0..self.d_in.div_ceil(BLOCK) {
                    let inputs = block * BLOCK..self.d_in.min(block * BLOCK + BLOCK);
                    if self.format.is_quantized() {
                        let x = quantized.row(row);
                        let dot: i32 = inputs
                            .map(|i| self.integer(o, i) * i32::from(x[block].quants()[i % BLOCK]))
                            .sum();
                        let scale =
                            self.half(o / PANEL, block * PANEL + o % PANEL) * x[block].scale;
                        acc = (dot as f32).mul_add(scale, acc);
                    } else {
                        let x = self.rows().row(row);
                        acc += inputs.fold(0.0, |part, i| self.float(o, i).mul_add(x[i], part));
                    }
                }
                out.push((acc + self.bias.as_ref().map_or(0.0, |bias| bias[o])).to_bits());
            }
        }
        out
    }

    fn panel(&self, index: usize) -> &[u8] {
        let panel_bytes = self.format.panel_bytes(self.d_in).unwrap();
        &self.weight.get()[index * panel_bytes..][..panel_bytes]
    }

    /// The number at an index of the f16 numbers at the start of a panel.
    fn half(&self, panel: usize, index: usize) -> f32 {
        f16::from_le_bytes([self.panel(panel)[index * 2], self.panel(panel)[index * 2 + 1]])
            .to_f32()
    }

    fn float(&self, o: usize, i: usize) -> f32 {
        let (panel, index) = (o / PANEL, i * PANEL + o % PANEL);
        match self.format {
            Format::F16 => self.half(panel, index),
            _ => f32::from_le_bytes(self.panel(panel)[index * 4..][..4].try_into().unwrap()),
        }
    }

    fn integer(&self, o: usize, i: usize) -> i32 {
        let quants =
            &self.panel(o / PANEL)[(self.d_in.div_ceil(BLOCK) * 32).next_multiple_of(64)..];
        let (block, group, within) = (i / BLOCK, i % BLOCK / 4, o % PANEL * 4 + i % 4);
        match self.format {
            Format::Q8 => i32::from(quants[block * 512 + group * 64 + within].cast_signed()),
            _ => {
                i32::from(quants[block * 256 + group % 4 * 64 + within] >> (group / 4 * 4) & 15) - 8
            }
        }
    }
}

/// `[d_out, d_in, rows]`: edges of panels, blocks and groups of rows.
const SHAPES: [[usize; 3]; 14] = [
    [1, 1, 1],
    [16, 32, 1],
    [16, 31, 2],
    [17, 33, 3],
    [15, 64, 4],
    [32, 96, 5],
    [33, 20, 6],
    [40, 130, 7],
    [16, 32, 8],
    [47, 65, 9],
    [64, 256, 1],
    [20, 70, 17],
    [18, 40, 33],
    [48, 1000, 2],
];

#[test]
fn every_isa_of_this_machine_is_tested() {
    let names: Vec<_> = Isa::available().map(Isa::name).collect();
    println!("instruction sets: {names:?}");
    let mut expected = vec!["reference"];
    #[cfg(target_arch = "x86_64")]
    {
        let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        if avx2 && is_x86_feature_detected!("f16c") {
            expected.push("avx2");
        }
        if is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512bw") {
            expected.push("avx512-vnni");
        }
    }
    #[cfg(target_arch = "aarch64")]
    {
        expected.push("neon");
        if std::arch::is_aarch64_feature_detected!("dotprod") {
            expected.push("neon-dotprod");
            if std::arch::is_aarch64_feature_detected!("i8mm") {
                expected.push("neon-i8mm");
            }
        }
    }
    assert_eq!(names, expected, "instruction sets of this machine");
    let tested = ["reference", "avx2", "avx512-vnni", "neon", "neon-dotprod", "neon-i8mm"];
    assert!(names.iter().all(|name| tested.contains(name)), "each has a test by its name");
    assert_eq!(Isa::detect().name(), *expected.last().unwrap(), "the best of them");
}

#[test]
fn reference_is_the_formula() {
    for format in FORMATS {
        for (seed, shape) in SHAPES.into_iter().chain(WIDE).enumerate() {
            let case = Case::random(format, shape, seed as u64);
            assert_eq!(case.run_all(Isa::reference()), case.formula(), "{format:?} {shape:?}");
        }
    }
}

/// Shapes beyond one slab of the kernels' order: more blocks and panels than it holds, with all groups of rows.
const WIDE: [[usize; 3]; 4] = [[20, 2100, 3], [150, 2100, 9], [17, 4100, 12], [300, 70, 16]];

/// Asserts that an instruction set gives the bits of the reference for each number of rows, shape and format.
///
/// Whether the machine has it is asserted by [`every_isa_of_this_machine_is_tested`].
fn assert_is_the_reference(name: &str) {
    let Some(isa) = Isa::by_name(name) else {
        println!("{name} is not on this machine");
        return;
    };
    println!("linear on {name}");
    let rows = (1..=33).map(|rows| [17 + rows % 3 * 16, 75, rows]);
    for format in FORMATS {
        for (seed, shape) in SHAPES.into_iter().chain(WIDE).chain(rows.clone()).enumerate() {
            let case = Case::random(format, shape, seed as u64);
            let same = case.run_all(isa) == case.run_all(Isa::reference());
            assert!(same, "{name} {format:?} {shape:?} differs from the reference");
        }
    }
}

#[test]
fn avx2_gives_the_bits_of_the_reference() {
    assert_is_the_reference("avx2");
}

#[test]
fn avx512_vnni_gives_the_bits_of_the_reference() {
    assert_is_the_reference("avx512-vnni");
}

#[test]
fn neon_gives_the_bits_of_the_reference() {
    assert_is_the_reference("neon");
}

#[test]
fn neon_dotprod_gives_the_bits_of_the_reference() {
    assert_is_the_reference("neon-dotprod");
}

#[test]
fn neon_i8mm_gives_the_bits_of_the_reference() {
    assert_is_the_reference("neon-i8mm");
}

#[test]
fn a_result_does_not_depend_on_the_rows_or_panels_beside_it() {
    for isa in Isa::available() {
        for format in FORMATS {
            let shape = [55, 72, 15];
            let mut case = Case::random(format, shape, 4);
            let together = case.run_all(isa);
            for panels in [0..0, 0..1, 1..3, 3..4, 2..4, 4..4] {
                let columns = panels.start * PANEL..(panels.end * PANEL).min(shape[0]);
                let want: Vec<_> = together
                    .chunks(shape[0])
                    .flat_map(|row| &row[columns.start.min(55)..columns.end.min(55)])
                    .copied()
                    .collect();
                assert_eq!(
                    case.run(isa, panels.clone()),
                    want,
                    "{} {format:?} {panels:?}",
                    isa.name()
                );
            }
            for row in 0..15 {
                case.rows = 1;
                assert_eq!(
                    case.run_all(isa),
                    together[row * 55..][..55],
                    "{} {format:?} row {row}",
                    isa.name()
                );
                case.x.drain(..stride(shape[1]));
            }
        }
    }
}

#[test]
fn extreme_integers_and_scales_are_exact_on_every_isa() {
    let q4 = [0x00, 0xff, 0x0f, 0xf0, 0x88];
    let q8 = [0x80, 0x7f, 0x81, 0xff, 0x00];
    // Largest, smallest normal, smallest, zeros of both signs.
    let scales = [0x7bff, 0xfbff, 0x0400, 0x8001, 0x0000, 0x8000_u16];
    let inputs: [[f32; 2]; 4] = [[1.0, 1.0], [-3e25, 3e25], [1e-30, -1e-30], [0.0, -0.0]];
    for isa in Isa::available() {
        for (format, quants) in [(Format::Q4, q4), (Format::Q8, q8)] {
            for quant in quants {
                for scale in scales {
                    for input in inputs {
                        let mut case = Case::random(format, [16, 64, 9], 1);
                        case.weight.get_mut().fill(quant);
                        case.weight.get_mut()[..64]
                            .chunks_mut(2)
                            .for_each(|w| w.copy_from_slice(&scale.to_le_bytes()));
                        case.x.iter_mut().enumerate().for_each(|(i, x)| *x = input[i / 2 % 2]);
                        let label =
                            format!("{} {format:?} {quant:#x} {scale:#x} {input:?}", isa.name());
                        assert_eq!(case.run_all(isa), case.formula(), "{label}");
                    }
                }
            }
        }
    }
}

#[test]
fn rows_of_a_matrix_are_its_weights() {
    for format in FORMATS {
        let case = Case::random(format, [37, 70, 1], 3);
        for o in 0..37 {
            let mut row = vec![0.0; 70];
            case.matrix().row_into(o, &mut row);
            for (i, w) in row.into_iter().enumerate() {
                let want = if format.is_quantized() {
                    case.half(o / PANEL, i / BLOCK * PANEL + o % PANEL) * case.integer(o, i) as f32
                } else {
                    case.float(o, i)
                };
                assert_eq!(w.to_bits(), want.to_bits(), "{format:?} [{o}, {i}]");
            }
        }
    }
}

/// The bits that every machine must give: FNV-1a of all results.
const BITS: u64 = 0xa4e6_cff7_c375_e6e3;

#[test]
fn every_machine_gives_the_same_bits() {
    for isa in Isa::available() {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for format in FORMATS {
            for (seed, shape) in SHAPES.into_iter().enumerate() {
                for bits in Case::random(format, shape, 100 + seed as u64).run_all(isa) {
                    hash = (hash ^ u64::from(bits)).wrapping_mul(0x100_0000_01b3);
                }
            }
        }
        assert_eq!(hash, BITS, "{} gives {hash:#x}", isa.name());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_shape_gives_the_bits_of_the_formula(
        format in 0_usize..4, d_out in 1_usize..50, d_in in 1_usize..200, rows in 1_usize..=33, seed in 0_u64..1 << 40,
    ) {
        let case = Case::random(FORMATS[format], [d_out, d_in, rows], seed);
        let formula = case.formula();
        for isa in Isa::available() {
            prop_assert_eq!(&case.run_all(isa), &formula, "{}", isa.name());
        }
    }
}
