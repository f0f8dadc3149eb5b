// Operators with a state. A thread owns its channels for all rows, so that rows go in order.

/// A half from an f32: to nearest, ties to even. The built-in may round otherwise.
fn to_half(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    let sign = (bits >> 16u) & 0x8000u;
    let magnitude = bits & 0x7fffffffu;
    if magnitude >= 0x47800000u { return sign | 0x7c00u; }
    if magnitude < 0x38800000u {
        // Subnormal: adding one half's worth of the last place rounds as f32 does.
        return sign | (bitcast<u32>(bitcast<f32>(magnitude) + 0.5) - 0x3f000000u);
    }
    let odd = (magnitude >> 13u) & 1u;
    return sign | ((magnitude - 0x38000000u + 0xfffu + odd) >> 13u);
}

/// Appends rows of keys and of values, a pair of numbers of each by a thread.
/// n = [head_dim, capacity, heads, halves]; x: keys, y: values.
@compute @workgroup_size(64)
fn append(@builtin(global_invocation_id) id: vec3<u32>) {
    let at = id.x * 2u;
    if at >= op.n.x * op.n.z { return; }
    let head = at / op.n.x;
    let slot = (job.cache_position + id.y) % op.n.y;
    let to = (head * op.n.y + slot) * op.n.x + at % op.n.x;
    let k = x_at(id.y) + at;
    let v = y_at(id.y) + at;
    if op.n.w != 0u {
        state[to / 2u] = to_half(load(k)) | (to_half(load(k + 1u)) << 16u);
        other[to / 2u] = to_half(load(v)) | (to_half(load(v + 1u)) << 16u);
    } else {
        state[to] = arena[k];
        state[to + 1u] = arena[k + 1u];
        other[to] = arena[v];
        other[to + 1u] = arena[v + 1u];
    }
}

/// Two neighbouring numbers of a cache.
fn key(at: u32) -> vec2<f32> {
    if op.n.w != 0u { return unpack2x16float(state[at / 2u]); }
    return vec2(bitcast<f32>(state[at]), bitcast<f32>(state[at + 1u]));
}

fn value(at: u32) -> f32 {
    if op.n.w == 0u { return bitcast<f32>(other[at]); }
    let pair = unpack2x16float(other[at / 2u]);
    return select(pair.x, pair.y, (at & 1u) != 0u);
}

var<workgroup> products: array<vec2<f32>, 256>;
var<workgroup> scores: array<f32, 32>;
var<workgroup> weights: array<f32, 32>;

/// One query head at one position, over the reference's blocks of positions and in its order of sums: blocks of 32 that start at
/// absolute multiples of 32, with a running maximum.
/// n = [head_dim, capacity, query heads of a key head, halves], m = [window], f = [scale].
@compute @workgroup_size(256)
fn attend(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let head_dim = op.n.x;
    let cache = group.x / op.n.z * op.n.y * head_dim;
    let query = x_at(group.y) + group.x * head_dim;
    let end = job.cache_position + group.y + 1u;
    var start = 0u;
    if op.m.x != 0u && end > op.m.x { start = end - op.m.x; }
    // Eight threads have a position's key: each two of the 16 lanes that the reference sums by.
    let own = lane / 8u;
    let part = lane % 8u;
    var largest = -3.0e38;
    var sum = 0.0;
    // Of the column `lane`.
    var mixed = 0.0;
    for (var first = start; first < end; first = min(end, (first / 32u + 1u) * 32u)) {
        let count = min(end, (first / 32u + 1u) * 32u) - first;
        var product = vec2(0.0, 0.0);
        if own < count {
            let at = cache + (first + own) % op.n.y * head_dim;
            for (var i = part * 2u; i < head_dim; i += 16u) {
                product = fma(vec2(load(query + i), load(query + i + 1u)), key(at + i), product);
            }
        }
        products[lane] = product;
        for (var half = 4u; half > 0u; half /= 2u) {
            workgroupBarrier();
            if part < half { products[lane] += products[lane + half]; }
        }
        if part == 0u { scores[own] = op.f.x * (products[lane].x + products[lane].y); }
        workgroupBarrier();
        let before = largest;
        for (var j = 0u; j < count; j++) { largest = max(largest, scores[j]); }
        let correction = exp_(before - largest);
        if lane < count { weights[lane] = exp_(scores[lane] - largest); }
        workgroupBarrier();
        var total = 0.0;
        mixed *= correction;
        for (var j = 0u; j < count; j++) {
            total += weights[j];
            if lane < head_dim {
                let at = cache + (first + j) % op.n.y * head_dim + lane;
                mixed = fma(weights[j], value(at), mixed);
            }
        }
        sum = fma(sum, correction, total);
    }
    if lane < head_dim { store(out_at(group.y) + group.x * head_dim + lane, mixed / sum); }
}

fn held(at: u32) -> f32 { return bitcast<f32>(state[at]); }
fn hold(at: u32, value: f32) { state[at] = bitcast<u32>(value); }

/// Number of row `at` of the sequence that starts with the state and goes on with drafts and rows.
fn before(at: u32, channel: u32) -> f32 {
    let kept = op.n.y - 1u;
    if at < kept { return held(at * op.n.w + channel); }
    // Rows of the log come before row 0: the difference wraps around.
    return load(x_at(at - kept - job.replayed) + channel);
}

