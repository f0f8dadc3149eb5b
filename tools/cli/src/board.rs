//! `--board NAME`.

use anyhow::{Context, Result};
use dynamax_config::Board;

/// The board of this name.
pub(crate) fn named(name: &str) -> Result<Board> {
    Board::named(name).map_err(|problem| anyhow::anyhow!("--board {problem}"))
}

/// Bytes that a model may take on it.
pub(crate) fn usable_bytes(board: &Board) -> Result<u64> {
    board.usable_bytes().with_context(|| {
        format!("--board: the memory of \"{}\" is not known: give --memory instead", board.name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_board_is_refused_with_the_known_ones() {
        let error = named("toaster").unwrap_err().to_string();
        assert!(error.contains("jetson-orin-nano-8gb"), "{error}");
    }

    #[test]
    fn a_board_without_memory_asks_for_it() {
        let error = usable_bytes(&named("generic").unwrap()).unwrap_err().to_string();
        assert!(error.contains("--memory"), "{error}");
    }
}
