//! Every operator on the CPU backends against its formula, written out in f64 here and nowhere else.

use burn::tensor::{Device, Int, Tensor, TensorData};
use dynamax_burn::ops::{self, Activation, AttentionShape, DualShape, KvCache};

/// A matrix of f64, row by row.
type Matrix = Vec<Vec<f64>>;

/// Numbers between -1 and 1 that look like noise, different for each `seed`.
fn noise(rows: usize, width: usize, seed: u32) -> Matrix {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        // Exact in f32, so that both sides compute with the same operands.
        f64::from((state >> 8) as f32 / 8_388_608.0 - 1.0)
    };
    (0..rows).map(|_| (0..width).map(|_| next()).collect()).collect()
}

fn matrix(values: &Matrix, device: &Device) -> Tensor<2> {
    let data: Vec<f32> = values.iter().flatten().map(|&value| value as f32).collect();
    Tensor::from_data(TensorData::new(data, [values.len(), values[0].len()]), device)
}

fn vector(values: &[f64], device: &Device) -> Tensor<1> {
    let data: Vec<f32> = values.iter().map(|&value| value as f32).collect();
    Tensor::from_data(TensorData::new(data, [values.len()]), device)
}

fn integers(values: &[i64], device: &Device) -> Tensor<1, Int> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), device)
}

/// The numbers of a tensor, row by row.
fn numbers(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().iter().collect()
}

fn assert_close(found: Tensor<2>, expected: &Matrix, what: &str) {
    assert_eq!(found.dims(), [expected.len(), expected[0].len()], "{what}: shape");
    let found = numbers(found);
    for (index, (found, expected)) in found.iter().zip(expected.iter().flatten()).enumerate() {
        let error = (f64::from(*found) - expected).abs();
        assert!(
            error <= 2e-6 * (1.0 + expected.abs()),
            "{what}: number {index} is {found}, expected {expected}"
        );
    }
}

#[cfg_attr(feature = "ndarray", expect(deprecated, reason = "the second reference"))]
fn devices() -> Vec<Device> {
    vec![
        Device::flex(),
        #[cfg(feature = "ndarray")]
        Device::ndarray(),
    ]
}

fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}

fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn zip(a: &Matrix, b: &Matrix, f: impl Fn(f64, f64) -> f64) -> Matrix {
    a.iter().zip(b).map(|(a, b)| a.iter().zip(b).map(|(&a, &b)| f(a, b)).collect()).collect()
}

fn rms_norm(x: &Matrix, weight: &[f64], group: usize, eps: f64) -> Matrix {
    let normalise = |(index, chunk): (usize, &[f64])| -> Vec<f64> {
        let mean = chunk.iter().map(|x| x * x).sum::<f64>() / group as f64;
        let at = |i: usize| weight[(index * group + i) % weight.len()];
        chunk.iter().enumerate().map(|(i, x)| x / (mean + eps).sqrt() * at(i)).collect()
    };
    x.iter().map(|row| row.chunks(group).enumerate().flat_map(normalise).collect()).collect()
}

#[test]
fn rowwise_operators_equal_their_formulas() {
    for device in devices() {
        let (a, b, weight) = (noise(3, 48, 1), noise(3, 48, 2), noise(1, 48, 3));
        let (ta, tb, tw) = (matrix(&a, &device), matrix(&b, &device), vector(&weight[0], &device));
        assert_close(ops::add(ta.clone(), tb.clone()), &zip(&a, &b, |a, b| a + b), "add");
        assert_close(ops::silu(ta.clone()), &zip(&a, &a, |a, _| silu(a)), "silu");
        let swiglu = zip(&a, &b, |gate, up| silu(gate) * up);
        assert_close(ops::swiglu(ta.clone(), tb.clone()), &swiglu, "swiglu");
        assert_close(
            ops::rms_norm(ta.clone(), tw.clone(), 48, 1e-5),
            &rms_norm(&a, &weight[0], 48, 1e-5),
            "rms_norm",
        );
        let short = vector(&weight[0][..16], &device);
        let expected = rms_norm(&a, &weight[0][..16], 16, 1e-5);
        assert_close(ops::rms_norm(ta.clone(), short, 16, 1e-5), &expected, "rms_norm of heads");
        let gated = rms_norm(&zip(&a, &b, |x, gate| x * silu(gate)), &weight[0], 24, 1e-5);
        assert_close(ops::gated_rms_norm(ta.clone(), tb, tw, 24, 1e-5), &gated, "gated_rms_norm");
        assert_close(ops::select(ta, 1), &vec![a[1].clone()], "select");
    }
}

