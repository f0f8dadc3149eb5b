//! Meters that read files, against trees of files as boards have them.
#![expect(clippy::unwrap_used, reason = "a panic is a failed test")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use dynamax_governor::meter::{
    Battery, Draw, Hwmon, Kind, Meter, Rapl, Sampler, Source, Wanted, open, power_mode, rails,
};
use dynamax_governor::{
    Integrator, MeterFault, Microjoules, Microseconds, Milliwatts, Plausible, Reading,
};
use tempfile::TempDir;

fn tree(files: &[(&str, &str)]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        write(root.path(), path, text);
    }
    root
}

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("{text}\n")).unwrap();
}

fn power(meter: &mut dyn Meter) -> Result<Milliwatts, MeterFault> {
    meter.sample(Microseconds(0)).map(|draw| match draw {
        Draw::Power(power) => power,
        Draw::Energy(energy) => panic!("{energy} is no power"),
    })
}

/// JetPack 6 on an Orin Nano: other sensors come first, the fourth to seventh inputs are no rails.
const ORIN_NANO: &[(&str, &str)] = &[
    ("sys/class/hwmon/hwmon0/name", "cpu_thermal"),
    ("sys/class/hwmon/hwmon0/temp1_input", "45000"),
    ("sys/class/hwmon/hwmon0/in1_input", "900"),
    ("sys/class/hwmon/hwmon1/name", "ina3221"),
    ("sys/class/hwmon/hwmon1/in1_label", "VDD_IN"),
    ("sys/class/hwmon/hwmon1/in1_input", "5016"),
    ("sys/class/hwmon/hwmon1/curr1_input", "960"),
    ("sys/class/hwmon/hwmon1/in2_label", "VDD_CPU_GPU_CV"),
    ("sys/class/hwmon/hwmon1/in2_input", "5008"),
    ("sys/class/hwmon/hwmon1/curr2_input", "112"),
    ("sys/class/hwmon/hwmon1/in3_label", "VDD_SOC"),
    ("sys/class/hwmon/hwmon1/in3_input", "5008"),
    ("sys/class/hwmon/hwmon1/curr3_input", "256"),
    ("sys/class/hwmon/hwmon1/in4_input", "1"),
    ("sys/class/hwmon/hwmon1/in7_label", "sum of shunt voltages"),
    ("sys/class/hwmon/hwmon1/in7_input", "7"),
    ("sys/class/hwmon/hwmon1/curr4_input", "1328"),
];

/// JetPack 5 on an AGX Orin: two chips, no rail that contains all, and the second chip's outer channels not connected.
const AGX_ORIN: &[(&str, &str)] = &[
    ("sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3/name", "ina3221"),
    ("sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3/in1_label", "VDD_GPU_SOC"),
    ("sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3/in1_input", "19000"),
    ("sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3/curr1_input", "200"),
    ("sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3/in2_label", "VDD_CPU_CV"),
    ("sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3/in2_input", "19000"),
    ("sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3/curr2_input", "40"),
    ("sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3/in3_label", "VIN_SYS_5V0"),
    ("sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3/in3_input", "5000"),
    ("sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3/curr3_input", "600"),
    ("sys/bus/i2c/drivers/ina3221/1-0041/hwmon/hwmon4/name", "ina3221"),
    ("sys/bus/i2c/drivers/ina3221/1-0041/hwmon/hwmon4/in1_label", "NC"),
    ("sys/bus/i2c/drivers/ina3221/1-0041/hwmon/hwmon4/in1_input", "0"),
    ("sys/bus/i2c/drivers/ina3221/1-0041/hwmon/hwmon4/curr1_input", "0"),
    ("sys/bus/i2c/drivers/ina3221/1-0041/hwmon/hwmon4/in2_label", "VDDQ_VDD2_1V8AO"),
    ("sys/bus/i2c/drivers/ina3221/1-0041/hwmon/hwmon4/in2_input", "5000"),
    ("sys/bus/i2c/drivers/ina3221/1-0041/hwmon/hwmon4/curr2_input", "100"),
    ("sys/bus/i2c/drivers/ina3221/1-0041/hwmon/hwmon4/in3_label", "DISABLED"),
    ("sys/bus/i2c/drivers/ina3221/1-0041/hwmon/hwmon4/in3_enable", "0"),
    ("sys/bus/i2c/drivers/ina3221/1-0041/hwmon/hwmon4/in3_input", "0"),
    ("sys/bus/i2c/drivers/ina3221/1-0041/hwmon/hwmon4/curr3_input", "0"),
];

