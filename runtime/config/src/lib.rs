//! `device.toml`, and the boards that are known by name.
//!
//! A file is read in three steps: its syntax, every key with its type and range ([`DeviceConfig::from_text`] takes both),
//! then what keys say together. The first fault is refused in one sentence that names file, line and key, what was found, what
//! was expected and what to do. A key that is not known is refused with the nearest that is; a quantity needs its unit.
//!
//! ```
//! let text = "[budget]\nenergy_per_token = 900\n";
//! let error = dynamax_config::DeviceConfig::from_text("device.toml", text).unwrap_err();
//! assert_eq!(
//!     error.to_string(),
//!     "device.toml, line 2: [budget] energy_per_token is 900, a number without a unit: write it like \"900 mJ\""
//! );
//! ```
//!
//! Nothing here opens a device or a bundle: that a rail or a slot is really there is seen when it is used.
#![forbid(unsafe_code)]

mod board;
mod bridge;
mod check;
mod device;
mod document;
mod error;
mod keys;
mod nearest;
mod parse;
mod profile;
mod quantity;

pub use board::{Board, Isa, Mode, Rail};
pub use device::{
    Backend, BelowBattery, Budget, Device, DeviceConfig, Exit, ExitMode, Goal, Meter, Model,
    OnMeterFault, Power, Server, StatePolicy, Trust,
};
pub use error::{ConfigError, Kind};
pub use keys::{KEYS, Key, reference};
pub use nearest::nearest;
pub use profile::{Profile, Spread};
pub use quantity::{Bytes, Microohms, QuantityError, energy, power, show_bytes, time};
