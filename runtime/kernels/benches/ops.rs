//! Times the operators at the sizes of 7B models, one line per operator and instruction set.
//!
//! `cargo bench -p dynamax-kernels --all-features --bench ops`

use std::hint::black_box;
use std::time::Instant;

use dynamax_kernels::Isa;
use dynamax_kernels::ops::{
    Attention, CacheMut, CausalConv, ConvActivation, SelectiveScan, SsdShape, StateSpaceDual,
};
use dynamax_kernels::view::{ColumnsMut, Rows};

fn main() {
    // `reference` spends a library call on each fused multiply-add: it defines bits, not speed.
    for isa in Isa::available().filter(|&isa| isa != Isa::reference()) {
        elementwise(isa);
        conv(isa);
        scan(isa);
        dual(isa);
        attention(isa, [32, 8, 128], 1, 2048, false);
        attention(isa, [32, 8, 128], 1, 2048, true);
        for rows in [1, 2, 4, 8] {
            attention(isa, [6, 2, 32], rows, 128, true);
        }
        for rows in [1, 2, 4, 6, 8, 32] {
            attention(isa, [9, 3, 64], rows, 512, true);
        }
        attention(isa, [16, 8, 96], 1, 512, true);
        attention(isa, [32, 8, 80], 1, 512, true);
        attention(isa, [32, 8, 128], 32, 512, true);
        attention(isa, [32, 8, 128], 32, 512, false);
    }
}

/// Prints the least time of a call, which is the one that other work disturbed least.
fn time(isa: Isa, name: &str, mut call: impl FnMut()) {
    call();
    let mut least = f64::INFINITY;
    let begin = Instant::now();
    for _ in 0..2000 {
        let start = Instant::now();
        call();
        least = least.min(start.elapsed().as_secs_f64());
        if begin.elapsed().as_secs_f64() > 1.0 {
            break;
        }
    }
    println!("{:>12} {name:<40} {:>12.0} ns", isa.name(), least * 1e9);
}

fn numbers(len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect()
}

fn elementwise(isa: Isa) {
    let (x, gate, mut out) = (numbers(14_336), numbers(14_336), vec![0.0; 14_336]);
    time(isa, "rms_norm 4096", || {
        isa.rms_norm(black_box(&x[..4096]), &gate[..4096], 4096, 1e-5, black_box(&mut out[..4096]));
    });
    time(isa, "gated_rms_norm 8192", || {
        let (x, gate) = (black_box(&x[..8192]), &gate[..8192]);
        isa.gated_rms_norm(x, gate, gate, 8192, 1e-5, black_box(&mut out[..8192]));
    });
    time(isa, "swiglu 14336", || isa.swiglu(black_box(&x), &gate, black_box(&mut out)));
    time(isa, "add 4096", || {
        isa.add(black_box(&x[..4096]), &gate[..4096], black_box(&mut out[..4096]));
    });
    let (angles, x) = (numbers(128), &x[..4096]);
    time(isa, "rope 32 x 128", || isa.rope(black_box(x), &angles, black_box(&mut out[..4096])));
    time(isa, "rope_angles 128", || {
        isa.rope_angles(&angles[..64], black_box(1234), black_box(&mut out[..128]));
    });
    let logits = numbers(32_768);
    time(isa, "argmax 32768", || {
        black_box(isa.argmax(black_box(&logits)));
    });
}

fn conv(isa: Isa) {
    let channels = 10_240;
    let (x, weight) = (numbers(channels), numbers(4 * channels));
    let (mut state, mut out) = (numbers(3 * channels), vec![0.0; channels]);
    let op = CausalConv {
        x: Rows::new(&x, 1, channels, channels),
        weight: Rows::new(&weight, 4, channels, channels),
        bias: Some(&x),
        activation: ConvActivation::Silu,
    };
    time(isa, "causal_conv 4 x 10240", || {
        let mut state = ColumnsMut::new(&mut state, 3, channels, channels);
        isa.causal_conv(&op, &mut state, &mut ColumnsMut::new(&mut out, 1, channels, channels));
    });
}