/// JetPack 4 on a Nano.
const JETPACK_4: &[(&str, &str)] = &[
    ("sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/rail_name_0", "POM_5V_IN"),
    ("sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/in_power0_input", "2127"),
    ("sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/rail_name_1", "POM_5V_GPU"),
    ("sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/in_power1_input", "40"),
    ("sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/rail_name_2", "POM_5V_CPU"),
    ("sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/in_power2_input", "320"),
];

#[test]
fn an_orin_nano_is_read_by_its_whole_rail() {
    let root = tree(ORIN_NANO);
    let mut meter = Hwmon::open(root.path(), &[]).unwrap();
    // 5016 mV at 960 mA.
    assert_eq!(power(&mut meter), Ok(Milliwatts(4815)), "VDD_IN contains the others");
    assert_eq!(
        (meter.source(), meter.names()),
        (Source::Ina3221, &["VDD_IN".to_owned()][..]),
        "labels"
    );
    let names: Vec<_> = rails(root.path()).into_iter().map(|rail| rail.name).collect();
    assert_eq!(names, ["VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"], "no sum, no shunt voltages");
    let mut soc = Hwmon::open(root.path(), &["VDD_SOC".to_owned()]).unwrap();
    assert_eq!(power(&mut soc), Ok(Milliwatts(1282)), "by name");
}

#[test]
fn an_agx_orin_is_the_sum_of_its_rails() {
    let root = tree(AGX_ORIN);
    let mut all = Hwmon::open(root.path(), &[]).unwrap();
    assert_eq!(power(&mut all), Ok(Milliwatts(3800 + 760 + 3000 + 500)), "{:?}", all.names());
    let names: Vec<_> = rails(root.path()).into_iter().map(|rail| rail.name).collect();
    let connected = ["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO"];
    assert_eq!(names, connected, "what is not connected or not enabled is no rail");
    // What the board's file says to add up.
    let total = ["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"].map(str::to_owned);
    let mut meter = Hwmon::open(root.path(), &total).unwrap();
    assert_eq!(power(&mut meter), Ok(Milliwatts(3800 + 760 + 3000)), "two chips");
}

#[test]
fn jetpack_4_is_understood() {
    let root = tree(JETPACK_4);
    let mut meter = Hwmon::open(root.path(), &[]).unwrap();
    assert_eq!(
        (power(&mut meter), meter.source()),
        (Ok(Milliwatts(2127)), Source::Ina3221),
        "POM_5V_IN"
    );
}

#[test]
fn a_sensor_without_labels_is_called_by_its_chip() {
    let root = tree(&[
        ("sys/class/hwmon/hwmon2/name", "ina226"),
        ("sys/class/hwmon/hwmon2/power1_input", "6520000"),
        ("sys/class/hwmon/hwmon2/in1_input", "12000"),
        ("sys/class/hwmon/hwmon2/curr1_input", "543"),
    ]);
    let mut meter = Hwmon::open(root.path(), &["ina226.1".to_owned()]).unwrap();
    assert_eq!(
        (power(&mut meter), meter.source()),
        (Ok(Milliwatts(6520)), Source::Ina226),
        "microwatts"
    );
}

#[test]
fn the_same_rail_by_two_paths_is_one() {
    let root = tree(ORIN_NANO);
    for (path, text) in ORIN_NANO.iter().skip(2) {
        let path = path.replace("sys/class/hwmon", "sys/bus/i2c/drivers/ina3221/1-0040/hwmon");
        write(root.path(), &path, text);
    }
    assert_eq!(rails(root.path()).len(), 3, "each once");
}

