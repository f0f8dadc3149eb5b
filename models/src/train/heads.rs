//! Everything behind the final norm, for full depth and every exit at once: logits, losses, and their gradients by
//! hand.
//!
//! ```text
//! normed rows ─▶ logits ─▶ p = softmax ─▶ gradient of the loss, in place of the logits ─▶ gradient of rows and of head
//! ```
//!
//! Logits are the largest thing in a small model. They live for one block of rows here, and Burn's graph never sees
//! them: it is told the gradient of its last tensors ([`HeadOutput`]).

use burn::tensor::{Tensor, TensorData};

use super::softmax::{dot, exponentials, top};

/// Rows whose logits live at the same time.
const BLOCK: usize = 256;

/// Rows that are projected to logits.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    /// Behind the final norm, not tracked, `[rows, d_model]`.
    pub(crate) rows: Tensor<2>,
    /// Weight of `-log p(next token)` in the loss.
    pub(crate) text: f32,
    /// Weight of the divergence from the first stream, which is not moved by it.
    pub(crate) teacher: f32,
}

impl Stream {
    fn is_trained(&self) -> bool {
        self.text != 0.0 || self.teacher != 0.0
    }
}

/// What all streams share.
#[derive(Debug)]
pub(crate) struct Heads<'h> {
    /// `[vocab_size, d_model]`, not tracked.
    pub(crate) head: Tensor<2>,
    /// The token that follows each row.
    pub(crate) targets: &'h [i32],
    /// A stream's best token is a good one if it is among this many best of the first stream.
    pub(crate) top_k: usize,
    /// The head is trained, too.
    pub(crate) is_trained: bool,
}

/// What came of all streams.
#[derive(Debug)]
pub(crate) struct HeadOutput {
    /// One for each stream.
    pub(crate) streams: Vec<StreamOutput>,
    /// Gradient of the sum of all losses by the head, `[vocab_size, d_model]`.
    pub(crate) head: Tensor<2>,
}

/// What came of a stream.
#[derive(Debug)]
pub(crate) struct StreamOutput {
    /// The mean of `-log p(next token)`.
    pub(crate) loss: f64,
    /// The mean divergence from the first stream, `Σ p log(p / q)`.
    pub(crate) divergence: f64,
    /// Is the best token that of the first stream? One for each row.
    pub(crate) agrees: Vec<bool>,
    /// Is the best token among the `top_k` of the first stream? One for each row.
    pub(crate) is_good: Vec<bool>,
    /// Gradient of the weighted loss by the rows, `[rows, d_model]`, if there is a weight.
    pub(crate) gradient: Option<Tensor<2>>,
}

impl StreamOutput {
    /// The share of rows whose best token is that of the first stream.
    pub(crate) fn agreement(&self) -> f64 {
        share(&self.agrees)
    }
}

/// The share of `true`.
pub(crate) fn share(flags: &[bool]) -> f64 {
    flags.iter().filter(|flag| **flag).count() as f64 / flags.len().max(1) as f64
}

/// The first stream, row by row, as the others are compared with it.
struct Oracle {
    /// `softmax(scores)`, `[rows, vocab_size]`.
    p: Vec<f32>,
    tops: Vec<usize>,
    /// `log Σ exp(score)`.
    log_sums: Vec<f32>,
    /// `Σ p log p`.
    entropies: Vec<f32>,
}

impl Heads<'_> {
    /// Runs the head over every stream; the first is full depth.
    pub(crate) fn run(&self, streams: &[Stream]) -> HeadOutput {
        let rows = self.targets.len();
        let empty = |_: &Stream| StreamOutput {
            loss: 0.0,
            divergence: 0.0,
            agrees: Vec::with_capacity(rows),
            is_good: Vec::with_capacity(rows),
            gradient: None,
        };
        let mut outputs: Vec<StreamOutput> = streams.iter().map(empty).collect();
        let mut gradients: Vec<Vec<Tensor<2>>> = vec![Vec::new(); streams.len()];
        let mut head = self.head.zeros_like();
        for start in (0..rows).step_by(BLOCK) {
            let len = BLOCK.min(rows - start);
            let mut oracle = None;
            for (index, stream) in streams.iter().enumerate() {
                let x = stream.rows.clone().narrow(0, start, len);
                let scores = numbers(x.clone().matmul(self.head.clone().transpose()));
                let block = Block { heads: self, stream, rows: start..start + len };
                let gradient = block.run(scores, &mut oracle, &mut outputs[index]);
                if stream.is_trained() {
                    let shape = [len, self.head.dims()[0]];
                    let gradient =
                        Tensor::<2>::from_data(TensorData::new(gradient, shape), &x.device());
                    if self.is_trained {
                        head = head + gradient.clone().transpose().matmul(x);
                    }
                    gradients[index].push(gradient.matmul(self.head.clone()));
                }
            }
        }
        for (output, gradients) in outputs.iter_mut().zip(gradients) {
            output.loss /= rows as f64;
            output.divergence /= rows as f64;
            output.gradient = (!gradients.is_empty()).then(|| Tensor::cat(gradients, 0));
        }
        HeadOutput { streams: outputs, head }
    }
}

