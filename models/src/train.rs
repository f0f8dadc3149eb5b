//! Training from nothing, on plain text: a tokenizer, a backbone, and a directory that `dynamax build` takes.
//!
//! ```text
//! texts ─▶ tokenizer ─▶ corpus ─▶ batches ─┐
//!                                          ├─▶ loss ─▶ gradients ─▶ AdamW ─▶ checkpoint, model
//! recipe ─▶ backbone ──────────────────────┘
//! ```
//!
//! Meant for models of a few million parameters on a workstation's CPU: big enough to speak, small enough to make in
//! an hour. It refuses nothing bigger, but knows neither several machines nor half precision.

pub mod adamw;
pub mod batches;
pub mod corpus;
mod directory;
mod error;
pub(crate) mod heads;
mod joint;
mod limit;
pub mod loss;
pub mod parameters;
mod recipe;
mod run;
mod schedule;
mod softmax;
pub mod state;
pub mod tokenizer;

pub use directory::read_recipe;
pub(crate) use directory::read_run;
pub use error::TrainError;
pub use joint::ExitLosses;
pub use limit::Limit;
pub use recipe::{Architecture, ExitsRecipe, Recipe};
pub use run::{Run, Step};
pub use schedule::Schedule;

#[cfg(test)]
pub(crate) use recipe::tests::toy;
