//! Which rows of which tensor of a checkpoint each parameter of a module is.

use std::ops::Range;

use crate::config::{Config, Mamba2Config, MambaConfig, TransformerConfig};

/// The head of a model whose token table is not tied.
pub(super) const HEAD: &str = "lm_head.weight";

/// What is done to the rows of a tensor to make a parameter of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transform {
    /// Nothing.
    Plain,
    /// `[c, k]`, or `[c, 1, k]`, becomes `[k, c]`; of whole tensors only.
    Transpose,
}

/// Where a parameter comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Path of the parameter in the module.
    pub param: String,
    /// Name of the tensor in the checkpoint, without `model.` or `backbone.`.
    pub tensor: String,
    /// Shape of that tensor.
    pub tensor_shape: Vec<usize>,
    /// Which of its rows, along the first axis.
    pub rows: Range<usize>,
    /// What is done to them.
    pub transform: Transform,
    /// Shape of the parameter.
    pub shape: Vec<usize>,
}

impl Source {
    /// Rows and columns of the parameter; a vector is one row.
    #[must_use]
    pub fn matrix_shape(&self) -> (usize, usize) {
        self.shape.split_last().map_or((1, 1), |(columns, rows)| (rows.iter().product(), *columns))
    }

    /// Position of the parameter's first number in the tensor.
    pub(super) fn first_number(&self) -> usize {
        self.rows.start * self.tensor_shape[1..].iter().product::<usize>()
    }
}

/// Where every parameter of a model of this shape comes from; the token table is first.
#[must_use]
pub fn sources(config: &Config) -> Vec<Source> {
    let mut list = List::default();
    match config {
        Config::Transformer(config) => transformer(config, &mut list),
        Config::Mamba(config) => mamba(config, &mut list),
        Config::Mamba2(config) => mamba2(config, &mut list),
    }
    list.sources
}

#[derive(Default)]
struct List {
    sources: Vec<Source>,
    prefix: String,
}

impl List {
    /// A parameter that is a tensor of the same name.
    fn same(&mut self, name: &str, shape: &[usize]) {
        self.parts(name, &[(name, shape[0])], &shape[1..]);
    }

    /// A matrix, and its bias if there is one.
    fn linear(&mut self, name: &str, [d_out, d_in]: [usize; 2], has_bias: bool) {
        self.linears(name, &[(name, d_out)], d_in, has_bias);
    }

    /// A matrix that is cut into several, and its bias if there is one.
    fn linears(&mut self, name: &str, parts: &[(&str, usize)], d_in: usize, has_bias: bool) {
        let suffixes: [(&str, &[usize]); 2] = [("weight", &[d_in]), ("bias", &[])];
        for (suffix, rest) in &suffixes[..if has_bias { 2 } else { 1 }] {
            let names: Vec<String> =
                parts.iter().map(|(part, _)| format!("{part}.{suffix}")).collect();
            let parts: Vec<_> =
                names.iter().zip(parts).map(|(name, (_, rows))| (name.as_str(), *rows)).collect();
            self.parts(&format!("{name}.{suffix}"), &parts, rest);
        }
    }

    /// A tensor whose rows are several parameters, in this order; `rest` is its shape but for the first axis.
    fn parts(&mut self, tensor: &str, parts: &[(&str, usize)], rest: &[usize]) {
        let shape = |rows: usize| [&[rows], rest].concat();
        let total = parts.iter().map(|(_, rows)| rows).sum();
        let mut start = 0;
        for (param, rows) in parts {
            self.sources.push(Source {
                param: format!("{}{param}", self.prefix),
                tensor: format!("{}{tensor}", self.prefix),
                tensor_shape: shape(total),
                rows: start..start + rows,
                transform: Transform::Plain,
                shape: shape(*rows),
            });
            start += rows;
        }
    }

    /// A parameter `[k, c]` that is a tensor `[c, .., k]`.
    fn transposed(&mut self, param: &str, tensor: &str, tensor_shape: &[usize]) {
        let (c, k) = (tensor_shape[0], tensor_shape[tensor_shape.len() - 1]);
        self.sources.push(Source {
            param: format!("{}{param}", self.prefix),
            tensor: format!("{}{tensor}", self.prefix),
            tensor_shape: tensor_shape.into(),
            rows: 0..c,
            transform: Transform::Transpose,
            shape: vec![k, c],
        });
    }

    /// A parameter whose name differs.
    fn renamed(&mut self, param: &str, tensor: &str, len: usize) {
        self.parts(tensor, &[(param, len)], &[]);
    }

