//! From text to [`DeviceConfig`]: names, types, units, ranges. What keys say together is in `check`.

use std::path::{Path, PathBuf};

use dynamax_governor::{Microjoules, Microseconds};

use crate::check;
use crate::device::{
    Backend, BelowBattery, Budget, Device, DeviceConfig, Exit, ExitMode, Goal, Meter, Model,
    OnMeterFault, Power, Server, StatePolicy, Trust,
};
use crate::document::{Document, Section};
use crate::error::{ConfigError, Kind};
use crate::keys;
use crate::quantity::{Bytes, QuantityError, energy, power, time};

const BACKENDS: &[(&str, Backend)] = &[
    ("cpu", Backend::Cpu),
    ("flex", Backend::Flex),
    ("ndarray", Backend::Ndarray),
    ("wgpu", Backend::Wgpu),
];
const GOALS: &[(&str, Goal)] =
    &[("agreement", Goal::Agreement), ("latency", Goal::Latency), ("energy", Goal::Energy)];
const MODES: &[(&str, ExitMode)] = &[
    ("off", ExitMode::Off),
    ("fixed", ExitMode::Fixed),
    ("budget", ExitMode::Budget),
    ("verified", ExitMode::Verified),
];
const POLICIES: &[(&str, StatePolicy)] = &[
    ("copy", StatePolicy::Copy),
    ("propagate", StatePolicy::Propagate),
    ("skip", StatePolicy::Skip),
    ("deferred", StatePolicy::Deferred),
];
const METERS: &[(&str, Meter)] = &[
    ("auto", Meter::Auto),
    ("ina3221", Meter::Ina3221),
    ("hwmon", Meter::Hwmon),
    ("ina226", Meter::Ina226),
    ("ina219", Meter::Ina219),
    ("rapl", Meter::Rapl),
    ("battery", Meter::Battery),
    ("model", Meter::Model),
    ("trace", Meter::Trace),
];
const ON_FAULT: &[(&str, OnMeterFault)] =
    &[("continue", OnMeterFault::Continue), ("stop", OnMeterFault::Stop)];

impl DeviceConfig {
    /// Reads the file at `path`.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or that [`Self::from_text`] refuses.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let file = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::from_text(&file, &text),
            Err(error) => {
                let problem =
                    format!("the file cannot be read ({error}): give the path of a device.toml");
                Err(ConfigError { kind: Kind::File, file, line: None, key: String::new(), problem })
            }
        }
    }

    /// Reads text; `file` is what errors call it.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong with it.
    pub fn from_text(file: &str, text: &str) -> Result<Self, ConfigError> {
        let document = Document::parse(file, text)?;
        document.only(&keys::sections()).map_err(told_where)?;
        let section = |name| {
            let section = document.section(name)?;
            section.only(&keys::of(name)).map_err(told_where)?;
            Ok::<_, ConfigError>(section)
        };
        let config = Self {
            device: device(section("device")?)?,
            model: model(section("model")?)?,
            budget: budget(section("budget")?)?,
            exit: exit(section("exit")?)?,
            power: power_section(section("power")?)?,
            server: server(section("server")?)?,
            trust: trust(section("trust")?)?,
        };
        check::relations(&config, &document)?;
        Ok(config)
    }
}

/// A key that stands in the wrong section is known in another.
fn told_where(error: ConfigError) -> ConfigError {
    let name = error.key.rsplit(' ').next().unwrap_or_default();
    let Some(home) = keys::section_of(name) else { return error };
    let problem = format!("is a key of [{home}]: write it below that line");
    ConfigError { problem, ..error }
}

fn device(section: Section<'_>) -> Result<Device, ConfigError> {
    let default = Device::default();
    Ok(Device {
        board: section.text("board")?.map_or(default.board, str::to_owned),
        backend: section.choice("backend", BACKENDS)?.unwrap_or(default.backend),
        fallback: section.flag("fallback")?.unwrap_or(default.fallback),
        threads: section.integer("threads", 1..=256)?.or(default.threads),
        memory: section.quantity("memory", Bytes::with_unit)?.or(default.memory),
    })
}

fn model(section: Section<'_>) -> Result<Model, ConfigError> {
    let default = Model::default();
    Ok(Model {
        slots: path(section, "slots")?.unwrap_or(default.slots),
        context: section.integer("context", 1..=1 << 24)?.or(default.context),
    })
}

fn budget(section: Section<'_>) -> Result<Budget, ConfigError> {
    let default = Budget::default();
    Ok(Budget {
        energy_per_token: section
            .quantity("energy_per_token", some_energy)?
            .or(default.energy_per_token),
        latency_per_token: section
            .quantity("latency_per_token", some_time)?
            .or(default.latency_per_token),
        window: section.integer("window", 8..=1024)?.unwrap_or(default.window),
        sacrifice: sacrifice(section)?.unwrap_or(default.sacrifice),
    })
}

/// All three goals, each once.
fn sacrifice(section: Section<'_>) -> Result<Option<[Goal; 3]>, ConfigError> {
    let Some(names) = section.texts("sacrifice")? else { return Ok(None) };
    let goals = names
        .iter()
        .map(|name| section.chosen("sacrifice", name, GOALS))
        .collect::<Result<Vec<_>, _>>()?;
    let order = <[Goal; 3]>::try_from(goals.as_slice()).ok();
    match order.filter(|_| crate::document::twice(goals).is_none()) {
        Some(order) => Ok(Some(order)),
        None => {
            let problem = format!(
                "is {names:?}: all of \"agreement\", \"latency\" and \"energy\" are expected, each once, the first to \
                 give way first"
            );
            Err(section.refusal(Kind::Value, "sacrifice", problem))
        }
    }
}