#[test]
fn a_wrong_rail_and_no_sensor_are_said_in_words() {
    let root = tree(ORIN_NANO);
    let error = Hwmon::open(root.path(), &["VDD_GPU".to_owned()]).unwrap_err();
    assert_eq!(
        error, "there is no rail \"VDD_GPU\": there are VDD_IN, VDD_CPU_GPU_CV, VDD_SOC",
        "rails"
    );
    let nothing = tree(&[]);
    let wanted = Wanted { root: nothing.path().into(), ..Wanted::new(Kind::Auto) };
    let error = open(&wanted).map(|meter| meter.source()).unwrap_err().to_string();
    for tried in ["no power sensor", "no energy counters", "no battery"] {
        assert!(error.contains(tried), "{error}");
    }
}

#[test]
fn a_sensor_that_disappears_or_talks_nonsense_is_a_fault_until_it_is_back() {
    let root = tree(ORIN_NANO);
    let mut meter = Hwmon::open(root.path(), &[]).unwrap();
    let path = "sys/class/hwmon/hwmon1/curr1_input";
    for nonsense in ["", "many", "99999999999", "-2000"] {
        write(root.path(), path, nonsense);
        assert_eq!(power(&mut meter), Err(MeterFault::Nonsense), "{nonsense:?}");
    }
    write(root.path(), path, "-8");
    assert_eq!(power(&mut meter), Ok(Milliwatts(0)), "an offset is no nonsense");
    write(root.path(), path, "1000");
    assert_eq!(power(&mut meter), Ok(Milliwatts(5016)), "back");
}

#[test]
fn counters_of_packages_and_memory_are_added_and_wrap_around() {
    let root = tree(&[
        ("sys/class/powercap/intel-rapl:0/name", "package-0"),
        ("sys/class/powercap/intel-rapl:0/energy_uj", "262143328000"),
        ("sys/class/powercap/intel-rapl:0/max_energy_range_uj", "262143328850"),
        ("sys/class/powercap/intel-rapl:0:0/name", "core"),
        ("sys/class/powercap/intel-rapl:0:0/energy_uj", "500"),
        ("sys/class/powercap/intel-rapl:0:1/name", "dram"),
        ("sys/class/powercap/intel-rapl:0:1/energy_uj", "1000"),
        ("sys/class/powercap/intel-rapl:0:1/max_energy_range_uj", "65712999613"),
        ("sys/class/powercap/intel-rapl:1/name", "psys"),
        ("sys/class/powercap/intel-rapl:1/energy_uj", "7"),
    ]);
    let mut meter = Rapl::open(root.path()).unwrap();
    assert_eq!(
        meter.sample(Microseconds(0)),
        Ok(Draw::Energy(Microjoules(0))),
        "the first counts from here"
    );
    write(root.path(), "sys/class/powercap/intel-rapl:0/energy_uj", "150");
    write(root.path(), "sys/class/powercap/intel-rapl:0:1/energy_uj", "3000");
    write(root.path(), "sys/class/powercap/intel-rapl:0:0/energy_uj", "900000");
    // 850 to the end of the range and 150 after it; memory has 2000 more; the core is in the package.
    assert_eq!(meter.sample(Microseconds(1)), Ok(Draw::Energy(Microjoules(3000))), "around");
    write(root.path(), "sys/class/powercap/intel-rapl:0/energy_uj", "-5");
    assert_eq!(meter.sample(Microseconds(2)), Err(MeterFault::Nonsense), "less than nothing");
}

const PACKAGE: &str = "sys/class/powercap/intel-rapl:0";
const DRAM: &str = "sys/class/powercap/intel-rapl:0:1";

/// A package and its memory, whose counters stand at 1000.
fn package_with_memory() -> TempDir {
    tree(&[
        (&format!("{PACKAGE}/name"), "package-0"),
        (&format!("{PACKAGE}/energy_uj"), "1000"),
        (&format!("{DRAM}/name"), "dram"),
        (&format!("{DRAM}/energy_uj"), "1000"),
    ])
}