/// Some rows of one stream.
struct Block<'b> {
    heads: &'b Heads<'b>,
    stream: &'b Stream,
    rows: core::ops::Range<usize>,
}

impl Block<'_> {
    /// Turns logits into gradients of the mean over all rows; the first stream of a block becomes the oracle.
    fn run(
        &self,
        mut scores: Vec<f32>,
        oracle: &mut Option<Oracle>,
        output: &mut StreamOutput,
    ) -> Vec<f32> {
        let vocab_size = scores.len() / self.rows.len();
        let targets = &self.heads.targets[self.rows.clone()];
        let Some(oracle) = oracle else {
            let made = Oracle::new(&scores, vocab_size);
            for (row, target) in targets.iter().enumerate() {
                let wanted = scores[row * vocab_size + *target as usize];
                output.loss += f64::from(made.log_sums[row] - wanted);
                output.agrees.push(true);
                output.is_good.push(true);
            }
            if self.stream.is_trained() {
                let scale = self.stream.text / self.heads.targets.len() as f32;
                scores.iter_mut().zip(&made.p).for_each(|(score, p)| *score = scale * p);
                for (row, target) in targets.iter().enumerate() {
                    scores[row * vocab_size + *target as usize] -= scale;
                }
            }
            *oracle = Some(made);
            return scores;
        };
        for (row, (scores, target)) in scores.chunks_exact_mut(vocab_size).zip(targets).enumerate()
        {
            self.row(oracle, row, scores, *target as usize, output);
        }
        scores
    }

    /// One row of an exit: `g = (text · (q - target) + teacher · (q - p)) / rows`.
    fn row(
        &self,
        oracle: &Oracle,
        row: usize,
        scores: &mut [f32],
        target: usize,
        output: &mut StreamOutput,
    ) {
        let vocab_size = scores.len();
        let range = row * vocab_size..(row + 1) * vocab_size;
        let p = &oracle.p[range.clone()];
        let best = top(scores);
        output.agrees.push(best == oracle.tops[row]);
        output
            .is_good
            .push(best == oracle.tops[row] || oracle.is_among(range, best, self.heads.top_k));
        let (max, wanted, mean) = (scores[best], scores[target], dot(p, scores));
        let sum = exponentials(scores, best, 1.0);
        let log_sum = max + sum.ln();
        output.loss += f64::from(log_sum - wanted);
        output.divergence += f64::from(oracle.entropies[row] - mean + log_sum);
        if self.stream.is_trained() {
            let scale = 1.0 / self.heads.targets.len() as f32;
            let (text, teacher) = (scale * self.stream.text, scale * self.stream.teacher);
            let own = (text + teacher) / sum;
            for (score, p) in scores.iter_mut().zip(p) {
                *score = own * *score - teacher * p;
            }
            scores[target] -= text;
        }
    }
}

impl Oracle {
    fn new(scores: &[f32], vocab_size: usize) -> Self {
        let mut p = scores.to_vec();
        let (mut tops, mut log_sums, mut entropies) = (Vec::new(), Vec::new(), Vec::new());
        for (p, scores) in p.chunks_exact_mut(vocab_size).zip(scores.chunks_exact(vocab_size)) {
            let best = top(p);
            let sum = exponentials(p, best, 1.0);
            let share = sum.recip();
            p.iter_mut().for_each(|p| *p *= share);
            tops.push(best);
            let log_sum = scores[best] + sum.ln();
            log_sums.push(log_sum);
            entropies.push(dot(p, scores) - log_sum);
        }
        Self { p, tops, log_sums, entropies }
    }

    /// Is `token` among the `top_k` best of a row? Probabilities order tokens as scores do.
    fn is_among(&self, row: core::ops::Range<usize>, token: usize, top_k: usize) -> bool {
        if top_k <= 1 {
            return false;
        }
        let p = &self.p[row];
        p.iter().filter(|other| **other > p[token]).count() < top_k
    }
}