fn exit(section: Section<'_>) -> Result<Exit, ConfigError> {
    let default = Exit::default();
    Ok(Exit {
        mode: section.choice("mode", MODES)?.unwrap_or(default.mode),
        threshold: section.number("threshold", 0.0..=1.0)?.or(default.threshold),
        state: section.choice("state", POLICIES)?.unwrap_or(default.state),
        min_agreement: section.number("min_agreement", 0.0..=1.0)?.unwrap_or(default.min_agreement),
        draft_length: section.integer("draft_length", 1..=16)?.unwrap_or(default.draft_length),
    })
}

fn power_section(section: Section<'_>) -> Result<Power, ConfigError> {
    let default = Power::default();
    Ok(Power {
        meter: section.choice("meter", METERS)?.unwrap_or(default.meter),
        rail: section.text("rail")?.map(str::to_owned).or(default.rail),
        bus: path(section, "bus")?.or(default.bus),
        address: section.integer("address", 0x08..=0x77)?.or(default.address),
        shunt: section.quantity("shunt", str::parse)?.or(default.shunt),
        trace: path(section, "trace")?.or(default.trace),
        interval: interval(section)?.unwrap_or(default.interval),
        idle: section.quantity("idle", power)?.or(default.idle),
        on_meter_fault: section
            .choice("on_meter_fault", ON_FAULT)?
            .unwrap_or(default.on_meter_fault),
        below_battery: below_battery(section)?.or(default.below_battery),
    })
}

fn interval(section: Section<'_>) -> Result<Option<Microseconds>, ConfigError> {
    let interval = section.quantity("interval", time)?;
    match interval {
        Some(time) if !(Microseconds(500)..=Microseconds(1_000_000)).contains(&time) => {
            let problem = format!("is {time}: 0.5 ms to 1 s are possible");
            Err(section.refusal(Kind::Range, "interval", problem))
        }
        _ => Ok(interval),
    }
}

fn below_battery(section: Section<'_>) -> Result<Option<BelowBattery>, ConfigError> {
    let section = section.inner("below_battery", "power.below_battery")?;
    if !section.is_there() {
        return Ok(None);
    }
    section.only(&["level", "energy_per_token"])?;
    let level = section.quantity("level", percent)?;
    let budget = section.quantity("energy_per_token", some_energy)?;
    Ok(Some(BelowBattery {
        level: section.need("level", level)?,
        energy_per_token: section.need("energy_per_token", budget)?,
    }))
}

fn server(section: Section<'_>) -> Result<Server, ConfigError> {
    let default = Server::default();
    Ok(Server {
        socket: path(section, "socket")?.unwrap_or(default.socket),
        tcp: section.text("tcp")?.map(str::to_owned).or(default.tcp),
        api_key: section.text("api_key")?.map(str::to_owned).or(default.api_key),
        api_key_file: path(section, "api_key_file")?.or(default.api_key_file),
        queue: section.integer("queue", 1..=1024)?.unwrap_or(default.queue),
    })
}

fn trust(section: Section<'_>) -> Result<Trust, ConfigError> {
    let keys: Vec<String> =
        section.texts("keys")?.unwrap_or_default().into_iter().map(str::to_owned).collect();
    let require_signature = section.flag("require_signature")?.unwrap_or(!keys.is_empty());
    let allow_downgrade = section.flag("allow_downgrade")?.unwrap_or(false);
    Ok(Trust { keys, require_signature, allow_downgrade })
}

fn path(section: Section<'_>, key: &str) -> Result<Option<PathBuf>, ConfigError> {
    Ok(section.text(key)?.map(PathBuf::from))
}

/// Energy that is more than none, and no more than the governor counts with: a budget of zero could never be kept.
fn some_energy(text: &str) -> Result<Microjoules, QuantityError> {
    energy(text).and_then(|energy| match energy {
        Microjoules(0) => Err(none(text, "900 mJ")),
        Microjoules(1..=1_000_000_000) => Ok(energy),
        _ => Err(QuantityError(format!("is \"{text}\": a kilojoule is the most for a token"))),
    })
}

/// Time that is more than none, and no more than the governor counts with.
fn some_time(text: &str) -> Result<Microseconds, QuantityError> {
    time(text).and_then(|time| match time {
        Microseconds(0) => Err(none(text, "120 ms")),
        Microseconds(1..=3_600_000_000) => Ok(time),
        _ => Err(QuantityError(format!("is \"{text}\": an hour is the most for a token"))),
    })
}

fn none(text: &str, example: &str) -> QuantityError {
    QuantityError(format!(
        "is \"{text}\", a budget that nothing can keep: write more, like \"{example}\""
    ))
}

/// A share of the whole, such as "20 %".
fn percent(text: &str) -> Result<f64, QuantityError> {
    let refused =
        |what: &str| QuantityError(format!("is \"{text}\", {what}: write it like \"20 %\""));
    let Some(number) = text.trim().strip_suffix('%') else {
        return Err(refused("a number without a unit"));
    };
    match number.trim().parse::<f64>() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent / 100.0),
        _ => Err(refused("which is not between 0 and 100")),
    }
}
