//! Causal attention over whole sequences: grouped queries, sliding windows.

use burn::module::Module;
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use dynamax_burn::ops::{self, AttentionShape};

use super::residual_init;
use super::rope::Angles;
use crate::config::TransformerConfig;
use crate::layers::{Init, Linear, RmsNorm};
use crate::step::States;

/// Queries that attend together. Bounds the scores in memory to `QUERY_BLOCK · seq` per head, and skips keys that no
/// query of the block may see.
const QUERY_BLOCK: usize = 256;

/// Added to the scores of hidden keys. Finite, so that no difference of two is NaN.
const HIDDEN: f32 = -1e30;

/// `softmax(scale · q · kᵀ) · v` per head, between projections in and out.
#[derive(Module, Debug)]
pub struct Attention {
    /// `[n_heads · head_dim, d_model]`.
    pub q_proj: Linear,
    /// `[n_kv_heads · head_dim, d_model]`.
    pub k_proj: Linear,
    /// `[n_kv_heads · head_dim, d_model]`.
    pub v_proj: Linear,
    /// `[d_model, n_heads · head_dim]`.
    pub o_proj: Linear,
    /// `[head_dim]`, if queries are normalised per head.
    pub q_norm: Option<RmsNorm>,
    /// `[head_dim]`, if keys are normalised per head.
    pub k_norm: Option<RmsNorm>,
    /// Query heads.
    pub n_heads: usize,
    /// Key/value heads.
    pub n_kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Token `i` sees tokens `i - window + 1 ..= i`; 0: all before it.
    pub window: usize,
}

impl Attention {
    /// Makes the attention of layer `index`.
    ///
    /// # Panics
    ///
    /// Panics if the config has no window for the layer.
    #[must_use]
    pub fn new(config: &TransformerConfig, index: usize, device: &Device) -> Self {
        let (d_model, head_dim) = (config.d_model, config.head_dim);
        let (d_q, d_kv) = (config.n_heads * head_dim, config.n_kv_heads * head_dim);
        let init = Init::Normal { std: config.init_std };
        let linear =
            |d_out| Linear::new(d_model, d_out, init, device).with_bias(config.has_qkv_bias);
        let norm = || config.has_qk_norm.then(|| RmsNorm::new(head_dim, config.norm_eps, device));
        Self {
            q_proj: linear(d_q),
            k_proj: linear(d_kv),
            v_proj: linear(d_kv),
            o_proj: Linear::new(d_q, d_model, residual_init(config), device)
                .with_bias(config.has_o_bias),
            q_norm: norm(),
            k_norm: norm(),
            n_heads: config.n_heads,
            n_kv_heads: config.n_kv_heads,
            head_dim,
            window: config.windows[index],
        }
    }

    /// Attends within each sequence.
    ///
    /// # Shapes
    ///
    /// - `x`, and returned: `[batch, seq, d_model]`
    pub(super) fn forward(&self, x: Tensor<3>, angles: &Angles) -> Tensor<3> {
        let [batch, seq, _] = x.dims();
        let (kv, group, dim) = (self.n_kv_heads, self.n_heads / self.n_kv_heads, self.head_dim);
        let q = self.q_proj.forward(x.clone()).reshape([batch, seq, self.n_heads, dim]);
        let k = self.k_proj.forward(x.clone()).reshape([batch, seq, kv, dim]);
        let v = self.v_proj.forward(x).reshape([batch, seq, kv, dim]);
        let q = angles.rotate(normed(self.q_norm.as_ref(), q)) * (dim as f64).sqrt().recip();
        let k = angles.rotate(normed(self.k_norm.as_ref(), k));
        // The query heads of one key/value head become one axis, so that keys and values are never repeated.
        let q = q.swap_dims(1, 2).reshape([batch * kv, group, seq, dim]);
        let k = k.swap_dims(1, 2).reshape([batch * kv, seq, dim]);
        let v = v.swap_dims(1, 2).reshape([batch * kv, seq, dim]);
        let blocks = (0..seq).step_by(QUERY_BLOCK).map(|start| {
            let len = QUERY_BLOCK.min(seq - start);
            self.attend(q.clone().narrow(2, start, len), k.clone(), v.clone(), start)
        });
        let out = Tensor::cat(blocks.collect(), 2);
        let out = out.reshape([batch, self.n_heads, seq, dim]).swap_dims(1, 2);
        self.o_proj.forward(out.reshape([batch, seq, self.n_heads * dim]))
    }

    /// Attends as deployed, to the rows and to what is cached.
    ///
    /// # Shapes
    ///
    /// - `x`, and returned: `[rows, d_model]`
    /// - `angles`: `[rows, head_dim]`
    /// - `position`: `[1]`
    pub(super) fn step(
        &self,
        x: Tensor<2>,
        angles: Tensor<2>,
        position: Tensor<1, Int>,
        states: &mut States,
    ) -> Tensor<2> {
        let heads = |projection: &Linear, norm: Option<&RmsNorm>| {
            let x = projection.step(x.clone());
            let x = match norm {
                Some(norm) => norm.step(x),
                None => x,
            };
            ops::rope(x, angles.clone())
        };
        let q = heads(&self.q_proj, self.q_norm.as_ref());
        let k = heads(&self.k_proj, self.k_norm.as_ref());
        let v = self.v_proj.step(x.clone());
        let shape = AttentionShape {
            n_heads: self.n_heads,
            n_kv_heads: self.n_kv_heads,
            window: self.window,
            scale: (self.head_dim as f64).sqrt().recip() as f32,
        };
        let y = states.update_cache(|cache| ops::attention(q, k, v, cache, position, shape));
        self.o_proj.step(y)
    }

    /// Attends from queries at positions `start..` to the keys that they may see.
    ///
    /// # Shapes
    ///
    /// - `q`, and returned: `[batch · n_kv_heads, group, queries, head_dim]`
    /// - `k`, `v`: `[batch · n_kv_heads, seq, head_dim]`
    fn attend(&self, q: Tensor<4>, k: Tensor<3>, v: Tensor<3>, start: usize) -> Tensor<4> {
        let [rows, group, queries, dim] = q.dims();
        let first = if self.window == 0 { 0 } else { (start + 1).saturating_sub(self.window) };
        let keys = start + queries - first;
        let (k, v) = (k.narrow(1, first, keys), v.narrow(1, first, keys));
        let mask = hidden(start..start + queries, first..start + queries, self.window, &q.device());
        let scores = q.reshape([rows, group * queries, dim]).matmul(k.swap_dims(1, 2));
        let scores = scores.reshape([rows * group, queries, keys]) + mask.unsqueeze();
        let weights = softmax(scores, 2).reshape([rows, group * queries, keys]);
        weights.matmul(v).reshape([rows, group, queries, dim])
    }
}

fn normed(norm: Option<&RmsNorm>, x: Tensor<4>) -> Tensor<4> {
    norm.map_or_else(|| x.clone(), |norm| norm.forward(x.clone()))
}

/// `0` where a query sees a key, [`HIDDEN`] elsewhere, `[queries, keys]`.
fn hidden(
    queries: core::ops::Range<usize>,
    keys: core::ops::Range<usize>,
    window: usize,
    device: &Device,
) -> Tensor<2> {
    let sees = |query: usize, key: usize| key <= query && (window == 0 || query - key < window);
    let numbers: Vec<f32> = queries
        .clone()
        .flat_map(|query| keys.clone().map(move |key| if sees(query, key) { 0.0 } else { HIDDEN }))
        .collect();
    Tensor::from_data(TensorData::new(numbers, [queries.len(), keys.len()]), device)
}
