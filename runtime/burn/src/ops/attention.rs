//! Rotary positions and attention over a cache.

use burn::backend::Dispatch;
use burn::tensor::{Device, Int, Tensor};

use crate::Operators;

/// Constants of an attention operator.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionShape {
    /// Query heads.
    pub n_heads: usize,
    /// Key/value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Sliding window in tokens; 0: none.
    pub window: usize,
    /// Usually `1 / sqrt(head_dim)`.
    pub scale: f32,
}

/// Keys and values of the tokens so far. Only [`attention`] reads them; the order of the numbers is the kernel's.
///
/// # Shapes
///
/// - `k`, `v`: `[capacity, n_kv_heads · head_dim]`
#[derive(Clone, Debug)]
pub struct KvCache {
    /// Keys.
    pub k: Tensor<2>,
    /// Values.
    pub v: Tensor<2>,
}

impl KvCache {
    /// Makes room for `capacity` tokens, zeroed. With a sliding window, `window + rows - 1` are enough, where `rows`
    /// is the longest step.
    #[must_use]
    pub fn zeros(capacity: usize, width: usize, device: &Device) -> Self {
        Self {
            k: Tensor::zeros([capacity, width], device),
            v: Tensor::zeros([capacity, width], device),
        }
    }
}

/// Computes cosines, then sines, of `(position + r) · inv_freq`: once per step, for every layer.
///
/// # Shapes
///
/// - `inv_freq`: `[head_dim / 2]`
/// - `position`: `[1]`, that of row 0
/// - result: `[rows, head_dim]`: cosines in the first half, sines in the second
///
/// # Panics
///
/// Panics if `position` is not one number.
#[must_use]
pub fn rope_angles(inv_freq: Tensor<1>, position: Tensor<1, Int>, rows: usize) -> Tensor<2> {
    assert_eq!(position.dims(), [1], "rope_angles: position is [1]");
    Tensor::from_dispatch(<Dispatch as Operators>::rope_angles(
        inv_freq.into_dispatch(),
        position.into_dispatch(),
        rows,
    ))
}

/// Rotates each head of `x` by its position (Su et al. 2021), first half against second half.
///
/// # Shapes
///
/// - `x`, result: `[rows, n_heads · head_dim]`
/// - `angles`: `[rows, head_dim]`, from [`rope_angles`]
///
/// # Panics
///
/// Panics if the shapes do not fit.
#[must_use]
pub fn rope(x: Tensor<2>, angles: Tensor<2>) -> Tensor<2> {
    let ([rows, width], [angle_rows, head_dim]) = (x.dims(), angles.dims());
    assert_eq!(angle_rows, rows, "rope: a row of angles per row");
    assert!(
        head_dim.is_multiple_of(2) && width.is_multiple_of(head_dim),
        "rope: x is [rows, n_heads · head_dim]"
    );
    Tensor::from_dispatch(<Dispatch as Operators>::rope(x.into_dispatch(), angles.into_dispatch()))
}

/// Appends `k` and `v` to the cache, then attends: `out = softmax(scale · q · Kᵀ) · V`, causal, with grouped queries.
///
/// # Shapes
///
/// - `q`, result: `[rows, n_heads · head_dim]`
/// - `k`, `v`: `[rows, n_kv_heads · head_dim]`
/// - `cache`: `[capacity, n_kv_heads · head_dim]` twice; the result holds the updated one
/// - `position`: `[1]`, that of row 0
///
/// # Panics
///
/// Panics if the shapes do not fit. On a device that runs, also if a position that can still be attended to would be
/// overwritten.
#[must_use]
pub fn attention(
    q: Tensor<2>,
    k: Tensor<2>,
    v: Tensor<2>,
    cache: KvCache,
    position: Tensor<1, Int>,
    shape: AttentionShape,
) -> (Tensor<2>, KvCache) {
    let AttentionShape { n_heads, n_kv_heads, .. } = shape;
    let ([rows, q_width], [_, kv_width]) = (q.dims(), k.dims());
    assert!(
        n_kv_heads > 0 && n_heads.is_multiple_of(n_kv_heads),
        "attention: n_kv_heads divides n_heads"
    );
    assert!(kv_width.is_multiple_of(n_kv_heads), "attention: k is [rows, n_kv_heads · head_dim]");
    assert_eq!(
        q_width,
        n_heads * (kv_width / n_kv_heads),
        "attention: q is [rows, n_heads · head_dim]"
    );
    assert_eq!(k.dims(), [rows, kv_width], "attention: q and k have the same rows");
    assert_eq!(v.dims(), k.dims(), "attention: v is shaped as k");
    assert_eq!(
        cache.k.dims()[1],
        kv_width,
        "attention: cache is [capacity, n_kv_heads · head_dim]"
    );
    assert_eq!(cache.v.dims(), cache.k.dims(), "attention: both caches have one shape");
    assert_eq!(position.dims(), [1], "attention: position is [1]");
    let (out, k, v) = <Dispatch as Operators>::attend(
        q.into_dispatch(),
        k.into_dispatch(),
        v.into_dispatch(),
        cache.k.into_dispatch(),
        cache.v.into_dispatch(),
        position.into_dispatch(),
        shape,
    );
    (
        Tensor::from_dispatch(out),
        KvCache { k: Tensor::from_dispatch(k), v: Tensor::from_dispatch(v) },
    )
}
