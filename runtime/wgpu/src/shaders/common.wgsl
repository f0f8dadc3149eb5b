// What all kernels share: where operands are, and the functions of the reference.

/// Constants of one dispatch, written when a model is put on the device.
struct Op {
    // Of an activation: first word in the arena, and words from one row to the next.
    x: vec2<u32>,
    y: vec2<u32>,
    z: vec2<u32>,
    out: vec2<u32>,
    // Sizes; each kernel says what they are.
    n: vec4<u32>,
    m: vec4<u32>,
    f: vec4<f32>,
    // Bits 0, 1, 2: x, y, z is the residual stream. Bit 3: rows are those that were selected.
    streams: u32,
    // First word of x, y, z, out in the log of drafts, or NONE.
    logs: vec4<u32>,
}

/// Of one run.
struct Job {
    rows: u32,
    cache_position: u32,
    // First row that is selected.
    selected: u32,
    // First word of what was uploaded for this dispatch.
    upload: u32,
    // The activation that starts at `shifted` starts `shift` words further down.
    shifted: u32,
    shift: u32,
    // Stands for the residual stream, unless it is NONE.
    stream: u32,
    stream_stride: u32,
    // Rows that are selected.
    picked: u32,
    // Rows of the round that are logged, or NONE.
    log: u32,
    // Of what a recurrence goes over: rows that it has answered before, which come first, and rows that it keeps.
    replayed: u32,
    kept: u32,
}

const NONE = 0xffffffffu;

@group(0) @binding(0) var<uniform> op: Op;
@group(0) @binding(1) var<uniform> job: Job;
@group(0) @binding(2) var<storage, read_write> arena: array<u32>;
@group(0) @binding(3) var<storage, read> weight: array<u32>;
@group(0) @binding(4) var<storage, read> second: array<u32>;
@group(0) @binding(5) var<storage, read> third: array<u32>;
@group(0) @binding(6) var<storage, read_write> state: array<u32>;
@group(0) @binding(7) var<storage, read_write> other: array<u32>;
@group(0) @binding(8) var<storage, read> uploads: array<u32>;

/// First word of a row.
fn row_of(operand: vec2<u32>, log: u32, bit: u32, row: u32) -> u32 {
    if job.log != NONE && log != NONE {
        return log + (job.log + row) * operand.y;
    }
    var start = operand.x;
    var stride = operand.y;
    if job.stream != NONE && (op.streams & bit) != 0u {
        start = job.stream;
        stride = job.stream_stride;
    }
    if start == job.shifted {
        start += job.shift;
    }
    return start + row * stride;
}

fn rows() -> u32 { return select(job.rows, job.picked, (op.streams & 8u) != 0u); }

fn x_at(row: u32) -> u32 { return row_of(op.x, op.logs.x, 1u, row); }
fn y_at(row: u32) -> u32 { return row_of(op.y, op.logs.y, 2u, row); }
fn z_at(row: u32) -> u32 { return row_of(op.z, op.logs.z, 4u, row); }
fn out_at(row: u32) -> u32 { return row_of(op.out, op.logs.w, 0u, row); }

fn load(at: u32) -> f32 { return bitcast<f32>(arena[at]); }
fn store(at: u32, value: f32) { arena[at] = bitcast<u32>(value); }

/// The polynomial of the reference.
fn exp_(x: f32) -> f32 {
    let held = clamp(x, -87.33, 88.72);
    let n = floor(held * 1.44269504 + 0.5);
    let r = fma(n, 2.12194440e-4, fma(n, -0.693359375, held));
    var p = fma(r, bitcast<f32>(0x3ab5b7b9u), bitcast<f32>(0x3c091814u));
    p = fma(r, p, bitcast<f32>(0x3d2aab44u));
    p = fma(r, p, bitcast<f32>(0x3e2aaa51u));
    p = fma(r, p, 0.5);
    p = fma(r, p, 1.0);
    p = fma(r, p, 1.0);
    // Whole powers of two are added to the exponent; the bounds on x keep it a normal number.
    let scaled = bitcast<f32>(bitcast<u32>(p) + (bitcast<u32>(i32(n)) << 23u));
    return select(scaled, 0.0, x < -87.33);
}

fn silu(x: f32) -> f32 { return x / (1.0 + exp_(-x)); }

fn softplus(x: f32) -> f32 {
    let u = exp_(-abs(x));
    let s = u / (2.0 + u);
    let z = s * s;
    var p = fma(z, bitcast<f32>(0x3e0f855bu), bitcast<f32>(0x3e0f594fu));
    p = fma(z, p, bitcast<f32>(0x3e4ce957u));
    p = fma(z, p, bitcast<f32>(0x3eaaaa80u));
    let twice = s + s;
    return max(x, 0.0) + fma(twice * z, p, twice);
}
