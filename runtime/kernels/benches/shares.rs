//! How much of the memory's speed one row reaches, what more rows cost, and how fast arithmetic is on its own: ratios within
//! one run, for a machine that others disturb.
//!
//! `cargo bench -p dynamax-kernels --features std --bench shares [-- FILTER]`, with a filter such as `q4` or `avx2`.
//!
//! Each round measures everything in turn, the plain read first; what is printed are medians over rounds.

#![expect(clippy::unwrap_used, reason = "a panic is the end of a measurement")]

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use dynamax_kernels::format::PANEL;
use dynamax_kernels::view::ColumnsMut;
use dynamax_kernels::{Format, Input, Isa, Matrix, QuantizedRows};

/// The largest matrix of a 7B model.
const D_OUT: usize = 14336;
const D_IN: usize = 4096;

/// Bytes of weights in a round: far beyond any cache.
const WEIGHT_BYTES: usize = 400 << 20;

/// Panels that stay in the second cache.
const CACHED: usize = 8;

/// Rounds are short, so that most pass undisturbed, and many.
const ROUNDS: usize = 60;

/// Rows of the curve.
const ROWS: [usize; 9] = [1, 2, 3, 4, 6, 8, 12, 16, 32];

fn main() {
    let filter = std::env::args().skip(1).find(|word| !word.starts_with('-')).unwrap_or_default();
    for format in [Format::Q4, Format::Q8] {
        let weights = Weights::new(format);
        let isas: Vec<_> = Isa::available()
            .skip(1)
            .filter(|isa| format!("{} {}", format.name(), isa.name()).contains(&filter))
            .collect();
        if isas.is_empty() {
            continue;
        }
        for threads in [1, 2] {
            one_row(&weights, &isas, threads);
        }
        for isa in isas {
            curve(&weights, isa);
            in_cache(&weights, isa);
        }
    }
}

/// Prints the share of a plain read's speed that one row reaches.
fn one_row(weights: &Weights, isas: &[Isa], threads: usize) {
    let mut reads = Vec::new();
    let mut shares = vec![Vec::new(); isas.len()];
    for round in 0..ROUNDS {
        let read = weights.read(threads, round);
        reads.push((8 * weights.matrix_words()) as f64 / read / 1e9);
        for (index, (isa, shares)) in isas.iter().zip(&mut shares).enumerate() {
            shares.push(read / weights.multiply(*isa, 1, threads, round + index + 1));
        }
    }
    let name = weights.format.name();
    let (best, median_read) = (reads.iter().copied().fold(0.0, f64::max), median(&mut reads));
    println!(
        "{name} one row, {threads} threads: plain read {median_read:.1} GB/s, at best {best:.1}"
    );
    for (isa, shares) in isas.iter().zip(&mut shares) {
        println!("{name} one row, {threads} threads, {}: {:.3} of it", isa.name(), median(shares));
    }
}

/// Prints the time of more rows, for one thread, in times of one row.
fn curve(weights: &Weights, isa: Isa) {
    let mut times = [const { Vec::new() }; ROWS.len()];
    let mut rates = [0.0_f64; ROWS.len()];
    for round in 0..ROUNDS / 3 {
        let one = weights.multiply(isa, 1, 1, round);
        for (index, rows) in ROWS.into_iter().enumerate() {
            let seconds = weights.multiply(isa, rows, 1, round + index + 1);
            times[index].push(seconds / one);
            rates[index] = rates[index].max((rows * D_OUT * D_IN) as f64 / seconds / 1e9);
        }
    }
    for (index, rows) in ROWS.into_iter().enumerate() {
        let time = median(&mut times[index]);
        println!(
            "{} {} {rows:>2} rows: {time:>6.2} × one row, {:>5.3} a row, at best {:>6.1} G mul/s",
            weights.format.name(),
            isa.name(),
            time / rows as f64,
            rates[index]
        );
    }
}

/// Prints multiplications per second for some panels that stay in the second cache: what arithmetic allows.
fn in_cache(weights: &Weights, isa: Isa) {
    let rates = ROWS.map(|rows| {
        let input = quantize(isa, rows);
        let x = Input::Quantized(QuantizedRows::new(bytemuck::cast_slice(&input), rows, D_IN));
        let mut out = vec![0.0; rows * D_OUT];
        let least = (0..100).map(|_| {
            let start = Instant::now();
            let mut out = ColumnsMut::new(&mut out, rows, CACHED * PANEL, D_OUT);
            isa.linear(weights.matrix(0), x, None, 0..CACHED, &mut out);
            start.elapsed().as_secs_f64()
        });
        let least = least.fold(f64::INFINITY, f64::min);
        format!("{rows}: {:.0}", (rows * CACHED * PANEL * D_IN) as f64 / least / 1e9)
    });
    let name = weights.format.name();
    println!("{name} {} in cache, G mul/s by rows: {}", isa.name(), rates.join(", "));
}