/// Convolves a channel. n = [channels, taps, silu, words of a state's row], m = [has a bias].
@compute @workgroup_size(64)
fn conv(@builtin(global_invocation_id) id: vec3<u32>) {
    let channel = id.x;
    if channel >= op.n.x { return; }
    for (var row = 0u; row < job.rows; row++) {
        var sum = 0.0;
        if op.m.x != 0u { sum = bitcast<f32>(second[channel]); }
        for (var k = 0u; k < op.n.y; k++) {
            let x = before(job.replayed + row + k, channel);
            sum = fma(bitcast<f32>(weight[k * op.n.x + channel]), x, sum);
        }
        if op.n.z != 0u { sum = silu(sum); }
        store(out_at(row) + channel, sum);
    }
    // Going up, a row is read before it is overwritten.
    for (var k = 0u; k + 1u < op.n.y; k++) {
        hold(k * op.n.w + channel, before(job.kept + k, channel));
    }
}

/// Mamba's recurrence of a channel. n = [channels, d_state, words of a state's row]; y: dt, z: b, then c.
@compute @workgroup_size(64)
fn scan(@builtin(global_invocation_id) id: vec3<u32>) {
    let channel = id.x;
    if channel >= op.n.x { return; }
    for (var row = 0u; row < job.rows; row++) {
        let x = load(x_at(row) + channel);
        let delta = softplus(load(y_at(row) + channel));
        let bc = z_at(row);
        var sum = 0.0;
        for (var n = 0u; n < op.n.y; n++) {
            let at = n * op.n.z + channel;
            let decay = exp_(delta * bitcast<f32>(weight[n * op.n.x + channel]));
            let h = fma(decay, held(at), delta * x * load(bc + n));
            hold(at, h);
            sum = fma(h, load(bc + op.n.y + n), sum);
        }
        store(out_at(row) + channel, fma(bitcast<f32>(second[channel]), x, sum));
    }
}

/// Mamba-2's recurrence of a channel. n = [heads, groups, d_state, head_dim], m = [words of a state's row],
/// f = [least step, greatest step]; x: x, then b, then c; y: dt; weights: dt_bias, a, d.
@compute @workgroup_size(64)
fn dual(@builtin(global_invocation_id) id: vec3<u32>) {
    let head_dim = op.n.w;
    let d_inner = op.n.x * head_dim;
    if id.x >= d_inner { return; }
    let head = id.x / head_dim;
    let p = id.x % head_dim;
    let group = head / (op.n.x / op.n.y);
    for (var row = 0u; row < job.rows; row++) {
        let xbc = x_at(row);
        let x = load(xbc + id.x);
        let b = xbc + d_inner + group * op.n.z;
        let c = b + op.n.y * op.n.z;
        let raw = softplus(load(y_at(row) + head) + bitcast<f32>(weight[head]));
        let delta = min(max(raw, op.f.x), op.f.y);
        let decay = exp_(delta * bitcast<f32>(second[head]));
        var sum = 0.0;
        for (var n = 0u; n < op.n.z; n++) {
            let at = (head * op.n.z + n) * op.m.x + p;
            let h = fma(decay, held(at), delta * x * load(b + n));
            hold(at, h);
            sum = fma(h, load(c + n), sum);
        }
        store(out_at(row) + id.x, fma(bitcast<f32>(third[head]), x, sum));
    }
}

// The same over rows that may be drafts: the state keeps some, and the others leave no trace. A number of state is taken
// through all rows at once, so that it need not be kept anywhere else; sums grow in the output.

@compute @workgroup_size(64)
fn scan_drafts(@builtin(global_invocation_id) id: vec3<u32>) {
    let channel = id.x;
    if channel >= op.n.x { return; }
    for (var row = 0u; row < job.rows; row++) { store(out_at(row) + channel, 0.0); }
    for (var n = 0u; n < op.n.y; n++) {
        let at = n * op.n.z + channel;
        var h = held(at);
        for (var i = 0u; i < job.replayed + job.rows; i++) {
            let row = i - job.replayed;
            let x = load(x_at(row) + channel);
            let delta = softplus(load(y_at(row) + channel));
            let bc = z_at(row);
            let decay = exp_(delta * bitcast<f32>(weight[n * op.n.x + channel]));
            h = fma(decay, h, delta * x * load(bc + n));
            if i < job.kept { hold(at, h); }
            if i >= job.replayed {
                let out = out_at(row) + channel;
                store(out, fma(h, load(bc + op.n.y + n), load(out)));
            }
        }
    }
    for (var row = 0u; row < job.rows; row++) {
        let out = out_at(row) + channel;
        store(out, fma(bitcast<f32>(second[channel]), load(x_at(row) + channel), load(out)));
    }
}

@compute @workgroup_size(64)
fn dual_drafts(@builtin(global_invocation_id) id: vec3<u32>) {
    let head_dim = op.n.w;
    let d_inner = op.n.x * head_dim;
    if id.x >= d_inner { return; }
    let head = id.x / head_dim;
    let group = head / (op.n.x / op.n.y);
    for (var row = 0u; row < job.rows; row++) { store(out_at(row) + id.x, 0.0); }
    for (var n = 0u; n < op.n.z; n++) {
        let at = (head * op.n.z + n) * op.m.x + id.x % head_dim;
        var h = held(at);
        for (var i = 0u; i < job.replayed + job.rows; i++) {
            let row = i - job.replayed;
            let x = load(x_at(row) + id.x);
            let b = x_at(row) + d_inner + group * op.n.z;
            let raw = softplus(load(y_at(row) + head) + bitcast<f32>(weight[head]));
            let delta = min(max(raw, op.f.x), op.f.y);
            h = fma(exp_(delta * bitcast<f32>(second[head])), h, delta * x * load(b + n));
            if i < job.kept { hold(at, h); }
            if i >= job.replayed {
                let out = out_at(row) + id.x;
                store(out, fma(h, load(b + op.n.y * op.n.z + n), load(out)));
            }
        }
    }
    for (var row = 0u; row < job.rows; row++) {
        let out = out_at(row) + id.x;
        store(out, fma(bitcast<f32>(third[head]), load(x_at(row) + id.x), load(out)));
    }
}
