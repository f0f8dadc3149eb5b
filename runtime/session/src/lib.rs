//! From the file of a bundle to a decoder that is ready, with text on both sides: what the desk and the board share.
//!
//! ```text
//! Source ─▶ Session (checked, planned, threads) ─▶ Decoder
//! Generator: a prompt in, tokens out, one by one, each as deep as Depth says
//! Text: text ⇄ tokens                 Chat: messages ─▶ the text that a model was trained on
//! ```
//!
//! What it refuses to do: parse flags, print, or know how a token is asked for.

pub mod budget;
pub mod chat;
pub mod course;
pub mod depth;
pub mod generator;
pub mod keys;
pub mod machine;
pub mod metering;
mod modes;
mod probabilities;
pub mod profiles;
pub mod rounds;
mod session;
mod source;
mod stops;
pub mod surroundings;
mod text;
pub mod traffic;
mod verified;

pub use budget::Budget;
pub use chat::{Chat, Message, Role};
pub use depth::Depth;
pub use generator::Generator;
pub use metering::Metering;
pub use rounds::Rounds;
pub use session::{Contents, Options, Session, settings};
pub use source::{Aligned, Source};
pub use stops::Stops;
pub use surroundings::Surroundings;
pub use text::{Text, TextStream};
