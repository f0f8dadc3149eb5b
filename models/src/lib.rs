//! Backbones of Dynamax in Burn: their definition, the import of checkpoints, training, and the way into a bundle.

pub mod backbone;
pub mod build;
pub mod calibrate;
pub mod capture;
pub mod checkpoint;
pub mod config;
pub mod exits;
pub mod gguf;
pub mod golden;
pub mod layers;
mod random;
pub mod step;
pub mod train;

pub use checkpoint::load_model;
pub use config::Config;
