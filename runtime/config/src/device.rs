//! What `device.toml` says: typed, with every default written out.

use std::path::PathBuf;

use dynamax_governor::{Microjoules, Microseconds, Milliwatts};

use crate::quantity::{Bytes, Microohms};

/// A device's configuration. `docs/device-toml.md` lists every key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeviceConfig {
    /// The board, and how much of it may be used.
    pub device: Device,
    /// Where the model is.
    pub model: Model,
    /// What a token may cost.
    pub budget: Budget,
    /// How tokens may leave early.
    pub exit: Exit,
    /// How power is measured.
    pub power: Power,
    /// How the service is reached.
    pub server: Server,
    /// Which bundles are accepted.
    pub trust: Trust,
}

/// `[device]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// A name of `targets/boards`.
    pub board: String,
    /// What executes the Program.
    pub backend: Backend,
    /// Run on the cpu where the backend cannot run.
    pub fallback: bool,
    /// Threads; `None`: one for each core of the board.
    pub threads: Option<u32>,
    /// Most bytes that a model may take; `None`: what the board has, less what it reserves.
    pub memory: Option<Bytes>,
}

impl Default for Device {
    fn default() -> Self {
        Self {
            board: "generic".to_owned(),
            backend: Backend::Cpu,
            fallback: false,
            threads: None,
            memory: None,
        }
    }
}

/// An executor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Our kernels.
    Cpu,
    /// Burn's CPU backend.
    Flex,
    /// Its predecessor.
    Ndarray,
    /// A GPU.
    Wgpu,
}

impl Backend {
    /// Its name in `device.toml`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Flex => "flex",
            Self::Ndarray => "ndarray",
            Self::Wgpu => "wgpu",
        }
    }
}

/// `[model]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// The folder of the slots A and B.
    pub slots: PathBuf,
    /// Tokens of context to plan for; `None`: what the bundle was built for.
    pub context: Option<u32>,
}

impl Default for Model {
    fn default() -> Self {
        Self { slots: "/var/lib/dynamax".into(), context: None }
    }
}

/// `[budget]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Mean energy of a token over the window.
    pub energy_per_token: Option<Microjoules>,
    /// Deadline of each token.
    pub latency_per_token: Option<Microseconds>,
    /// Tokens over which the mean is kept.
    pub window: u32,
    /// What gives way when not all can be kept, the first first.
    pub sacrifice: [Goal; 3],
}

impl Default for Budget {
    fn default() -> Self {
        let sacrifice = [Goal::Agreement, Goal::Latency, Goal::Energy];
        Self { energy_per_token: None, latency_per_token: None, window: 64, sacrifice }
    }
}

/// One of the three things that a user may want.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Goal {
    /// Tokens that agree with full depth.
    Agreement,
    /// The deadline.
    Latency,
    /// The energy budget.
    Energy,
}

/// `[exit]`
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exit {
    /// Who decides.
    pub mode: ExitMode,
    /// The threshold, where it is fixed.
    pub threshold: Option<f64>,
    /// What happens to the state of layers that were skipped.
    pub state: StatePolicy,
    /// The least share of tokens that agree with full depth.
    pub min_agreement: f64,
    /// Most tokens drafted before they are verified.
    pub draft_length: u32,
}

impl Default for Exit {
    fn default() -> Self {
        Self {
            mode: ExitMode::Budget,
            threshold: None,
            state: StatePolicy::Deferred,
            min_agreement: 0.98,
            draft_length: 8,
        }
    }
}

/// Who decides where a token leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitMode {
    /// Nobody: full depth.
    Off,
    /// A threshold that stays.
    Fixed,
    /// The governor.
    Budget,
    /// The governor, and every token is verified at full depth.
    Verified,
}

/// What happens to the state of layers that a token skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatePolicy {
    /// The previous block's keys and values stand in.
    Copy,
    /// The hidden state goes through the state's projections only.
    Propagate,
    /// It stays as it was.
    Skip,
    /// The layers are caught up together, when a token goes deeper.
    Deferred,
}

/// `[power]`
#[derive(Clone, Debug, PartialEq)]
pub struct Power {
    /// What measures.
    pub meter: Meter,
    /// The rail; `None`: those that make up the board's total.
    pub rail: Option<String>,
    /// The I2C bus of the sensor; `None`: the board's.
    pub bus: Option<PathBuf>,
    /// The sensor's address on the bus, where the board does not say.
    pub address: Option<u32>,
    /// The shunt, where the board does not say.
    pub shunt: Option<Microohms>,
    /// A recording to replay, for the meter `trace`.
    pub trace: Option<PathBuf>,
    /// Time between two samples.
    pub interval: Microseconds,
    /// What the board draws when it does nothing; `None`: measured at start.
    pub idle: Option<Milliwatts>,
    /// What a broken meter does to decoding.
    pub on_meter_fault: OnMeterFault,
    /// A stricter budget for a low battery.
    pub below_battery: Option<BelowBattery>,
}

impl Default for Power {
    fn default() -> Self {
        Self {
            meter: Meter::Auto,
            rail: None,
            bus: None,
            address: None,
            shunt: None,
            trace: None,
            interval: Microseconds(10_000),
            idle: None,
            on_meter_fault: OnMeterFault::Continue,
            below_battery: None,
        }
    }
}

/// What measures power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meter {
    /// The best that is there: the board's sensor, RAPL, a battery; else the model.
    Auto,
    /// The INA3221 of Jetson boards: through the kernel's hwmon, else over I2C.
    Ina3221,
    /// Any sensor that the kernel's hwmon shows.
    Hwmon,
    /// An INA226 over I2C.
    Ina226,
    /// An INA219 over I2C.
    Ina219,
    /// Counters of Intel's and AMD's processors.
    Rapl,
    /// The battery's own gauge.
    Battery,
    /// Joules per byte and per product: an estimate.
    Model,
    /// A recording.
    Trace,
}

impl Meter {
    /// Meters that are chips on a bus.
    #[must_use]
    pub fn is_on_a_bus(self) -> bool {
        matches!(self, Self::Ina3221 | Self::Ina226 | Self::Ina219)
    }
}

/// What a broken meter does to decoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnMeterFault {
    /// It goes on, with the model's energy in place of the meter's.
    Continue,
    /// It stops.
    Stop,
}

/// `[power] below_battery`
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BelowBattery {
    /// Charge below which it holds, of 1.
    pub level: f64,
    /// The budget then.
    pub energy_per_token: Microjoules,
}

/// `[server]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// The Unix socket.
    pub socket: PathBuf,
    /// Address and port for HTTP over TCP; `None`: none.
    pub tcp: Option<String>,
    /// What clients must present.
    pub api_key: Option<String>,
    /// A file with what clients must present.
    pub api_key_file: Option<PathBuf>,
    /// Requests that may wait.
    pub queue: u32,
}

impl Default for Server {
    fn default() -> Self {
        let socket = "/run/dynamax/dynamaxd.sock".into();
        Self { socket, tcp: None, api_key: None, api_key_file: None, queue: 16 }
    }
}

/// `[trust]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Public keys: `ed25519:` and 64 hexadecimal digits, or paths of files that hold one.
    pub keys: Vec<String>,
    /// Whether bundles must be signed by one of the keys; if not given, whether there are keys.
    pub require_signature: bool,
    /// Whether an older bundle may replace a newer one.
    pub allow_downgrade: bool,
}

impl Trust {
    /// True where a bundle may not replace a newer one. Without a signature, nobody vouches for what is older.
    #[must_use]
    pub fn refuses_older(&self) -> bool {
        self.require_signature && !self.allow_downgrade
    }
}