/// The numbers of a tensor, not copied if nobody else has it.
pub(crate) fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let data = tensor.into_data();
    data.try_into_vec::<f32>().unwrap_or_else(|error| panic!("floats are f32: {error:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::activation::log_softmax;
    use burn::tensor::{Device, Distribution, Int};

    const TEXT: f32 = 0.3;
    const TEACHER: f32 = 0.7;

    /// The same losses through Burn's graph, row by row: of full depth and of one exit.
    fn by_burn(x: &[Tensor<2>; 2], head: &Tensor<2>, targets: &[i32]) -> [Tensor<2>; 3] {
        let log_p = x.clone().map(|x| log_softmax(x.matmul(head.clone().transpose()), 1));
        let rows = targets.len();
        let targets = TensorData::new(targets.to_vec(), [rows, 1]);
        let targets = Tensor::<2, Int>::from_data(targets, &head.device());
        let [full, exit] = log_p.clone().map(|log_p| log_p.gather(1, targets.clone()).neg());
        let [log_p, log_q] = log_p;
        let log_p = log_p.detach();
        let divergence = (log_p.clone().exp() * (log_p - log_q)).sum_dim(1);
        [full, exit, divergence]
    }

    fn near(found: Tensor<2>, expected: Tensor<2>, what: &str) {
        let worst: f32 = (found - expected).abs().max().into_scalar();
        assert!(worst < 1e-6, "{what}: {worst}");
    }

    #[test]
    fn losses_and_gradients_are_those_of_burn() {
        let device = Device::flex().autodiff();
        // More rows than a block, and an odd vocabulary.
        let (rows, vocab_size, d_model) = (BLOCK + 3, 37, 8);
        let random = |rows| {
            let noise = Distribution::Normal(0.0, 1.0);
            Tensor::<2>::random([rows, d_model], noise, &device).require_grad()
        };
        let (x, head) = ([random(rows), random(rows)], random(vocab_size));
        let targets: Vec<i32> = (0..rows as i32).map(|row| row * 5 % vocab_size as i32).collect();
        let losses = by_burn(&x, &head, &targets);
        let [full, exit, divergence] = losses.clone().map(Tensor::mean);
        let gradients = (full + exit * TEXT + divergence * TEACHER).backward();

        let stream =
            |x: &Tensor<2>, text, teacher| Stream { rows: x.clone().inner(), text, teacher };
        let streams = [stream(&x[0], 1.0, 0.0), stream(&x[1], TEXT, TEACHER)];
        let plain = head.clone().inner();
        let heads = Heads { head: plain, targets: &targets, top_k: 1, is_trained: true };
        let output = heads.run(&streams);
        let found = [output.streams[0].loss, output.streams[1].loss, output.streams[1].divergence];
        for (found, expected) in found.into_iter().zip(losses) {
            // Burn's own mean of so many is off by more than the limit.
            let expected = expected.into_data().iter::<f64>().sum::<f64>() / rows as f64;
            assert!((found - expected).abs() < 1e-5, "{found}, expected {expected}");
        }
        near(output.head, head.grad(&gradients).unwrap(), "head");
        for (x, stream) in x.iter().zip(output.streams) {
            near(stream.gradient.unwrap(), x.grad(&gradients).unwrap(), "rows");
        }
    }

    #[test]
    fn a_good_token_is_among_the_best_of_full_depth() {
        let device = Device::flex();
        let table = |numbers: [[f32; 4]; 2]| Tensor::<2>::from_data(numbers, &device);
        // The head is the identity: rows are their own logits.
        let head = Tensor::eye(4, &device);
        let full = table([[4.0, 3.0, 2.0, 1.0], [4.0, 3.0, 2.0, 1.0]]);
        let exit = table([[0.0, 9.0, 0.0, 0.0], [0.0, 0.0, 9.0, 0.0]]);
        let streams = [full, exit].map(|rows| Stream { rows, text: 0.0, teacher: 0.0 });
        let heads =
            |top_k| Heads { head: head.clone(), targets: &[0, 0], top_k, is_trained: false };
        for (top_k, expected) in [(1, [false, false]), (2, [true, false]), (3, [true, true])] {
            let exit = &heads(top_k).run(&streams).streams[1];
            assert_eq!(exit.is_good, expected, "among the {top_k} best");
            assert_eq!(exit.agrees, [false, false], "none is the best");
            assert!(exit.gradient.is_none(), "nothing is trained");
        }
    }
}
