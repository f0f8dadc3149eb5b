//! Every key of `device.toml`: the one list that names, documents and refuses them.

use std::fmt::Write;

/// A key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its section.
    pub section: &'static str,
    /// Its name.
    pub name: &'static str,
    /// How it is written, or what it is if it is not.
    pub default: &'static str,
    /// What may stand there.
    pub range: &'static str,
    /// What it does.
    pub what: &'static str,
}

const fn key(
    section: &'static str,
    name: &'static str,
    default: &'static str,
    range: &'static str,
    what: &'static str,
) -> Key {
    Key { section, name, default, range, what }
}

/// All keys, by section.
#[rustfmt::skip] // A table is read by its columns.
pub const KEYS: &[Key] = &[
    key("device", "board", "\"generic\"", "a name of [targets/boards](../targets/boards)", "the board: cores, memory, bandwidth, power rails"),
    key("device", "backend", "\"cpu\"", "`cpu`, `flex`, `ndarray`, `wgpu`", "what executes the Program ([backends](backends.md))"),
    key("device", "fallback", "false", "true or false", "execute on the cpu where the backend cannot"),
    key("device", "threads", "the board's cores", "1 to 256, at most the board's cores", "threads that decode"),
    key("device", "memory", "the board's, less what it reserves", "bytes, like \"3.5 GiB\"", "most that a model may take"),
    key("model", "slots", "\"/var/lib/dynamax\"", "a folder", "where the slots A and B lie"),
    key("model", "context", "the bundle's", "1 to 16777216", "tokens of context to plan for"),
    key("budget", "energy_per_token", "no budget", "energy above zero, at most 1 kJ, like \"900 mJ\"", "mean energy of a token over the window"),
    key("budget", "latency_per_token", "no deadline", "time above zero, at most an hour, like \"120 ms\"", "deadline of each token"),
    key("budget", "window", "64", "8 to 1024", "tokens over which the mean is kept"),
    key("budget", "sacrifice", "[\"agreement\", \"latency\", \"energy\"]", "the three words, each once", "what gives way when not all can be kept, the first first"),
    key("exit", "mode", "\"budget\"", "`off`, `fixed`, `budget`, `verified`", "who decides where a token leaves; `verified`: tokens that leave, or that were said before, are drafts, and all are those of full depth; needs no exits"),
    key("exit", "threshold", "none", "0 to 1", "the threshold, with `mode = \"fixed\"`"),
    key("exit", "state", "\"deferred\"", "`copy`, `propagate`, `skip`, `deferred`", "what happens to the state of skipped layers"),
    key("exit", "min_agreement", "0.98", "0 to 1", "least share of tokens that agree with full depth"),
    key("exit", "draft_length", "8", "1 to 16", "most tokens drafted before they are verified; a board that answers from its prompts gains from more, and each takes memory (`dynamax plan --drafts`)"),
    key("power", "meter", "\"auto\"", "`auto`, `ina3221`, `hwmon`, `ina226`, `ina219`, `rapl`, `battery`, `model`, `trace`", "what measures"),
    key("power", "rail", "the board's total", "a rail's name, like \"VDD_IN\"", "what is measured"),
    key("power", "bus", "the board's", "a device, like \"/dev/i2c-1\"", "the I2C bus of the sensor"),
    key("power", "address", "the board's, or 0x40", "0x08 to 0x77", "the sensor's address on the bus"),
    key("power", "shunt", "the board's", "resistance, like \"5 mOhm\"", "the resistor that the sensor sits on"),
    key("power", "trace", "none", "a file", "the recording, with `meter = \"trace\"`"),
    key("power", "interval", "\"10 ms\"", "0.5 ms to 1 s", "time between two samples"),
    key("power", "idle", "measured at start", "power, like \"4.5 W\"", "what the board draws when it does nothing"),
    key("power", "on_meter_fault", "\"continue\"", "`continue`, `stop`", "what a broken meter does to decoding"),
    key("power", "below_battery", "none", "{ level = \"20 %\", energy_per_token = \"400 mJ\" }", "the budget below this charge"),
    key("server", "socket", "\"/run/dynamax/dynamaxd.sock\"", "a path", "the Unix socket"),
    key("server", "tcp", "none", "address and port, like \"127.0.0.1:8080\"", "HTTP over TCP; anything but loopback needs a key"),
    key("server", "api_key", "none", "text", "what clients must present"),
    key("server", "api_key_file", "none", "a file", "a file with what clients must present"),
    key("server", "queue", "16", "1 to 1024", "requests that may wait"),
    key("trust", "keys", "[]", "\"ed25519:\" and 64 hexadecimal digits, or paths", "whose bundles are accepted"),
    key("trust", "require_signature", "true if there are keys", "true, false", "whether bundles must be signed"),
    key("trust", "allow_downgrade", "false", "true, false", "whether an older bundle may replace a newer one"),
];

/// The names of all sections, each once.
pub(crate) fn sections() -> Vec<&'static str> {
    let mut names: Vec<_> = KEYS.iter().map(|key| key.section).collect();
    names.dedup();
    names
}

/// The names of a section's keys.
pub(crate) fn of(section: &str) -> Vec<&'static str> {
    KEYS.iter().filter(|key| key.section == section).map(|key| key.name).collect()
}

/// The section of a key.
pub(crate) fn section_of(name: &str) -> Option<&'static str> {
    KEYS.iter().find(|key| key.name == name).map(|key| key.section)
}

/// All keys as Markdown tables: what `docs/device-toml.md` holds.
#[must_use]
pub fn reference() -> String {
    let mut text = String::new();
    for section in sections() {
        let _ = writeln!(
            text,
            "\n## `[{section}]`\n\n| key | default | may be | what it is |\n|---|---|---|---|"
        );
        for Key { name, default, range, what, .. } in
            KEYS.iter().filter(|key| key.section == section)
        {
            let _ = writeln!(text, "| `{name}` | {default} | {range} | {what} |");
        }
    }
    text
}
