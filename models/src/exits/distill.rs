//! Training of exits for a model that is not touched: distillation from its own full depth.
//!
//! ```text
//! tokens ─▶ frozen backbone ─▶ residual stream after each exit's layer ─▶ adapter ─▶ final norm, head ─▶ best token
//!                └▶ full depth: the oracle                     └─▶ classifier ─▶ score                     │
//!                                                                       ▲                                  ▼
//!                                          label: is it among the oracle's k best? ◀───────────────────────┘
//! ```
//!
//! As in DYNAMAX: labels relaxed by `k`, classes balanced, and weights of exits that decay linearly with their place.
//! Every batch passes the backbone once, for all exits; nothing of it is kept.

mod recipe;
mod run;

pub use recipe::{DistillRecipe, read_recipe};
pub use run::{DistillRun, DistillStep};
