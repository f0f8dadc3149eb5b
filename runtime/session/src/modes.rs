//! Power modes: what a board in another one was found to cost, as it costs in the one that it is in.

use std::path::Path;

use dynamax_config::{Board, Mode};
use dynamax_governor::CostModel;
use dynamax_governor::meter::power_mode;

/// Costs in the mode that the board is in now, which `root` (`/` but for tests) tells, from those in the mode `measured_in`; `None` is
/// the fastest, which its data sheet is about. On a board without modes, or in one that its file does not know, they stay.
pub(crate) fn in_mode_of_now(
    root: &Path,
    board: &Board,
    measured_in: Option<u32>,
    costs: &CostModel,
) -> CostModel {
    let fastest = |a: &&Mode, b: &&Mode| a.bandwidth_gb_s.total_cmp(&b.bandwidth_gb_s);
    let of_data_sheet = || board.modes.iter().max_by(fastest).map(|mode| mode.id);
    let change = measured_in
        .or_else(of_data_sheet)
        .zip(power_mode(root))
        .and_then(|(from, to)| board.mode_change(from, to));
    change.map_or(*costs, |(time, energy)| costs.scaled(time, energy))
}

#[cfg(test)]
mod tests {
    use dynamax_governor::{CONTEXT_BUCKETS, Cost, SegmentCost};

    use super::*;

    #[test]
    fn a_slower_mode_takes_longer_and_no_mode_changes_nothing() {
        let root = tempfile::tempdir().unwrap();
        let first_row = [Cost { us: 1000.0, uj: 5000.0 }; CONTEXT_BUCKETS];
        let segment = SegmentCost { first_row, ..SegmentCost::default() };
        let costs = CostModel::new(&[segment; 2], Cost::default()).unwrap();
        let board = Board::named("jetson-orin-nano-8gb").unwrap();
        let now = |measured_in| in_mode_of_now(root.path(), &board, measured_in, &costs);
        assert_eq!(now(Some(0)), costs, "nobody tells the mode");
        std::fs::create_dir_all(root.path().join("var/lib/nvpmodel")).unwrap();
        std::fs::write(root.path().join("var/lib/nvpmodel/status"), "pmode:0001").unwrap();
        // 68 of 45.3 GB/s.
        for measured_in in [Some(0), None] {
            let us = now(measured_in).full(0).us;
            assert!((us - 2000.0 * 68.0 / 45.3).abs() < 1.0, "{measured_in:?}: {us}");
        }
        assert_eq!(now(Some(1)), costs, "measured in this mode");
        assert_eq!(now(Some(9)), costs, "a mode that the board does not have");
    }
}
