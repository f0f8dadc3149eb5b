//! `device.toml` as users write it, and every way in which they may get it wrong.

use dynamax_config::{
    Backend, Board, Bytes, ConfigError, DeviceConfig, ExitMode, Goal, KEYS, Kind, Meter,
    OnMeterFault, reference,
};
use dynamax_governor::{Microjoules, Microseconds};

fn read(text: &str) -> Result<DeviceConfig, ConfigError> {
    DeviceConfig::from_text("device.toml", text)
}

const FULL: &str = r#"
[device]
board   = "jetson-orin-nano-8gb"
backend = "cpu"
threads = 6
memory  = "3.5 GiB"

[model]
slots   = "/var/lib/dynamax"
context = 4096

[budget]
energy_per_token  = "900 mJ"
latency_per_token = "120 ms"
window            = 64
sacrifice         = ["latency", "agreement", "energy"]

[exit]
mode          = "budget"
min_agreement = 0.98

[power]
meter = "ina3221"
rail  = "VDD_IN"
on_meter_fault = "stop"
below_battery = { level = "20 %", energy_per_token = "0.4 J" }

[server]
tcp = "127.0.0.1:8080"

[trust]
keys = ["/etc/dynamax/key.pub"]
"#;

#[test]
fn a_full_file_is_understood() {
    let config = read(FULL).unwrap();
    assert_eq!(config.device.board, "jetson-orin-nano-8gb", "board");
    assert_eq!(config.device.backend, Backend::Cpu, "backend");
    assert_eq!(config.device.memory, Some(Bytes(3_758_096_384)), "memory");
    assert_eq!(config.model.context, Some(4096), "context");
    assert_eq!(config.budget.energy_per_token, Some(Microjoules(900_000)), "energy");
    assert_eq!(config.budget.latency_per_token, Some(Microseconds(120_000)), "latency");
    assert_eq!(config.budget.sacrifice, [Goal::Latency, Goal::Agreement, Goal::Energy], "order");
    assert_eq!(config.power.meter, Meter::Ina3221, "meter");
    assert_eq!(config.power.on_meter_fault, OnMeterFault::Stop, "fault");
    let battery = config.power.below_battery.unwrap();
    assert_eq!((battery.level, battery.energy_per_token), (0.2, Microjoules(400_000)), "battery");
    assert!(config.trust.require_signature, "keys ask for signatures");
}

#[test]
fn an_empty_file_is_all_defaults() {
    let config = read("").unwrap();
    assert_eq!(config, DeviceConfig::default(), "nothing given");
    assert_eq!(config.exit.mode, ExitMode::Budget, "mode");
    assert_eq!(config.budget.window, 64, "window");
}

#[test]
fn every_board_may_be_named() {
    for board in Board::names() {
        assert!(read(&format!("[device]\nboard = \"{board}\"\n")).is_ok(), "{board}");
    }
}

