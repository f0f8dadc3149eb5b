//! Watches a power meter: opens the best that answers, or the one that is named, and prints what it says.
//!
//! `meter [KIND] [SECONDS] [RAIL…]`, with KIND one of auto, ina3221, hwmon, rapl, battery; or `meter i2c BUS` for an INA3221 at 0x40 with
//! shunts of 5 mOhm, read over the bus, also where a kernel driver holds it.

use std::process::ExitCode;
use std::time::Duration;

use dynamax_governor::Microseconds;
use dynamax_governor::meter::{Channel, Kind, Sampler, Wanted, open, rails};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let kind = arguments.next().unwrap_or_else(|| "auto".to_owned());
    let wanted = match kind.as_str() {
        "i2c" => {
            let bus = arguments.next().unwrap_or_else(|| "/dev/i2c-1".to_owned());
            // No file system: the kernel's own view of the sensor is not looked at.
            let channel = Channel { address: 0x40, channel: 1, shunt_uohm: 5000 };
            Wanted {
                root: "/nowhere".into(),
                bus: Some(bus.into()),
                channels: vec![channel],
                ..Wanted::new(Kind::Ina3221)
            }
        }
        "ina3221" => Wanted::new(Kind::Ina3221),
        "hwmon" => Wanted::new(Kind::Hwmon),
        "rapl" => Wanted::new(Kind::Rapl),
        "battery" => Wanted::new(Kind::Battery),
        _ => Wanted::new(Kind::Auto),
    };
    let seconds: f64 = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(1.0);
    let wanted = Wanted { rails: arguments.collect(), ..wanted };
    for rail in rails(&wanted.root) {
        println!("the kernel shows {} of {}", rail.name, rail.chip);
    }
    match watch(&wanted, Duration::from_secs_f64(seconds)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn watch(wanted: &Wanted, over: Duration) -> Result<(), Box<dyn std::error::Error>> {
    let sampler = Sampler::start(open(wanted)?, Microseconds(10_000))?;
    std::thread::sleep(Duration::from_millis(50));
    let before = sampler.read();
    std::thread::sleep(over);
    let after = sampler.read();
    println!("{}: {} now", sampler.source(), after.power);
    match after.since(&before) {
        Ok(energy) => println!("{}: {energy} in {}", sampler.source(), after.at.since(before.at)),
        Err(fault) => println!("{}: no energy: {fault}", sampler.source()),
    }
    Ok(())
}
