//! The blocks of llama.cpp's encodings, one function each: from bytes to numbers, in f32 and in that program's order.

use half::f16;

/// Integers of 4 bits: those of the first half of a block are the low nibbles, those of the second the high ones.
fn nibbles(bytes: &[u8]) -> impl Iterator<Item = u8> {
    bytes.iter().map(|byte| byte & 15).chain(bytes.iter().map(|byte| byte >> 4))
}

/// Integers of 5 bits: nibbles as above, and their fifth bits in order.
fn fives(high: [u8; 4], bytes: &[u8]) -> impl Iterator<Item = u8> {
    let high = u32::from_le_bytes(high);
    nibbles(bytes).enumerate().map(move |(i, low)| low | ((high >> i & 1) as u8) << 4)
}

fn half(low: u8, high: u8) -> f32 {
    f16::from_le_bytes([low, high]).to_f32()
}

pub(super) fn q4_0(block: &[u8; 18], out: &mut Vec<f32>) {
    let scale = half(block[0], block[1]);
    out.extend(nibbles(&block[2..]).map(|q| scale * (f32::from(q) - 8.0)));
}

pub(super) fn q4_1(block: &[u8; 20], out: &mut Vec<f32>) {
    let (scale, least) = (half(block[0], block[1]), half(block[2], block[3]));
    out.extend(nibbles(&block[4..]).map(|q| scale * f32::from(q) + least));
}

pub(super) fn q5_0(block: &[u8; 22], out: &mut Vec<f32>) {
    let scale = half(block[0], block[1]);
    let high = [block[2], block[3], block[4], block[5]];
    out.extend(fives(high, &block[6..]).map(|q| scale * (f32::from(q) - 16.0)));
}

pub(super) fn q5_1(block: &[u8; 24], out: &mut Vec<f32>) {
    let (scale, least) = (half(block[0], block[1]), half(block[2], block[3]));
    let high = [block[4], block[5], block[6], block[7]];
    out.extend(fives(high, &block[8..]).map(|q| scale * f32::from(q) + least));
}

pub(super) fn q8_0(block: &[u8; 34], out: &mut Vec<f32>) {
    let scale = half(block[0], block[1]);
    out.extend(block[2..].iter().map(|q| scale * f32::from(q.cast_signed())));
}

/// Scale and offset of each eighth of a block of 256: 6 bits each, in 12 bytes. The first four of both lie in the low bits
/// of the first eight bytes; of the others, the low nibbles lie in the last four bytes, and the two bits above in what is
/// left of the first eight.
fn sixes(bytes: &[u8], index: usize) -> (f32, f32) {
    let (scale, offset) = if index < 4 {
        (bytes[index] & 63, bytes[index + 4] & 63)
    } else {
        let low = bytes[index + 4];
        (low & 15 | bytes[index - 4] >> 6 << 4, low >> 4 | bytes[index] >> 6 << 4)
    };
    (f32::from(scale), f32::from(offset))
}

pub(super) fn q4_k(block: &[u8; 144], out: &mut Vec<f32>) {
    let (scale, offset) = (half(block[0], block[1]), half(block[2], block[3]));
    let (sixths, integers) = (&block[4..16], &block[16..]);
    for (pair, bytes) in integers.chunks_exact(32).enumerate() {
        for (part, shift) in [(0, 0), (1, 4)] {
            let (s, o) = sixes(sixths, 2 * pair + part);
            let (s, o) = (scale * s, offset * o);
            out.extend(bytes.iter().map(|byte| s * f32::from(byte >> shift & 15) - o));
        }
    }
}

pub(super) fn q5_k(block: &[u8; 176], out: &mut Vec<f32>) {
    let (scale, offset) = (half(block[0], block[1]), half(block[2], block[3]));
    let (sixths, high, integers) = (&block[4..16], &block[16..48], &block[48..]);
    for (pair, bytes) in integers.chunks_exact(32).enumerate() {
        for (part, shift) in [(0, 0), (1, 4)] {
            let eighth = 2 * pair + part;
            let (s, o) = sixes(sixths, eighth);
            let (s, o) = (scale * s, offset * o);
            let five = |(byte, high): (&u8, &u8)| byte >> shift & 15 | (high >> eighth & 1) << 4;
            out.extend(bytes.iter().zip(high).map(five).map(|q| s * f32::from(q) - o));
        }
    }
}

pub(super) fn q6_k(block: &[u8; 210], out: &mut Vec<f32>) {
    let (low, high, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let scale = half(block[208], block[209]);
    for part in 0..2 {
        let (low, high, scales) = (&low[part * 64..], &high[part * 32..], &scales[part * 8..]);
        for quarter in 0..4 {
            // Quarters 0 and 1 are low nibbles, 2 and 3 the high ones of the same bytes; the two bits above follow in turn.
            let (first, shift) = (quarter % 2 * 32, quarter / 2 * 4);
            for i in 0..32 {
                let q = low[first + i] >> shift & 15 | (high[i] >> (2 * quarter) & 3) << 4;
                let s = scale * f32::from(scales[2 * quarter + i / 16].cast_signed());
                out.push(s * (f32::from(q) - 32.0));
            }
        }
    }
}

/// Blocks of `Q4_0` as blocks of i8 with the same scales.
pub(super) fn widen_q4(bytes: &[u8], out: &mut Vec<u8>) {
    for block in bytes.as_chunks::<18>().0 {
        out.extend_from_slice(&block[..2]);
        out.extend(nibbles(&block[2..]).map(|q| q.wrapping_sub(8)));
    }
}

/// Blocks of `Q5_0` as blocks of i8 with the same scales.
pub(super) fn widen_q5(bytes: &[u8], out: &mut Vec<u8>) {
    for block in bytes.as_chunks::<22>().0 {
        out.extend_from_slice(&block[..2]);
        let high = [block[2], block[3], block[4], block[5]];
        out.extend(fives(high, &block[6..]).map(|q| q.wrapping_sub(16)));
    }
}
