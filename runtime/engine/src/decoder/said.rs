//! What was said of the newest token: looked at once, wherever it is.

use bytemuck::cast_slice;
use dynamax_bundle::TensorId;

use super::Decoder;
use crate::arena::bytes_mut;

/// What is known of the newest logits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heard {
    /// The first id with the largest of them.
    best: Option<u32>,
    /// They have been copied from a device.
    are_here: bool,
}

impl Decoder<'_> {
    /// The newest logits, `[vocab_size]`.
    #[must_use]
    pub fn logits(&mut self) -> &[f32] {
        let (tensor, row) = self.said;
        if self.heard.are_here {
            return cast_slice(self.copied(tensor));
        }
        self.heard.are_here = self.crew.device().is_some();
        self.read_row(tensor, row)
    }

    /// The first id with the largest of the newest logits. A device says it without showing them.
    #[must_use]
    pub fn best(&mut self) -> u32 {
        let (tensor, row) = self.said;
        let best = self.heard.best.unwrap_or_else(|| self.argmax(tensor, row));
        self.heard.best = Some(best);
        best
    }

    /// Waits until all that was fed is done: a device may only have noted it.
    pub fn wait(&self) {
        if let Some(device) = self.crew.device() {
            device.wait();
        }
    }

    /// From now on the newest logits are these.
    pub(super) fn say(&mut self, tensor: TensorId, row: usize) {
        self.said = (tensor, row);
        self.heard = Heard::default();
    }

    pub(super) fn argmax(&mut self, tensor: TensorId, row: usize) -> u32 {
        let width = self.model.grid(tensor).width;
        match self.crew.device() {
            Some(device) => device.argmax(tensor, row, width),
            None => self.isa.argmax(self.read_row(tensor, row)) as u32,
        }
    }

    pub(super) fn read_row(&mut self, tensor: TensorId, row: usize) -> &[f32] {
        let grid = self.model.grid(tensor);
        if let Some(device) = self.crew.device() {
            let bytes = self.copied(tensor);
            device.read(tensor, row, bytemuck::cast_slice_mut(bytes));
            return cast_slice(bytes);
        }
        let start = grid.offset + row * grid.stride * size_of::<f32>();
        let bytes = &bytes_mut(self.memory)[start..][..grid.width * size_of::<f32>()];
        cast_slice(bytes)
    }

    /// Where a row of `tensor` is copied to from a device.
    fn copied(&mut self, tensor: TensorId) -> &mut [u8] {
        let width = self.model.grid(tensor).width;
        &mut bytes_mut(self.memory)[..width * size_of::<f32>()]
    }
}
