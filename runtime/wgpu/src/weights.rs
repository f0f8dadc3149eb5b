//! Weights on the GPU: as they are stored, cut where a binding cannot hold one.

use dynamax_bundle::{Kind, Layout, TensorId};
use dynamax_engine::{Model, memory};
use dynamax_kernels::format::PANEL;

use crate::gpu::{Gpu, Unavailable};
use crate::plan::is_read;

/// Some panels of a matrix, or a whole plain weight.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) buffer: wgpu::Buffer,
    pub(crate) first_panel: usize,
    pub(crate) panels: usize,
}

/// Puts each weight that a kernel reads on the GPU. Tables that tokens are looked up in stay where they are mapped.
pub(crate) fn upload(gpu: &Gpu, model: &Model<'_>) -> Result<Vec<Vec<Piece>>, Unavailable> {
    let program = model.program();
    let ids = (0..program.tensors.len()).map(|index| TensorId(index as u16));
    ids.map(|id| match program.tensor(id).kind {
        Kind::Weight { layout, .. } if is_read(model, id) => pieces(gpu, model, id, layout),
        _ => Ok(Vec::new()),
    })
    .collect()
}

fn pieces(
    gpu: &Gpu,
    model: &Model<'_>,
    id: TensorId,
    layout: Layout,
) -> Result<Vec<Piece>, Unavailable> {
    let (bytes, tensor) = (model.weight(id), model.program().tensor(id));
    if layout == Layout::Plain {
        let buffer = gpu.filled("a weight", bytes)?;
        return Ok(vec![Piece { buffer, first_panel: 0, panels: 0 }]);
    }
    let panels = model.rows_of(id).div_ceil(PANEL);
    let panel_bytes = memory::format(tensor.dtype).panel_bytes(tensor.width as usize);
    let panel_bytes = panel_bytes.unwrap_or_else(|| unreachable!("the bundle was checked"));
    let at_once = (gpu.binding_bytes as usize / panel_bytes).clamp(1, MOST_GROUPS);
    let piece = |first_panel: usize| {
        let panels = at_once.min(panels - first_panel);
        let bytes = &bytes[first_panel * panel_bytes..][..panels * panel_bytes];
        Ok(Piece { buffer: gpu.filled("a weight", bytes)?, first_panel, panels })
    };
    (0..panels).step_by(at_once).map(piece).collect()
}

/// Work groups that every adapter starts at once, in one dimension.
const MOST_GROUPS: usize = 65_535;