    fn head(&mut self, is_tied: bool, vocab_size: usize, d_model: usize) {
        self.prefix.clear();
        if !is_tied {
            self.same(HEAD, &[vocab_size, d_model]);
        }
    }
}

fn transformer(config: &TransformerConfig, list: &mut List) {
    let (d_model, d_ff, head_dim) = (config.d_model, config.d_ff, config.head_dim);
    let (d_q, d_kv) = (config.n_heads * head_dim, config.n_kv_heads * head_dim);
    list.same("embed_tokens.weight", &[config.vocab_size, d_model]);
    for layer in 0..config.n_layers {
        list.prefix = format!("layers.{layer}.");
        list.same("input_layernorm.weight", &[d_model]);
        list.linear("self_attn.q_proj", [d_q, d_model], config.has_qkv_bias);
        list.linear("self_attn.k_proj", [d_kv, d_model], config.has_qkv_bias);
        list.linear("self_attn.v_proj", [d_kv, d_model], config.has_qkv_bias);
        list.linear("self_attn.o_proj", [d_model, d_q], config.has_o_bias);
        if config.has_qk_norm {
            list.same("self_attn.q_norm.weight", &[head_dim]);
            list.same("self_attn.k_norm.weight", &[head_dim]);
        }
        list.same("post_attention_layernorm.weight", &[d_model]);
        list.linear("mlp.gate_proj", [d_ff, d_model], config.has_mlp_bias);
        list.linear("mlp.up_proj", [d_ff, d_model], config.has_mlp_bias);
        list.linear("mlp.down_proj", [d_model, d_ff], config.has_mlp_bias);
    }
    list.prefix.clear();
    list.same("norm.weight", &[d_model]);
    list.head(config.is_tied, config.vocab_size, d_model);
}

fn mamba(config: &MambaConfig, list: &mut List) {
    let (d_model, d_inner, d_state, dt_rank) =
        (config.d_model, config.d_inner, config.d_state, config.dt_rank);
    list.same("embeddings.weight", &[config.vocab_size, d_model]);
    for layer in 0..config.n_layers {
        list.prefix = format!("layers.{layer}.");
        list.same("norm.weight", &[d_model]);
        list.prefix += "mixer.";
        list.linears(
            "in_proj",
            &[("in_proj_x", d_inner), ("in_proj_z", d_inner)],
            d_model,
            config.has_bias,
        );
        list.transposed("conv1d.weight", "conv1d.weight", &[d_inner, 1, config.d_conv]);
        if config.has_conv_bias {
            list.same("conv1d.bias", &[d_inner]);
        }
        list.linears(
            "x_proj",
            &[("x_proj_dt", dt_rank), ("x_proj_bc", 2 * d_state)],
            d_inner,
            false,
        );
        list.linear("dt_proj", [d_inner, dt_rank], true);
        list.transposed("a_log", "A_log", &[d_inner, d_state]);
        list.renamed("d", "D", d_inner);
        list.linear("out_proj", [d_model, d_inner], config.has_bias);
    }
    list.prefix.clear();
    list.same("norm_f.weight", &[d_model]);
    list.head(config.is_tied, config.vocab_size, d_model);
}

fn mamba2(config: &Mamba2Config, list: &mut List) {
    let (d_model, d_inner, n_heads) = (config.d_model, config.d_inner(), config.n_heads);
    let channels = config.conv_channels();
    list.same("embeddings.weight", &[config.vocab_size, d_model]);
    for layer in 0..config.n_layers {
        list.prefix = format!("layers.{layer}.");
        list.same("norm.weight", &[d_model]);
        list.prefix += "mixer.";
        let parts = [("in_proj_z", d_inner), ("in_proj_xbc", channels), ("in_proj_dt", n_heads)];
        list.linears("in_proj", &parts, d_model, config.has_bias);
        list.transposed("conv1d.weight", "conv1d.weight", &[channels, 1, config.d_conv]);
        if config.has_conv_bias {
            list.same("conv1d.bias", &[channels]);
        }
        list.same("dt_bias", &[n_heads]);
        list.renamed("a_log", "A_log", n_heads);
        list.renamed("d", "D", n_heads);
        list.same("norm.weight", &[d_inner]);
        list.linear("out_proj", [d_model, d_inner], config.has_bias);
    }
    list.prefix.clear();
    list.same("norm_f.weight", &[d_model]);
    list.head(config.is_tied, config.vocab_size, d_model);
}
