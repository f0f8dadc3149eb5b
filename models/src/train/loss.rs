//! How surprised a model is.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor};

use super::batches::Batch;
use crate::backbone::Backbone;

/// The mean of `-log p(next token)`, in nats: cross-entropy.
///
/// # Shapes
///
/// - `logits`: `[batch, seq, vocab_size]`
/// - `targets`: `[batch · seq]`
#[must_use]
pub fn cross_entropy(logits: Tensor<3>, targets: Tensor<1, Int>) -> Tensor<1> {
    let [batch, seq, vocab_size] = logits.dims();
    let log_p = log_softmax(logits.reshape([batch * seq, vocab_size]), 1);
    log_p.gather(1, targets.reshape([batch * seq, 1])).mean().neg()
}

/// The mean loss over `tokens`, in sequences of `seq_len`, at most `sequences` of them spread over all.
#[must_use]
pub fn held_out_loss(
    model: &Backbone,
    tokens: &[u32],
    seq_len: usize,
    sequences: usize,
    device: &Device,
) -> f64 {
    let starts = spread(tokens.len(), seq_len, sequences);
    let loss = |starts: &[usize]| {
        let batch = Batch::cut(tokens, starts, seq_len);
        let loss = cross_entropy(model.forward(batch.inputs(device)), batch.targets(device));
        f64::from(loss.into_scalar::<f32>()) * starts.len() as f64
    };
    starts.chunks(EVALUATION_BATCH).map(loss).sum::<f64>() / starts.len() as f64
}

/// Where at most `sequences` sequences of `seq_len` tokens start, spread over `tokens` of them.
pub(crate) fn spread(tokens: usize, seq_len: usize, sequences: usize) -> Vec<usize> {
    let windows = (tokens - 1) / seq_len;
    let count = sequences.clamp(1, windows.max(1)).min(windows);
    (0..count).map(|index| index * windows / count * seq_len).collect()
}

/// Sequences evaluated together.
const EVALUATION_BATCH: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::recipe::{Architecture, tests::toy};

    #[test]
    fn equal_scores_surprise_by_the_logarithm_of_their_number() {
        let device = Device::flex();
        let loss = cross_entropy(Tensor::zeros([2, 3, 8], &device), Tensor::zeros([6], &device));
        assert!((loss.into_scalar::<f32>() - 8_f32.ln()).abs() < 1e-6, "ln 8");
    }

    #[test]
    fn an_untrained_model_knows_nothing() {
        let device = Device::flex();
        let model = Backbone::new(&toy(Architecture::Mamba2).config(280, 0), &device);
        let tokens: Vec<u32> = (0..100).map(|i| i * 7 % 280).collect();
        let loss = held_out_loss(&model, &tokens, 16, usize::MAX, &device);
        assert!((loss - 280_f64.ln()).abs() < 0.5, "{loss} is near ln 280");
    }
}
