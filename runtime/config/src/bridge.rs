//! From what a file says to what the governor and the meters are told.

use dynamax_governor::meter::{Channel, Kind, Wanted};
use dynamax_governor::{Exits, Goal as Yields, GovernorConfig, OnMeterFault as OnFault, Rates};

use crate::board::{Board, Isa};
use crate::device::{DeviceConfig, ExitMode, Goal, Meter, OnMeterFault, StatePolicy};

/// Share of the data sheet's bandwidth that decoding reaches, where nobody measured it.
const REACHED: f64 = 0.7;

impl Board {
    /// What it can do with so many cores: estimates, until `dynamax profile` has measured it.
    #[must_use]
    pub fn rates(&self, cores: u32) -> Rates {
        // Thousand million products of 8 bits a second and core; what our kernels reach on machines like it.
        let of_core = match self.isa {
            Some(Isa::NeonDotprod) => 12.0,
            Some(Isa::Neon) => 4.0,
            Some(Isa::Avx2) | None => 10.0,
            Some(Isa::Avx512Vnni) => 30.0,
        };
        Rates {
            bandwidth_gb_s: (self.bandwidth_gb_s * REACHED) as f32,
            gmac_s: of_core * cores.max(1) as f32,
            idle: self.idle,
            pj_per_byte: self.picojoules_per_byte as f32,
            pj_per_mac: self.picojoules_per_mac as f32,
        }
    }
}

impl Board {
    /// What becomes of time and energy when the power mode changes: for
    /// [`power_mode_changed`](dynamax_governor::Governor::power_mode_changed). `None` for modes that are not known.
    ///
    /// Bytes take as much longer as the memory is slower; they cost as much as before, but idle power flows longer.
    #[must_use]
    pub fn mode_change(&self, from: u32, to: u32) -> Option<(f32, f32)> {
        let bandwidth =
            |id| self.modes.iter().find(|mode| mode.id == id).map(|mode| mode.bandwidth_gb_s);
        let (before, after) = (bandwidth(from)?, bandwidth(to)?);
        // Picojoules of a byte; a watt for a nanosecond is a thousand of them.
        let energy =
            |gb_s: f64| f64::from(self.idle.0) / (gb_s * REACHED) + self.picojoules_per_byte;
        Some(((before / after) as f32, (energy(after) / energy(before)) as f32))
    }
}

impl DeviceConfig {
    /// The board that the file names.
    ///
    /// # Errors
    ///
    /// A name that is not known; a file that was read has been checked for it.
    pub fn board(&self) -> Result<Board, String> {
        Board::named(&self.device.board)
    }

    /// What the governor is told; `rows` is how many rows may wait, where the state of skipped layers is deferred.
    #[must_use]
    pub fn governor(&self, rows: u16) -> GovernorConfig {
        let exits = match self.exit.mode {
            ExitMode::Verified => {
                Exits::Drafts { most: u8::try_from(self.exit.draft_length).unwrap_or(u8::MAX) }
            }
            ExitMode::Off | ExitMode::Fixed | ExitMode::Budget => Exits::Final,
        };
        let yields = |goal| match goal {
            Goal::Agreement => Yields::Agreement,
            Goal::Latency => Yields::Latency,
            Goal::Energy => Yields::Energy,
        };
        let below =
            |battery: crate::device::BelowBattery| (battery.level as f32, battery.energy_per_token);
        GovernorConfig {
            energy_per_token: self.budget.energy_per_token,
            latency_per_token: self.budget.latency_per_token,
            window: self.budget.window as usize,
            sacrifice: self.budget.sacrifice.map(yields),
            min_agreement: self.exit.min_agreement as f32,
            exits,
            rows_that_may_wait: if self.exit.state == StatePolicy::Deferred { rows } else { 0 },
            on_meter_fault: match self.power.on_meter_fault {
                OnMeterFault::Continue => OnFault::Continue,
                OnMeterFault::Stop => OnFault::Stop,
            },
            below_battery: self.power.below_battery.map(below),
        }
    }

