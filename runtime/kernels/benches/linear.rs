//! Linear kernels on one thread: bytes per second for one row, beside a plain read of the same bytes; multiplications
//! per second for more rows.

#![expect(clippy::unwrap_used, reason = "a panic is the end of a measurement")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dynamax_kernels::format::PANEL;
use dynamax_kernels::view::ColumnsMut;
use dynamax_kernels::{Format, Input, Isa, Matrix, QuantizedRows};

/// The largest matrix of a 7B model.
const D_OUT: usize = 14336;
const D_IN: usize = 4096;

/// Bytes from a multiple of 64 on, and what lies before them.
fn aligned(len: usize, fill: u8) -> (Vec<u8>, usize) {
    let bytes = vec![fill; len + 64];
    let start = bytes.as_ptr().align_offset(64);
    (bytes, start)
}

fn linear(c: &mut Criterion) {
    let mut out = vec![0.0; 32 * D_OUT];
    for format in [Format::Q4, Format::Q8] {
        let len = format.matrix_bytes(D_OUT, D_IN).unwrap();
        let (bytes, start) = aligned(len, 0x2a);
        let bytes = &bytes[start..][..len];
        let matrix = Matrix::new(format, D_OUT, D_IN, bytes).unwrap();

        let mut group = c.benchmark_group(format!("{} one row", format.name()));
        group.sample_size(20).throughput(Throughput::Bytes(len as u64));
        group.bench_function("read", |b| {
            b.iter(|| Isa::detect().read(bytemuck::cast_slice(black_box(bytes))));
        });
        for isa in Isa::available().skip(1) {
            group.bench_function(isa.name(), |b| b.iter(|| run(isa, matrix, 1, &mut out)));
        }
        group.finish();

        for rows in [2, 8, 32] {
            let mut group = c.benchmark_group(format!("{} {rows} rows", format.name()));
            group.sample_size(10).throughput(Throughput::Elements((rows * D_OUT * D_IN) as u64));
            for isa in Isa::available().skip(1) {
                group.bench_function(BenchmarkId::from_parameter(isa.name()), |b| {
                    b.iter(|| run(isa, matrix, rows, &mut out));
                });
            }
            group.finish();
        }
    }
}

/// Quantizes the input and multiplies: what a step does.
fn run(isa: Isa, matrix: Matrix<'_>, rows: usize, out: &mut [f32]) {
    let x: Vec<f32> = (0..D_IN).map(|i| (i as f32 * 0.37).sin()).collect();
    let row_bytes = QuantizedRows::row_bytes(D_IN);
    let (mut bytes, start) = aligned(rows * row_bytes, 0);
    let bytes = &mut bytes[start..][..rows * row_bytes];
    bytes.chunks_mut(row_bytes).for_each(|row| isa.quantize_row(&x, row));
    let x = Input::Quantized(QuantizedRows::new(bytes, rows, D_IN));
    let mut out = ColumnsMut::new(out, rows, D_OUT, D_OUT);
    isa.linear(matrix, x, None, 0..D_OUT / PANEL, &mut out);
}

criterion_group!(benches, linear);
criterion_main!(benches);