fn scan(isa: Isa) {
    let (channels, d_state) = (8192, 16);
    let (x, bc) = (numbers(channels), numbers(2 * d_state));
    let a: Vec<f32> = numbers(d_state * channels).iter().map(|a| -a.abs()).collect();
    let (mut state, mut out) = (numbers(d_state * channels), vec![0.0; channels]);
    let op = SelectiveScan {
        x: Rows::new(&x, 1, channels, channels),
        dt: Rows::new(&x, 1, channels, channels),
        bc: Rows::new(&bc, 1, 2 * d_state, 2 * d_state),
        a: Rows::new(&a, d_state, channels, channels),
        d: &x,
    };
    time(isa, "selective_scan 16 x 8192", || {
        let mut state = ColumnsMut::new(&mut state, d_state, channels, channels);
        isa.selective_scan(&op, &mut state, &mut ColumnsMut::new(&mut out, 1, channels, channels));
    });
}

/// One token of a layer of Codestral Mamba 7B; several layers, so that the state does not stay in a cache.
fn dual(isa: Isa) {
    let (layers, n_heads, d_state, head_dim, n_groups) = (16, 128, 128, 64, 8);
    let shape =
        SsdShape { n_heads, n_groups, d_state, head_dim, dt_min: 0.0, dt_max: f32::INFINITY };
    let width = n_heads * head_dim + 2 * n_groups * d_state;
    let (xbc, d) = (numbers(width), numbers(n_heads));
    let a = vec![-1.0; n_heads];
    let size = n_heads * d_state * head_dim;
    let (mut states, mut out) = (numbers(layers * size), vec![0.0; n_heads * head_dim]);
    let op = StateSpaceDual {
        xbc: Rows::new(&xbc, 1, width, width),
        dt: Rows::new(&d, 1, n_heads, n_heads),
        dt_bias: &d,
        a: &a,
        d: &d,
        shape,
    };
    for (name, layers) in [("memory", layers), ("cache", 1)] {
        let mut layer = 0;
        time(isa, &format!("state_space_dual 128 x 64 x 128, {name}"), || {
            let state = &mut states[layer * size..][..size];
            layer = (layer + 1) % layers;
            let mut state = ColumnsMut::new(state, n_heads * d_state, head_dim, head_dim);
            let mut out = ColumnsMut::new(&mut out, 1, n_heads * head_dim, n_heads * head_dim);
            isa.state_space_dual(&op, 0..n_heads, &mut state, &mut out);
        });
    }
}

/// The last rows of a prompt of so many positions.
fn attention(isa: Isa, shape: [usize; 3], rows: usize, positions: usize, f16: bool) {
    let [n_heads, n_kv_heads, head_dim] = shape;
    let (width, kv_width) = (n_heads * head_dim, n_kv_heads * head_dim);
    let (q, k) = (numbers(rows * width), numbers(rows * kv_width));
    let mut out = vec![0.0; rows * width];
    let op = Attention {
        q: Rows::new(&q, rows, width, width),
        k: Rows::new(&k, rows, kv_width, kv_width),
        v: Rows::new(&k, rows, kv_width, kv_width),
        position: (positions - rows) as u32,
        window: 0,
        n_heads,
        n_kv_heads,
        scale: 0.1,
    };
    let size = n_kv_heads * positions * head_dim;
    let (mut keys, mut values) = (numbers(size), numbers(size));
    let (mut half_keys, mut half_values) = (vec![0x3555_u16; size], vec![0x3555_u16; size]);
    let dtype = if f16 { "f16" } else { "f32" };
    time(
        isa,
        &format!("attention {n_heads}/{n_kv_heads} x {head_dim}, {rows} of {positions} {dtype}"),
        || {
            let (keys, values) = if f16 {
                (CacheMut::F16(&mut half_keys), CacheMut::F16(&mut half_values))
            } else {
                (CacheMut::F32(&mut keys), CacheMut::F32(&mut values))
            };
            let mut out = ColumnsMut::new(&mut out, rows, width, width);
            isa.attention(&op, 0..n_kv_heads, positions, keys, values, &mut out);
        },
    );
}