/// Rows of int8 blocks, all the same.
fn quantize(isa: Isa, rows: usize) -> Vec<u64> {
    let x: Vec<f32> = (0..D_IN).map(|i| (i as f32 * 0.37).sin()).collect();
    let row_bytes = QuantizedRows::row_bytes(D_IN);
    let mut words = vec![0; rows * row_bytes / 8];
    let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut words);
    bytes.chunks_mut(row_bytes).for_each(|row| isa.quantize_row(&x, row));
    words
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Some matrices, one behind the other.
struct Weights {
    format: Format,
    bytes: Vec<u64>,
    count: usize,
}

impl Weights {
    fn new(format: Format) -> Self {
        let len = format.matrix_bytes(D_OUT, D_IN).unwrap();
        let count = WEIGHT_BYTES / len;
        let words = (len * count / 8) as u64;
        let bytes = (0..words + 8)
            .map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) & !(0x4000_4000_4000_4000))
            .collect();
        Self { format, bytes, count }
    }

    fn matrix_words(&self) -> usize {
        self.format.matrix_bytes(D_OUT, D_IN).unwrap() / 8
    }

    /// One of them, a different one each round, so that none is in a cache.
    fn words(&self, round: usize) -> &[u64] {
        let words = &self.bytes[self.bytes.as_ptr().align_offset(64)..];
        &words[round % self.count * self.matrix_words()..][..self.matrix_words()]
    }

    fn matrix(&self, round: usize) -> Matrix<'_> {
        let bytes = bytemuck::cast_slice(self.words(round));
        Matrix::new(self.format, D_OUT, D_IN, bytes).unwrap()
    }

    /// Seconds to read one matrix.
    fn read(&self, threads: usize, round: usize) -> f64 {
        let words = self.words(round);
        share(threads, words.chunks(words.len().div_ceil(threads)), |part| {
            black_box(Isa::detect().read(part));
        })
    }

    /// Seconds to multiply one matrix with `rows` rows.
    fn multiply(&self, isa: Isa, rows: usize, threads: usize, round: usize) -> f64 {
        let input = quantize(isa, rows);
        let x = Input::Quantized(QuantizedRows::new(bytemuck::cast_slice(&input), rows, D_IN));
        let mut out = vec![0.0; rows * D_OUT];
        let (matrix, panels) = (self.matrix(round), D_OUT / PANEL);
        let mut rest = Some(ColumnsMut::new(&mut out, rows, D_OUT, D_OUT));
        let parts = (0..threads).map(|thread| {
            let part = thread * panels / threads..(thread + 1) * panels / threads;
            let (mine, others) = rest.take().unwrap().split_at(part.len() * PANEL);
            rest = Some(others);
            (part, mine)
        });
        let parts: Vec<_> = parts.collect();
        let seconds = share(threads, parts.into_iter(), |(part, mut out)| {
            isa.linear(matrix, x, None, part, &mut out);
        });
        black_box(out);
        seconds
    }
}

/// Seconds that threads need for their parts, from when all are ready.
fn share<P: Send>(
    threads: usize,
    mut parts: impl Iterator<Item = P>,
    work: impl Fn(P) + Sync,
) -> f64 {
    if threads == 1 {
        let start = Instant::now();
        parts.for_each(work);
        return start.elapsed().as_secs_f64();
    }
    let ready = AtomicUsize::new(0);
    let wait = || {
        ready.fetch_add(1, Ordering::AcqRel);
        while ready.load(Ordering::Acquire) < threads {
            std::hint::spin_loop();
        }
    };
    thread::scope(|scope| {
        let mine = parts.next().unwrap();
        for part in parts {
            let (work, wait, ready) = (&work, &wait, &ready);
            scope.spawn(move || {
                wait();
                work(part);
                ready.fetch_add(1, Ordering::AcqRel);
            });
        }
        wait();
        let start = Instant::now();
        work(mine);
        while ready.load(Ordering::Acquire) < 2 * threads - 1 {
            std::hint::spin_loop();
        }
        start.elapsed().as_secs_f64()
    })
}