/// Samples counters every 10 ms for so many milliseconds, as the thread beside decoding does.
fn count(meter: &mut Rapl, sum: &mut Integrator, ms: core::ops::Range<u64>) -> Reading {
    for at in ms.step_by(10).map(|ms| Microseconds(ms * 1000)) {
        match meter.sample(at) {
            Ok(Draw::Energy(energy)) => sum.add_energy(at, energy),
            other => panic!("{other:?} is no energy"),
        }
    }
    sum.last()
}

#[test]
fn counters_that_stand_still_are_frozen_until_they_move() {
    let root = package_with_memory();
    let mut meter = Rapl::open(root.path()).unwrap();
    let mut sum = Integrator::new(Plausible::every(Microseconds(10_000)));
    let set = |counter: &str, energy: &str| {
        write(root.path(), &format!("{counter}/energy_uj"), energy);
    };
    count(&mut meter, &mut sum, 0..10);
    set(PACKAGE, "51000");
    let whole = count(&mut meter, &mut sum, 10..10_000);
    assert_eq!((whole.fault, whole.energy), (None, Microjoules(50_000)), "ten seconds are near");
    // The memory's counter goes on.
    set(DRAM, "9000");
    let frozen = count(&mut meter, &mut sum, 10_000..30_000);
    assert_eq!((frozen.fault, frozen.faults), (Some(MeterFault::Frozen), 1), "one fault");
    assert_eq!(frozen.since(&whole), Err(MeterFault::Frozen), "nothing is made up");
    set(PACKAGE, "61000");
    let back = count(&mut meter, &mut sum, 30_000..30_010);
    assert_eq!(back.fault, None, "it moves");
    assert_eq!(back.since(&whole), Err(MeterFault::Frozen), "what it missed is unknown");
    set(PACKAGE, "71000");
    let energy = count(&mut meter, &mut sum, 30_010..30_020).since(&back);
    assert_eq!(energy, Ok(Microjoules(10_000)), "and it goes on");
}

#[test]
fn memory_is_counted_with_the_next_step_of_its_package() {
    let root = package_with_memory();
    let mut meter = Rapl::open(root.path()).unwrap();
    let mut step = || meter.sample(Microseconds(0));
    assert_eq!(step(), Ok(Draw::Energy(Microjoules(0))), "the first counts from here");
    write(root.path(), &format!("{DRAM}/energy_uj"), "1300");
    assert_eq!(step(), Ok(Draw::Energy(Microjoules(0))), "the package stands still");
    write(root.path(), &format!("{PACKAGE}/energy_uj"), "2000");
    assert_eq!(step(), Ok(Draw::Energy(Microjoules(1300))), "both");
}

#[test]
fn a_battery_speaks_only_while_it_feeds_the_board() {
    let bat = "sys/class/power_supply/BAT0";
    let root = tree(&[
        ("sys/class/power_supply/AC/type", "Mains"),
        ("sys/class/power_supply/A-mouse/type", "Battery"),
        ("sys/class/power_supply/A-mouse/scope", "Device"),
        (&format!("{bat}/type"), "Battery"),
        (&format!("{bat}/status"), "Discharging"),
        (&format!("{bat}/capacity"), "42"),
        (&format!("{bat}/current_now"), "-1500000"),
        (&format!("{bat}/voltage_now"), "11400000"),
    ]);
    let mut battery = Battery::open(root.path()).unwrap();
    assert_eq!(battery.level(), Some(0.42), "charge");
    assert_eq!(power(&mut battery), Ok(Milliwatts(17_100)), "1.5 A at 11.4 V");
    write(root.path(), &format!("{bat}/power_now"), "16000000");
    assert_eq!(power(&mut battery), Ok(Milliwatts(16_000)), "its own word for it");
    write(root.path(), &format!("{bat}/status"), "Charging");
    assert_eq!(power(&mut battery), Err(MeterFault::OnMains), "on mains");
    fs::remove_dir_all(root.path().join(bat)).unwrap();
    assert_eq!(power(&mut battery), Err(MeterFault::Gone), "taken out");
}