    /// The meter to open; `None`: energy is to be modelled.
    #[must_use]
    pub fn meter(&self) -> Option<Wanted> {
        let kind = match self.power.meter {
            Meter::Auto => Kind::Auto,
            Meter::Ina3221 => Kind::Ina3221,
            Meter::Hwmon => Kind::Hwmon,
            Meter::Ina226 => Kind::Ina226,
            Meter::Ina219 => Kind::Ina219,
            Meter::Rapl => Kind::Rapl,
            Meter::Battery => Kind::Battery,
            Meter::Trace => Kind::Trace,
            Meter::Model => return None,
        };
        let mut wanted = Wanted::new(kind);
        let board = self.board().ok();
        let rails = board.as_ref().map_or(&[][..], |board| &board.rails);
        let is_wanted = |name: &str, is_in_total: bool| match &self.power.rail {
            Some(rail) => rail == name,
            None => is_in_total && matches!(kind, Kind::Auto | Kind::Ina3221),
        };
        for rail in rails.iter().filter(|rail| is_wanted(&rail.name, rail.is_in_total)) {
            wanted.rails.push(rail.name.clone());
            wanted.channels.push(Channel {
                address: self.power.address.map_or(rail.address, |address| address as u8),
                channel: rail.channel,
                shunt_uohm: self.power.shunt.unwrap_or(rail.shunt).0,
            });
        }
        if let (Some(rail), true) = (&self.power.rail, wanted.rails.is_empty()) {
            wanted.rails.push(rail.clone());
        }
        if let (Some(shunt), true) = (self.power.shunt, wanted.channels.is_empty()) {
            let address = self.power.address.unwrap_or(0x40) as u8;
            wanted.channels.push(Channel { address, channel: 1, shunt_uohm: shunt.0 });
        }
        wanted.bus =
            self.power.bus.clone().or_else(|| board.and_then(|board| board.bus).map(Into::into));
        wanted.trace.clone_from(&self.power.trace);
        Some(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> DeviceConfig {
        DeviceConfig::from_text("device.toml", text).unwrap()
    }

    #[test]
    fn the_governor_is_told_what_the_file_says() {
        let text = "[budget]\nenergy_per_token = \"900 mJ\"\nlatency_per_token = \"120 ms\"\nwindow = 128\n\
                    sacrifice = [\"latency\", \"energy\", \"agreement\"]\n[exit]\nmin_agreement = 0.9\n";
        let config = read(text).governor(16);
        assert_eq!(config.validate(), Ok(()), "{config:?}");
        assert_eq!(
            (config.energy_per_token.unwrap().0, config.latency_per_token.unwrap().0),
            (900_000, 120_000),
            "budgets"
        );
        assert_eq!((config.window, config.rows_that_may_wait), (128, 16), "window, rows");
        assert!(config.gives_way_before(Yields::Latency, Yields::Agreement), "order");
        let verified =
            read("[exit]\nmode = \"verified\"\nstate = \"copy\"\ndraft_length = 6\n").governor(16);
        assert_eq!(
            (verified.exits, verified.rows_that_may_wait),
            (Exits::Drafts { most: 6 }, 0),
            "drafts"
        );
    }

    #[test]
    fn every_default_makes_a_governor() {
        assert_eq!(DeviceConfig::default().governor(8).validate(), Ok(()), "the empty file");
    }

    #[test]
    fn the_boards_rails_are_measured_unless_one_is_named() {
        let agx = read("[device]\nboard = \"jetson-agx-orin-64gb\"\n").meter().unwrap();
        assert_eq!(agx.rails, ["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"], "the total");
        assert_eq!(
            agx.channels[2],
            Channel { address: 0x40, channel: 3, shunt_uohm: 2000 },
            "over I2C"
        );
        assert_eq!(agx.bus, Some("/dev/i2c-1".into()), "the board's bus");
        let text = "[device]\nboard = \"jetson-orin-nano-8gb\"\n[power]\nmeter = \"ina3221\"\nrail = \"VDD_SOC\"\nshunt = \"10 mOhm\"\n";
        let soc = read(text).meter().unwrap();
        assert_eq!(
            soc.channels,
            [Channel { address: 0x40, channel: 3, shunt_uohm: 10_000 }],
            "one rail, another shunt"
        );
        let text = "[power]\nmeter = \"ina226\"\nshunt = \"100 mOhm\"\naddress = 0x45\nbus = \"/dev/i2c-3\"\n";
        let own = read(text).meter().unwrap();
        assert_eq!(
            own.channels,
            [Channel { address: 0x45, channel: 1, shunt_uohm: 100_000 }],
            "a chip of one's own"
        );
        assert_eq!(read("[power]\nmeter = \"model\"\n").meter(), None, "none");
        assert_eq!(
            read("[power]\nmeter = \"hwmon\"\nrail = \"ina226.1\"\n").meter().unwrap().rails,
            ["ina226.1"],
            "believed"
        );
    }

    #[test]
    fn a_slower_power_mode_takes_longer_and_a_little_more() {
        let board = Board::named("jetson-orin-nano-8gb").unwrap();
        let (time, energy) = board.mode_change(0, 1).unwrap();
        // 68 to 45.3 GB/s. 4.5 W at 47.6 GB/s are 94.5 pJ a byte, at 31.7 GB/s 141.9, and 150 with both.
        assert!(
            (time - 1.501).abs() < 0.001 && (energy - 291.9 / 244.5).abs() < 0.001,
            "{time} {energy}"
        );
        assert_eq!(board.mode_change(0, 0), Some((1.0, 1.0)), "the same");
        assert_eq!(board.mode_change(0, 9), None, "no such mode");
    }

    #[test]
    fn a_board_is_slower_with_fewer_cores() {
        let board = Board::named("jetson-orin-nano-8gb").unwrap();
        assert!(board.rates(2).gmac_s < board.rates(6).gmac_s, "arithmetic");
        assert!((board.rates(6).bandwidth_gb_s - 47.6).abs() < 0.1, "70 % of 68 GB/s");
    }
}