#[test]
fn embed_takes_rows_of_the_table() {
    for device in devices() {
        let table = noise(5, 20, 4);
        let found = ops::embed(matrix(&table, &device), integers(&[3, 0, 3], &device));
        assert_close(found, &vec![table[3].clone(), table[0].clone(), table[3].clone()], "embed");
    }
}

#[test]
fn linear_equals_its_formula_and_its_order() {
    for device in devices() {
        // Neither is a multiple of a panel or a block.
        let (x, weight, bias) = (noise(2, 70, 5), noise(21, 70, 6), noise(1, 21, 7));
        let dot = |x: &Vec<f64>, w: &Vec<f64>| x.iter().zip(w).map(|(x, w)| x * w).sum::<f64>();
        let expected: Matrix = x
            .iter()
            .map(|x| weight.iter().zip(&bias[0]).map(|(w, bias)| dot(x, w) + bias).collect())
            .collect();
        let (tx, tw) = (matrix(&x, &device), matrix(&weight, &device));
        let found = ops::linear(tx.clone(), tw.clone(), Some(vector(&bias[0], &device)));
        assert_close(found, &expected, "linear");
        // The documented order, bit for bit: blocks of 32 inputs, fused within a block.
        let found = numbers(ops::linear(tx, tw, None));
        for (index, found) in found.iter().enumerate() {
            let (x, w) = (&x[index / 21], &weight[index % 21]);
            let block = |(x, w): (&[f64], &[f64])| {
                x.iter().zip(w).fold(0.0_f32, |part, (&x, &w)| (w as f32).mul_add(x as f32, part))
            };
            let expected =
                x.chunks(32).zip(w.chunks(32)).map(block).fold(0.0_f32, |acc, part| acc + part);
            assert_eq!(found.to_bits(), expected.to_bits(), "number {index}");
        }
    }
}

#[test]
fn rope_rotates_halves_by_the_position() {
    for device in devices() {
        let (x, inv_freq) = (noise(2, 24, 8), [1.0, 0.5, 0.25, 0.125]);
        let angles = ops::rope_angles(vector(&inv_freq, &device), integers(&[9], &device), 2);
        let angle = |row: usize, i: usize| (9 + row) as f64 * inv_freq[i];
        let expected: Matrix = (0..2)
            .map(|row| {
                (0..8)
                    .map(|i| if i < 4 { angle(row, i).cos() } else { angle(row, i - 4).sin() })
                    .collect()
            })
            .collect();
        assert_close(angles.clone(), &expected, "rope_angles");
        let rotate = |row: usize, i: usize| {
            let (head, i) = (i / 8 * 8, i % 8);
            let (sin, cos) = angle(row, i % 4).sin_cos();
            let (low, high) = (x[row][head + i % 4], x[row][head + i % 4 + 4]);
            if i < 4 { low * cos - high * sin } else { high * cos + low * sin }
        };
        let expected: Matrix =
            (0..2).map(|row| (0..24).map(|i| rotate(row, i)).collect()).collect();
        assert_close(ops::rope(matrix(&x, &device), angles), &expected, "rope");
    }
}

