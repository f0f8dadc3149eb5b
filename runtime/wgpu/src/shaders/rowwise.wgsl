// Operators that treat rows alone.

/// n = [width, function]: 0 add, 1 silu(x) * y, 2 silu.
@compute @workgroup_size(64)
fn map(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= op.n.x { return; }
    let x = load(x_at(id.y) + id.x);
    let y = load(y_at(id.y) + id.x);
    var value = x + y;
    if op.n.y == 1u { value = silu(x) * y; }
    if op.n.y == 2u { value = silu(x); }
    store(out_at(id.y) + id.x, value);
}

/// Copies uploaded rows. n = [width].
@compute @workgroup_size(64)
fn upload(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= op.n.x { return; }
    arena[out_at(id.y) + id.x] = uploads[job.upload + id.y * op.n.x + id.x];
}

/// Takes the selected rows. n = [width].
@compute @workgroup_size(64)
fn pick(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= op.n.x { return; }
    arena[out_at(id.y) + id.x] = arena[x_at(job.selected + id.y) + id.x];
}

/// Rotates each head. n = [width, head_dim]; y: cosines, then sines.
@compute @workgroup_size(64)
fn rope(@builtin(global_invocation_id) id: vec3<u32>) {
    let half = op.n.y / 2u;
    if id.x * 2u >= op.n.x { return; }
    let i = id.x % half;
    let at = id.x / half * op.n.y + i;
    let low = load(x_at(id.y) + at);
    let high = load(x_at(id.y) + at + half);
    let cosine = load(y_at(id.y) + i);
    let sine = load(y_at(id.y) + half + i);
    store(out_at(id.y) + at, fma(-high, sine, low * cosine));
    store(out_at(id.y) + at + half, fma(low, sine, high * cosine));
}

/// Numbers of a group that are summed at once.
const TILE = 1024u;

var<workgroup> tile: array<f32, TILE>;
var<workgroup> sums: array<f32, 16>;

/// Normalises a group of a row. n = [group, width of the weight, gated], f = [eps]; y: the gate.
/// All threads read and write; squares are summed in the order of the reference: thread j of 16 takes i = j, j + 16, ….
@compute @workgroup_size(256)
fn norm(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first = group.x * op.n.x;
    let x = x_at(group.y) + first;
    let gate = y_at(group.y) + first;
    let out = out_at(group.y) + first;
    var sum = 0.0;
    for (var start = 0u; start < op.n.x; start += TILE) {
        let count = min(TILE, op.n.x - start);
        for (var i = lane; i < count; i += 256u) {
            var value = load(x + start + i);
            if op.n.z != 0u { value *= silu(load(gate + start + i)); }
            store(out + start + i, value);
            tile[i] = value;
        }
        workgroupBarrier();
        if lane < 16u {
            for (var i = lane; i < count; i += 16u) { sum = fma(tile[i], tile[i], sum); }
        }
        workgroupBarrier();
    }
    if lane < 16u { sums[lane] = sum; }
    for (var half = 8u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half { sums[lane] += sums[lane + half]; }
    }
    workgroupBarrier();
    let scale = 1.0 / sqrt(sums[0] / f32(op.n.x) + op.f.x);
    for (var i = lane; i < op.n.x; i += 256u) {
        store(out + i, load(out + i) * scale * bitcast<f32>(weight[(first + i) % op.n.y]));
    }
}

var<workgroup> best: array<f32, 256>;
var<workgroup> places: array<u32, 256>;

/// The first of the largest numbers, of the `rows` that start at word `upload`; written to the first word of `state`.
@compute @workgroup_size(256)
fn argmax(@builtin(local_invocation_index) lane: u32) {
    var largest = -3.4028234e38;
    var place = NONE;
    for (var i = lane; i < job.rows; i += 256u) {
        let value = load(job.upload + i);
        if value > largest || place == NONE {
            largest = value;
            place = i;
        }
    }
    best[lane] = largest;
    places[lane] = place;
    for (var half = 128u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half && places[lane + half] != NONE {
            let value = best[lane + half];
            let is_larger = value > best[lane] || places[lane] == NONE;
            if is_larger || (value == best[lane] && places[lane + half] < places[lane]) {
                best[lane] = value;
                places[lane] = places[lane + half];
            }
        }
    }
    if lane == 0u { state[0] = places[0]; }
}
