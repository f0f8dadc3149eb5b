//! What keys say together. Each contradiction is refused with its reason.

use std::net::SocketAddr;

use crate::board::Board;
use crate::device::{DeviceConfig, ExitMode, Meter};
use crate::document::Document;
use crate::error::ConfigError;
use crate::nearest::nearest;
use crate::quantity::show_bytes;

/// A refusal's key and its problem; `None` is no contradiction.
type Found = Option<(&'static str, String)>;

pub(crate) fn relations(config: &DeviceConfig, document: &Document<'_>) -> Result<(), ConfigError> {
    let board = match Board::named(&config.device.board) {
        Ok(board) => board,
        Err(problem) => return Err(document.contradiction("[device] board", problem)),
    };
    let found = threads(config, &board)
        .or_else(|| memory(config, &board))
        .or_else(|| exits(config))
        .or_else(|| meter(config, &board))
        .or_else(|| battery(config))
        .or_else(|| server(config))
        .or_else(|| trust(config));
    match found {
        Some((key, problem)) => Err(document.contradiction(key, problem)),
        None => Ok(()),
    }
}

fn threads(config: &DeviceConfig, board: &Board) -> Found {
    let (threads, cores) = (config.device.threads?, board.cores?);
    (threads > cores).then(|| {
        let problem =
            format!("is {threads}, but {} has {cores} cores, and threads without a core only wait: at most {cores}", board.name);
        ("[device] threads", problem)
    })
}

fn memory(config: &DeviceConfig, board: &Board) -> Found {
    let (wanted, usable) = (config.device.memory?, board.usable_bytes()?);
    (wanted.0 > usable).then(|| {
        let (wanted, usable) = (show_bytes(wanted.0), show_bytes(usable));
        let problem =
            format!("is {wanted}, but {} leaves {usable} to a model: at most that", board.name);
        ("[device] memory", problem)
    })
}

fn exits(config: &DeviceConfig) -> Found {
    let (exit, budget) = (&config.exit, &config.budget);
    if (exit.mode == ExitMode::Fixed) != exit.threshold.is_some() {
        let problem = match exit.threshold {
            None => {
                "is missing, which mode = \"fixed\" needs: write a number from 0 to 1".to_owned()
            }
            Some(_) => "is given, but only mode = \"fixed\" uses one: remove it, or set that mode"
                .to_owned(),
        };
        return Some(("[exit] threshold", problem));
    }
    let is_set = budget.energy_per_token.is_some() || budget.latency_per_token.is_some();
    if is_set && matches!(exit.mode, ExitMode::Off | ExitMode::Fixed) {
        let problem = "never looks at a budget, but [budget] sets one: set mode = \"budget\" or \"verified\", or remove the \
                       budget";
        return Some(("[exit] mode", problem.to_owned()));
    }
    None
}

fn meter(config: &DeviceConfig, board: &Board) -> Found {
    let power = &config.power;
    if (power.meter == Meter::Trace) != power.trace.is_some() {
        let problem = match power.trace {
            None => "is missing, which meter = \"trace\" needs: write the path of a recording",
            Some(_) => {
                "is given, but only meter = \"trace\" replays one: remove it, or set that meter"
            }
        };
        return Some(("[power] trace", problem.to_owned()));
    }
    let is_extra = power.address.is_some() || power.shunt.is_some();
    if is_extra && !matches!(power.meter, Meter::Ina226 | Meter::Ina219 | Meter::Ina3221) {
        let problem = "does not use an address or a shunt, which are given: remove them, or set \"ina3221\", \"ina226\" or \
                       \"ina219\"";
        return Some(("[power] meter", problem.to_owned()));
    }
    if matches!(power.meter, Meter::Ina226 | Meter::Ina219) && power.shunt.is_none() {
        let problem = "is missing: the chip measures a voltage, and only you know the resistor; write it like \"5 mOhm\"";
        return Some(("[power] shunt", problem.to_owned()));
    }
    rail(config, board)
}

/// A rail that the board's file lacks. Boards without a list of rails are believed.
fn rail(config: &DeviceConfig, board: &Board) -> Found {
    let rail = config.power.rail.as_deref()?;
    let known = || board.rails.iter().map(|rail| rail.name.as_str());
    // With "auto", a rail that is not there would go unnoticed: another meter would take its place.
    if !matches!(config.power.meter, Meter::Ina3221 | Meter::Auto)
        || board.rails.is_empty()
        || known().any(|name| name == rail)
    {
        return None;
    }
    let hint = nearest(rail, known()).map(|meant| format!("; did you mean \"{meant}\"?"));
    let names: Vec<_> = known().collect();
    let problem = format!(
        "is \"{rail}\": {} has {}{}",
        board.name,
        names.join(", "),
        hint.unwrap_or_default()
    );
    Some(("[power] rail", problem))
}

fn battery(config: &DeviceConfig) -> Found {
    let (battery, budget) = (config.power.below_battery?, config.budget.energy_per_token?);
    (battery.energy_per_token > budget).then(|| {
        let problem = format!(
            "allows {} a token, more than [budget] energy_per_token = {budget}: a low battery must not allow more",
            battery.energy_per_token
        );
        ("[power] below_battery", problem)
    })
}

fn server(config: &DeviceConfig) -> Found {
    let server = &config.server;
    let has_key = server.api_key.is_some() || server.api_key_file.is_some();
    if server.api_key.is_some() && server.api_key_file.is_some() {
        return Some(("[server] api_key", "and api_key_file are both given: keep one".to_owned()));
    }
    let address = server.tcp.as_deref()?;
    match address.parse::<SocketAddr>() {
        Err(_) => {
            let problem = format!(
                "is \"{address}\": an address and a port were expected, like \"127.0.0.1:8080\""
            );
            Some(("[server] tcp", problem))
        }
        Ok(socket) if !socket.ip().is_loopback() && !has_key => {
            let problem = format!(
                "is \"{address}\", which other machines reach, and no key is asked of them: set api_key_file, or listen on \
                 127.0.0.1"
            );
            Some(("[server] tcp", problem))
        }
        Ok(_) => None,
    }
}

fn trust(config: &DeviceConfig) -> Found {
    let trust = &config.trust;
    if trust.require_signature && trust.keys.is_empty() {
        let problem =
            "is true, but no keys are given, so that no bundle could be accepted: add keys"
                .to_owned();
        return Some(("[trust] require_signature", problem));
    }
    let bad = trust.keys.iter().find(|key| !is_key(key))?;
    let problem = format!(
        "holds \"{bad}\": \"ed25519:\" and 64 hexadecimal digits were expected, or the path of a file"
    );
    Some(("[trust] keys", problem))
}

/// A key's text, or a path.
fn is_key(text: &str) -> bool {
    match text.strip_prefix("ed25519:") {
        Some(hex) => hex.len() == 64 && hex.bytes().all(|digit| digit.is_ascii_hexdigit()),
        None => !text.is_empty() && !text.contains(':'),
    }
}