/// Attention over all keys and values so far; query heads share key/value heads in pairs.
fn attend(q: &Matrix, k: &Matrix, v: &Matrix, first: usize, window: usize) -> Matrix {
    let head_dim = 4;
    let row = |row: usize| {
        let position = first + row;
        let seen =
            if window == 0 { 0 } else { (position + 1).saturating_sub(window) }..position + 1;
        let head = |head: usize| {
            let kv = head / 2 * head_dim;
            let q = &q[row][head * head_dim..][..head_dim];
            let score = |j: usize| 0.5 * (0..head_dim).map(|d| q[d] * k[j][kv + d]).sum::<f64>();
            let weights: Vec<f64> = seen.clone().map(|j| score(j).exp()).collect();
            let sum: f64 = weights.iter().sum();
            let values: Vec<f64> = (0..head_dim)
                .map(|d| {
                    seen.clone().zip(&weights).map(|(j, w)| w * v[j][kv + d]).sum::<f64>() / sum
                })
                .collect();
            values
        };
        (0..4).flat_map(head).collect()
    };
    (0..q.len()).map(row).collect()
}

#[test]
fn attention_equals_its_formula_over_chunks_and_windows() {
    for (device, window) in
        devices().into_iter().flat_map(|device| [(device.clone(), 0), (device, 5)])
    {
        let (q, k, v) = (noise(40, 16, 9), noise(40, 8, 10), noise(40, 8, 11));
        let shape = AttentionShape { n_heads: 4, n_kv_heads: 2, window, scale: 0.5 };
        let capacity = if window == 0 { 40 } else { window + 6 };
        let mut cache = KvCache::zeros(capacity, 8, &device);
        for start in (0..40).step_by(7) {
            let rows = start..40.min(start + 7);
            let [tq, tk, tv] = [&q, &k, &v].map(|m| matrix(&m[rows.clone()].to_vec(), &device));
            let (out, next) =
                ops::attention(tq, tk, tv, cache, integers(&[start as i64], &device), shape);
            cache = next;
            assert_close(out, &attend(&q[rows].to_vec(), &k, &v, start, window), "attention");
        }
    }
}

#[test]
fn convolution_continues_from_its_state() {
    for device in devices() {
        let (x, weight, bias) = (noise(6, 20, 12), noise(4, 20, 13), noise(1, 20, 14));
        let at = |row: usize, k: usize, channel: usize| match (row + k).checked_sub(3) {
            Some(source) => weight[k][channel] * x[source][channel],
            None => 0.0,
        };
        let sum = |row: usize, channel: usize| (0..4).map(|k| at(row, k, channel)).sum::<f64>();
        let plain: Matrix =
            (0..6).map(|row| (0..20).map(|channel| sum(row, channel)).collect()).collect();
        let expected: Matrix = plain
            .iter()
            .map(|row| row.iter().zip(&bias[0]).map(|(sum, bias)| silu(sum + bias)).collect())
            .collect();
        let mut state = Tensor::zeros([3, 20], &device);
        let mut identity = state.clone();
        for rows in [0..1, 1..6] {
            let tx = matrix(&x[rows.clone()].to_vec(), &device);
            let tw = matrix(&weight, &device);
            let bias = Some(vector(&bias[0], &device));
            let (out, next) =
                ops::causal_conv(tx.clone(), tw.clone(), bias, state, Activation::Silu);
            assert_close(out, &expected[rows.clone()].to_vec(), "causal_conv");
            state = next;
            let (out, next) = ops::causal_conv(tx, tw, None, identity, Activation::Identity);
            assert_close(out, &plain[rows].to_vec(), "causal_conv without bias");
            identity = next;
        }
        assert_close(state, &x[3..].to_vec(), "the state is the last inputs");
    }
}