#[test]
fn the_best_meter_that_answers_is_opened() {
    let root = tree(ORIN_NANO);
    let wanted = Wanted { root: root.path().into(), ..Wanted::new(Kind::Auto) };
    assert_eq!(open(&wanted).unwrap().source(), Source::Ina3221, "the board's sensor");
    let laptop = tree(&[
        ("sys/class/power_supply/BAT0/type", "Battery"),
        ("sys/class/power_supply/BAT0/status", "Discharging"),
        ("sys/class/power_supply/BAT0/power_now", "9000000"),
    ]);
    let wanted = Wanted { root: laptop.path().into(), ..Wanted::new(Kind::Auto) };
    assert_eq!(open(&wanted).unwrap().source(), Source::Battery, "a laptop");
}

#[test]
fn the_power_mode_of_a_jetson_is_read() {
    let root = tree(&[("var/lib/nvpmodel/status", "pmode:0002")]);
    assert_eq!(power_mode(root.path()), Some(2), "MAXN_SUPER");
    write(root.path(), "var/lib/nvpmodel/status", "pmode:0010 fmode:quiet");
    assert_eq!(power_mode(root.path()), Some(10), "with more behind it");
    write(root.path(), "var/lib/nvpmodel/status", "?");
    assert_eq!(power_mode(root.path()), None, "nonsense");
    assert_eq!(power_mode(tree(&[]).path()), None, "no Jetson");
}

/// A meter whose answers a test decides.
struct Scripted(Box<dyn FnMut(Microseconds) -> Result<Draw, MeterFault> + Send>);

impl Meter for Scripted {
    fn source(&self) -> Source {
        Source::Hwmon
    }

    fn sample(&mut self, now: Microseconds) -> Result<Draw, MeterFault> {
        (self.0)(now)
    }
}

#[test]
fn a_thread_samples_and_anyone_may_read() {
    let mut step = 0;
    let meter = Scripted(Box::new(move |_| {
        step += 1;
        Ok(Draw::Power(Milliwatts(if step % 2 == 0 { 4000 } else { 6000 })))
    }));
    let sampler = Sampler::start(Box::new(meter), Microseconds(1000)).unwrap();
    std::thread::sleep(Duration::from_millis(30));
    let before = sampler.read();
    std::thread::sleep(Duration::from_millis(100));
    let after = sampler.read();
    let energy = after.since(&before).unwrap();
    let mean_mw = energy.0 * 1000 / after.at.since(before.at).0;
    // 5 W, within what a busy machine's scheduler does to the samples.
    assert!((4000..=6000).contains(&mean_mw), "{mean_mw} mW");
    assert_eq!(sampler.source(), Source::Hwmon, "label");
}

#[test]
fn a_meter_that_breaks_while_sampled_is_reported_and_comes_back() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    let broken = Arc::new(AtomicBool::new(false));
    let theirs = Arc::clone(&broken);
    let meter = Scripted(Box::new(move |now| match theirs.load(Ordering::SeqCst) {
        true => Err(MeterFault::Gone),
        false => Ok(Draw::Power(Milliwatts(5000 + now.0 as u32 % 2))),
    }));
    let sampler = Sampler::start(Box::new(meter), Microseconds(1000)).unwrap();
    let until = |is_fault: bool| {
        for _ in 0..2000 {
            if sampler.read().fault.is_some() == is_fault {
                return sampler.read();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("never");
    };
    let before = until(false);
    broken.store(true, Ordering::SeqCst);
    assert_eq!(until(true).since(&before), Err(MeterFault::Gone), "while it is broken");
    broken.store(false, Ordering::SeqCst);
    let back = until(false);
    assert_eq!(back.since(&before), Err(MeterFault::Gone), "what it missed is unknown");
}