/// Text, kind of fault, and what its sentence must contain.
#[rustfmt::skip] // A table is read by its columns.
const FAULTS: &[(&str, Kind, &str)] = &[
    ("[device", Kind::Syntax, "device.toml, line 1: this is no TOML"),
    ("[budgets]\n", Kind::Unknown, "line 1: budgets is not known; did you mean \"budget\"?"),
    ("[budget]\nenergy_pre_token = \"1 J\"", Kind::Unknown, "line 2: [budget] energy_pre_token is not known; did you mean"),
    ("[budget]\ncolour = 1", Kind::Unknown, "there are energy_per_token, latency_per_token"),
    ("energy_per_token = \"1 J\"", Kind::Unknown, "line 1: energy_per_token is a key of [budget]: write it below that line"),
    ("[budget]\nmeter = \"model\"", Kind::Unknown, "line 2: [budget] meter is a key of [power]"),
    ("[budget]\nenergy_per_token = \"2 kJ\"", Kind::Value, "is \"2 kJ\": a kilojoule is the most for a token"),
    ("[budget]\nlatency_per_token = \"4000 s\"", Kind::Value, "is \"4000 s\": an hour is the most for a token"),
    ("[power]\naddress = 0x100", Kind::Range, "address is 0x100: 0x08 to 0x77 are possible"),
    ("[power]\naddress = 7", Kind::Range, "address is 7: 8 to 119 are possible"),
    ("[exit]\nmin_agreement = \"98 %\"", Kind::Value, "is \"98 %\": a number from 0 to 1 was expected"),
    ("[budget]\n\nenergy_per_token = 900", Kind::Value, "line 3: [budget] energy_per_token is 900, a number without a unit: write it like \"900 mJ\""),
    ("[budget]\nenergy_per_token = \"900\"", Kind::Value, "without a unit"),
    ("[budget]\nenergy_per_token = -1.5", Kind::Value, "is -1.5, a number without a unit"),
    ("[budget]\nenergy_per_token = nan", Kind::Value, "is nan, a number without a unit"),
    ("[budget]\nenergy_per_token = \"-5 mJ\"", Kind::Value, "which is negative"),
    ("[budget]\nenergy_per_token = \"0 mJ\"", Kind::Value, "a budget that nothing can keep"),
    ("[budget]\nenergy_per_token = \"NaN mJ\"", Kind::Value, "does not begin with a number"),
    ("[budget]\nlatency_per_token = \"120 mJ\"", Kind::Value, "\"mJ\" is none of the units ms, s, us"),
    ("[budget]\nlatency_per_token = 120", Kind::Value, "write it like \"120 ms\""),
    ("[budget]\nwindow = 4", Kind::Range, "window is 4: 8 to 1024 are possible"),
    ("[budget]\nwindow = \"64\"", Kind::Value, "is \"64\": a whole number was expected"),
    ("[budget]\nsacrifice = [\"energy\"]", Kind::Value, "each once"),
    ("[budget]\nsacrifice = [\"energy\", \"energy\", \"latency\"]", Kind::Value, "each once"),
    ("[budget]\nsacrifice = [\"energy\", \"agrement\", \"latency\"]", Kind::Value, "did you mean \"agreement\"?"),
    ("[device]\nmemory = 4096", Kind::Value, "write it like \"3.5 GiB\""),
    ("[device]\nbackend = \"gpu\"", Kind::Value, "is \"gpu\": cpu, flex, ndarray, wgpu are possible"),
    ("[device]\nboard = \"jetson-orin-nano\"", Kind::Relation, "line 2: [device] board is \"jetson-orin-nano\": there are generic"),
    ("[device]\nboard = \"raspberry-pi-5-8gb\"\nthreads = 5", Kind::Relation, "line 3: [device] threads is 5, but Raspberry Pi 5 8GB has 4 cores"),
    ("[device]\nboard = \"raspberry-pi-5-8gb\"\nmemory = \"8 GiB\"", Kind::Relation, "leaves 7.00 GiB"),
    ("device = 1", Kind::Value, "device is 1: a section was expected"),
    ("[exit]\nmin_agreement = 1.5", Kind::Range, "0 to 1 are possible"),
    ("[exit]\nmin_agreement = nan", Kind::Range, "is nan: 0 to 1"),
    ("[exit]\nmode = \"fixed\"", Kind::Relation, "[exit] threshold is missing"),
    ("[exit]\nthreshold = 0.5", Kind::Relation, "only mode = \"fixed\" uses one"),
    ("[exit]\nmode = \"off\"\n[budget]\nenergy_per_token = \"1 J\"", Kind::Relation, "line 2: [exit] mode never looks at a budget"),
    ("[power]\nmeter = \"trace\"", Kind::Relation, "[power] trace is missing"),
    ("[power]\ntrace = \"a.csv\"", Kind::Relation, "only meter = \"trace\" replays one"),
    ("[power]\nmeter = \"ina226\"", Kind::Relation, "[power] shunt is missing"),
    ("[power]\nmeter = \"rapl\"\naddress = 0x40", Kind::Relation, "does not use an address"),
    ("[power]\ninterval = \"10 s\"", Kind::Range, "0.5 ms to 1 s"),
    ("[device]\nboard = \"jetson-orin-nano-8gb\"\n[power]\nmeter = \"ina3221\"\nrail = \"VDD_GPU\"", Kind::Relation, "line 5: [power] rail is \"VDD_GPU\": NVIDIA Jetson Orin Nano 8GB has VDD_IN, VDD_CPU_GPU_CV, VDD_SOC"),
    ("[device]\nboard = \"jetson-orin-nano-8gb\"\n[power]\nrail = \"VDD_FOO\"", Kind::Relation, "line 4: [power] rail is \"VDD_FOO\": NVIDIA Jetson Orin Nano 8GB has VDD_IN"),
    ("[power]\nbelow_battery = { level = 20, energy_per_token = \"1 J\" }", Kind::Value, "[power.below_battery] level is 20, a number without a unit: write it like \"20 %\""),
    ("[power]\nbelow_battery = { level = \"20 %\" }", Kind::Missing, "[power.below_battery] energy_per_token is missing"),
    ("[budget]\nenergy_per_token = \"1 J\"\n[power]\nbelow_battery = { level = \"20 %\", energy_per_token = \"2 J\" }", Kind::Relation, "a low battery must not allow more"),
    ("[server]\ntcp = \"0.0.0.0:80\"", Kind::Relation, "which other machines reach"),
    ("[server]\ntcp = \"8080\"", Kind::Relation, "like \"127.0.0.1:8080\""),
    ("[server]\napi_key = \"a\"\napi_key_file = \"b\"", Kind::Relation, "keep one"),
    ("[server]\nqueue = 0", Kind::Range, "1 to 1024"),
    ("[trust]\nrequire_signature = true", Kind::Relation, "no bundle could be accepted"),
    ("[trust]\nkeys = [\"ed25519:12\"]", Kind::Relation, "64 hexadecimal digits"),
    ("[trust]\nkeys = \"a\"", Kind::Value, "a list of texts"),
    ("[trust]\nrequire_signature = \"yes\"", Kind::Value, "true or false was expected"),
];

#[test]
fn every_fault_is_one_sentence_with_file_line_key_and_remedy() {
    for (text, kind, sentence) in FAULTS {
        let error = read(text).unwrap_err();
        let shown = error.to_string();
        assert_eq!(error.kind, *kind, "{text}\n{shown}");
        assert!(shown.starts_with("device.toml"), "{shown}");
        assert!(shown.contains(sentence), "{text}\nexpected: {sentence}\nfound:    {shown}");
        assert!(!shown.contains('\n'), "one sentence: {shown}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = DeviceConfig::read("/nowhere/device.toml".as_ref()).unwrap_err();
    assert_eq!(error.kind, Kind::File, "{error}");
    assert!(
        error.to_string().starts_with("/nowhere/device.toml: the file cannot be read"),
        "{error}"
    );
}

#[test]
fn every_key_is_read() {
    // A key of the list that the parser does not look at would accept anything.
    for key in KEYS {
        let text = format!("[{}]\n{} = 1979-05-27\n", key.section, key.name);
        let error = read(&text).expect_err(key.name);
        assert!(error.key.contains(key.name), "{text}: {error}");
    }
}

#[test]
fn the_documentation_lists_every_key_as_the_code_does() {
    let page = include_str!("../../../docs/device-toml.md");
    let expected = reference();
    assert!(
        page.contains(&expected),
        "docs/device-toml.md differs from the code; it should hold:\n{expected}"
    );
}