#[test]
fn selective_scan_continues_from_its_state() {
    for device in devices() {
        let (x, dt, bc) = (noise(5, 20, 15), noise(5, 20, 16), noise(5, 6, 17));
        let (a_log, d) = (noise(3, 20, 18), noise(1, 20, 19));
        let mut h = vec![vec![0.0; 20]; 3];
        let mut token = |row: usize| {
            let channel = |(channel, h): (usize, Vec<&mut f64>)| {
                let (delta, x) = (softplus(dt[row][channel]), x[row][channel]);
                let mut out = d[0][channel] * x;
                for (n, h) in h.into_iter().enumerate() {
                    *h = (delta * -a_log[n][channel].exp()).exp() * *h + delta * bc[row][n] * x;
                    out += *h * bc[row][3 + n];
                }
                out
            };
            let mut columns: Vec<Vec<&mut f64>> = (0..20).map(|_| Vec::new()).collect();
            for row in &mut h {
                row.iter_mut().zip(&mut columns).for_each(|(h, column)| column.push(h));
            }
            columns.into_iter().enumerate().map(channel).collect::<Vec<f64>>()
        };
        let expected: Matrix = (0..5).map(&mut token).collect();
        let mut state = Tensor::zeros([3, 20], &device);
        for rows in [0..2, 2..5] {
            let [tx, tdt, tbc] = [&x, &dt, &bc].map(|m| matrix(&m[rows.clone()].to_vec(), &device));
            let (out, next) = ops::selective_scan(
                tx,
                tdt,
                tbc,
                matrix(&a_log, &device),
                vector(&d[0], &device),
                state,
            );
            assert_close(out, &expected[rows].to_vec(), "selective_scan");
            state = next;
        }
        assert_close(state, &h, "the state");
    }
}

#[test]
fn state_space_dual_continues_from_its_state() {
    // 4 heads of 6 channels, 2 groups, 5 numbers of state.
    let shape = DualShape { n_heads: 4, n_groups: 2, d_state: 5, dt_min: 0.3, dt_max: 0.9 };
    for device in devices() {
        let (xbc, dt, heads) = (noise(5, 24 + 20, 20), noise(5, 4, 21), noise(3, 4, 22));
        let (dt_bias, a_log, d) = (&heads[0], &heads[1], &heads[2]);
        let mut h = vec![vec![0.0; 6]; 20];
        let mut expected = vec![vec![0.0; 24]; 5];
        for (row, head, p) in (0..5 * 24).map(|i| (i / 24, i % 24 / 6, i % 6)) {
            let delta = softplus(dt[row][head] + dt_bias[head]).clamp(0.3, 0.9);
            let x = xbc[row][head * 6 + p];
            let mut out = d[head] * x;
            for n in 0..5 {
                let (b, c) = (xbc[row][24 + head / 2 * 5 + n], xbc[row][34 + head / 2 * 5 + n]);
                let h = &mut h[head * 5 + n][p];
                *h = (delta * -a_log[head].exp()).exp() * *h + delta * b * x;
                out += *h * c;
            }
            expected[row][head * 6 + p] = out;
        }
        let mut state = Tensor::zeros([20, 6], &device);
        for rows in [0..3, 3..5] {
            let [txbc, tdt] = [&xbc, &dt].map(|m| matrix(&m[rows.clone()].to_vec(), &device));
            let [dt_bias, a_log, d] = [dt_bias, a_log, d].map(|v| vector(v, &device));
            let (out, next) = ops::state_space_dual(txbc, tdt, dt_bias, a_log, d, state, shape);
            assert_close(out, &expected[rows].to_vec(), "state_space_dual");
            state = next;
        }
        assert_close(state, &h, "the state");
    }
}

#[test]
fn transposed_tensors_are_read_in_their_order() {
    let device = Device::flex();
    let a = noise(4, 3, 23);
    let transposed: Matrix =
        (0..3).map(|column| a.iter().map(|row| row[column]).collect()).collect();
    let found = ops::add(matrix(&a, &device).transpose(), matrix(&transposed, &device));
    assert_close(found, &zip(&transposed, &transposed, |a, b| a + b), "twice the transposed");
}

#[test]
#[should_panic(expected = "token 5 is not in a table of 5 rows")]
fn unknown_tokens_are_refused() {
    let device = Device::flex();
    let _ = ops::embed(matrix(&noise(5, 4, 24), &device), integers(&[5], &device));
}

#[test]
#[should_panic(expected = "selective_scan: bc is [rows, 2 · d_state]")]
fn shapes_that_do_not_fit_name_the_operand() {
    let device = Device::flex();
    let zeros = |rows, width| Tensor::<2>::zeros([rows, width], &device);
    let d = Tensor::<1>::zeros([4], &device);
    let _ = ops::selective_scan(zeros(1, 4), zeros(1, 4), zeros(1, 5), zeros(2, 4), d, zeros(2, 4));
}
