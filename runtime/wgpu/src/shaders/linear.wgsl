// Matrices as a bundle stores them: panels of 16 output rows over blocks of 32 inputs, dequantized in registers.

var<workgroup> peaks: array<f32, 256>;
var<workgroup> sums: array<i32, 256>;

/// Rounds blocks of 32 numbers to int8: 8 words of four, the scale, and minus the sum. n = [d_in].
/// A thread has a word; neither the largest number nor the sum of integers depends on the order.
@compute @workgroup_size(256)
fn quantize(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let d_in = op.n.x;
    let block = group.x * 32u + lane / 8u;
    let word = lane % 8u;
    let first = block * 32u + word * 4u;
    let x = x_at(group.y) + first;
    let out = out_at(group.y) + block * 10u;
    var numbers: array<f32, 4>;
    var peak = 0.0;
    for (var i = 0u; i < 4u; i++) {
        if first + i < d_in { numbers[i] = load(x + i); }
        peak = max(peak, abs(numbers[i]));
    }
    peaks[lane] = peak;
    for (var half = 4u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if word < half { peaks[lane] = max(peaks[lane], peaks[lane + half]); }
    }
    workgroupBarrier();
    let largest = peaks[lane - word];
    let is_zero = largest < 7.888609e-31;
    let inverse = select(127.0 / largest, 0.0, is_zero);
    var sum = 0;
    var packed = 0u;
    for (var i = 0u; i < 4u; i++) {
        // Rounds halves to even; the shader's `round` does as well.
        let quant = i32(round(numbers[i] * inverse));
        sum += quant;
        packed |= (bitcast<u32>(quant) & 255u) << (8u * i);
    }
    sums[lane] = sum;
    for (var half = 4u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if word < half { sums[lane] += sums[lane + half]; }
    }
    if block * 32u >= d_in { return; }
    arena[out + word] = packed;
    if word == 0u {
        store(out + 8u, select(largest / 127.0, 0.0, is_zero));
        arena[out + 9u] = bitcast<u32>(-sums[lane]);
    }
}

/// Threads that share a row's blocks.
const SLOTS = 4u;

var<workgroup> parts: array<f32, ROWS * 64>;

/// Two halves in a word, number `at` of the weight's halves.
fn half_of(at: u32) -> f32 {
    let pair = unpack2x16float(weight[at / 2u]);
    return select(pair.x, pair.y, (at & 1u) != 0u);
}

// n = [d_in, d_out, words of a panel, first panel of this piece], m = [has a bias, 0, words of a panel's scales, halves].
// The first 16 threads take block 0, the next block 1, …; a thread's sum goes by blocks, as the reference's does.

fn finish(panel: u32, lane: u32, first: u32, count: u32) {
    workgroupBarrier();
    let d_out = (panel + op.n.w) * 16u + lane;
    if lane >= 16u || d_out >= op.n.y { return; }
    for (var r = 0u; r < count; r++) {
        var sum = parts[r * 64u + lane];
        for (var slot = 1u; slot < SLOTS; slot++) { sum += parts[r * 64u + slot * 16u + lane]; }
        if op.m.x != 0u { sum += bitcast<f32>(second[d_out]); }
        store(out_at(first + r) + d_out, sum);
    }
}

@compute @workgroup_size(64)
fn linear_q4(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = lane % 16u;
    let blocks = (op.n.x + 31u) / 32u;
    let panel = group.x * op.n.z;
    let first = group.y * ROWS;
    let count = min(ROWS, rows() - first);
    var acc: array<f32, ROWS>;
    for (var block = lane / 16u; block < blocks; block += SLOTS) {
        let scale = half_of((panel * 2u) + block * 16u + row);
        var low: array<u32, 4>;
        for (var g = 0u; g < 4u; g++) { low[g] = weight[panel + op.m.z + block * 64u + g * 16u + row]; }
        for (var r = 0u; r < count; r++) {
            let x = x_at(first + r) + block * 10u;
            // Unsigned weights of 0 to 15, and eight times the sum taken back: exact.
            var dot = 8 * bitcast<i32>(arena[x + 9u]);
            for (var g = 0u; g < 4u; g++) {
                dot += dot4I8Packed(low[g] & 0x0f0f0f0fu, arena[x + g]);
                dot += dot4I8Packed((low[g] >> 4u) & 0x0f0f0f0fu, arena[x + 4u + g]);
            }
            acc[r] = fma(f32(dot), scale * load(x + 8u), acc[r]);
        }
    }
    for (var r = 0u; r < count; r++) { parts[r * 64u + lane] = acc[r]; }
    finish(group.x, lane, first, count);
}

@compute @workgroup_size(64)
fn linear_q8(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = lane % 16u;
    let blocks = (op.n.x + 31u) / 32u;
    let panel = group.x * op.n.z;
    let first = group.y * ROWS;
    let count = min(ROWS, rows() - first);
    var acc: array<f32, ROWS>;
    for (var block = lane / 16u; block < blocks; block += SLOTS) {
        let scale = half_of((panel * 2u) + block * 16u + row);
        var words: array<u32, 8>;
        for (var g = 0u; g < 8u; g++) { words[g] = weight[panel + op.m.z + block * 128u + g * 16u + row]; }
        for (var r = 0u; r < count; r++) {
            let x = x_at(first + r) + block * 10u;
            var dot = 0;
            for (var g = 0u; g < 8u; g++) { dot += dot4I8Packed(words[g], arena[x + g]); }
            acc[r] = fma(f32(dot), scale * load(x + 8u), acc[r]);
        }
    }
    for (var r = 0u; r < count; r++) { parts[r * 64u + lane] = acc[r]; }
    finish(group.x, lane, first, count);
}

/// Panels of f32, or with m.w of f16: a block's sum starts anew.
@compute @workgroup_size(64)
fn linear_float(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = lane % 16u;
    let blocks = (op.n.x + 31u) / 32u;
    let panel = group.x * op.n.z;
    let first = group.y * ROWS;
    let count = min(ROWS, rows() - first);
    var acc: array<f32, ROWS>;
    for (var block = lane / 16u; block < blocks; block += SLOTS) {
        var part: array<f32, ROWS>;
        for (var i = block * 32u; i < min((block + 1u) * 32u, op.n.x); i++) {
            var w = 0.0;
            if op.m.w != 0u {
                w = half_of(panel * 2u + i * 16u + row);
            } else {
                w = bitcast<f32>(weight[panel + i * 16u + row]);
            }
            for (var r = 0u; r < count; r++) { part[r] = fma(w, load(x_at(first + r) + i), part[r]); }
        }
        for (var r = 0u; r < count; r++) { acc[r] += part[r]; }
    }
    for (var r = 0u; r < count; r++) { parts[r * 64u + lane] = acc[r]; }
    finish(group.x, lane, first, count);
}
