//! The check of a plan: shares no code with the planners, so that a mistake in one is not repeated here.
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    clippy::expect_used
)]

use crate::{Buffer, PlanError};

/// Checks that every buffer lies inside the arena, and that no two buffers live in one step share a byte.
///
/// Looks at each pair: `O(n²)`, without memory.
///
/// # Errors
///
/// - [`PlanError::OffsetCount`] if there is not one offset for each buffer;
/// - [`PlanError::OutsideArena`] if `offset + size > arena_bytes`, for the first such buffer, live or not;
/// - [`PlanError::Overlap`] for the first pair that shares a byte in a step.
pub fn verify(buffers: &[Buffer], offsets: &[u64], arena_bytes: u64) -> Result<(), PlanError> {
    if buffers.len() != offsets.len() {
        return Err(PlanError::OffsetCount { need: buffers.len(), have: offsets.len() });
    }
    for (index, (buffer, &offset)) in buffers.iter().zip(offsets).enumerate() {
        let fits = offset.checked_add(buffer.size).is_some_and(|end| end <= arena_bytes);
        if !fits {
            let need = offset.saturating_add(buffer.size);
            return Err(PlanError::OutsideArena { buffer: index, need, have: arena_bytes });
        }
    }
    let mut later = buffers.iter().zip(offsets).enumerate();
    while let Some((first, (a, &a_offset))) = later.next() {
        for (second, (b, &b_offset)) in later.clone() {
            // Both ends fit into a u64: they were compared with the arena above.
            let step = a.lower.max(b.lower);
            let byte = a_offset.max(b_offset);
            let in_time = step < a.upper.min(b.upper);
            let in_space =
                byte < a_offset.saturating_add(a.size).min(b_offset.saturating_add(b.size));
            if in_time && in_space {
                return Err(PlanError::Overlap { first, second, step, byte });
            }
        }
    }
    Ok(())
}
