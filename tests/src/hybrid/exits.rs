//! Exits of the models: one of each classifier.

use dynamax_bundle::{Activation, Classifier, Exit, Op, Rows, TensorId};

use super::{D_MODEL, Model};

impl Model {
    fn score(&mut self, x: TensorId) -> TensorId {
        let weight = self.matrix(2, self.tensors[x.index()].width);
        let bias = Some(self.vector(2, 0.0, 0.1));
        self.activation(Rows::Fixed(1), 2, |out| Op::Linear { x, weight, bias, out })
    }

    /// One layer decides.
    pub(super) fn calm_exit(&mut self, segment: usize, norm: TensorId, table: TensorId) {
        let (first_op, residual) = (self.ops.len() as u16, self.segments[segment].residual);
        let x = self.select(residual, D_MODEL);
        let score = self.score(x);
        self.exit(Classifier::Calm, first_op, score, norm, table);
    }

    /// A feed-forward block decides.
    pub(super) fn ffn_exit(&mut self, segment: usize, norm: TensorId, table: TensorId) {
        let (first_op, residual) = (self.ops.len() as u16, self.segments[segment].residual);
        let x = self.select(residual, D_MODEL);
        let weight = self.matrix(20, D_MODEL);
        let (bias, rows) = (None, Rows::Fixed(1));
        let x = self.activation(rows, 20, |out| Op::Linear { x, weight, bias, out });
        let x = self.activation(rows, 20, |out| Op::Silu { x, out });
        let score = self.score(x);
        self.exit(Classifier::Ffn, first_op, score, norm, table);
    }

    /// A Mamba block decides, which hears every token.
    pub(super) fn mamba_exit(&mut self, segment: usize, norm: TensorId, table: TensorId) {
        let (first_op, residual) = (self.ops.len() as u16, self.segments[segment].residual);
        let u = self.linear(residual, 18, false);
        let u = self.conv(u, 18, Activation::Silu);
        let (bc, dt) = (self.linear(u, 6, false), self.linear(u, 18, true));
        let (a, d) = (self.plain(3, 18, -1.5, 1.0), self.vector(18, 1.0, 0.2));
        let state = self.state(3, 18);
        let y = self.op(18, |out| Op::SelectiveScan { x: u, dt, bc, a, d, state, out });
        let y = self.select(y, 18);
        let score = self.score(y);
        self.exit(Classifier::Mamba, first_op, score, norm, table);
    }

    fn exit(
        &mut self,
        classifier: Classifier,
        first_op: u16,
        score: TensorId,
        norm: TensorId,
        table: TensorId,
    ) {
        let (segment, probe_end) = (self.exits.len() as u16, self.ops.len() as u16);
        let residual = self.segments[usize::from(segment)].residual;
        let logits = self.head(residual, norm, table);
        let end_op = self.ops.len() as u16;
        let exit = Exit { segment, classifier, first_op, probe_end, end_op, score, logits };
        self.exits.push(exit);
    }
}
