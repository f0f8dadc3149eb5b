//! Energy where no meter is: joules for each byte and product, and watts for each second.

use super::Source;
use crate::cost::Rates;
use crate::units::{Microjoules, Microseconds};

/// Estimates energy. It is no [`Meter`](super::Meter): it sees nothing, and its label says so.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Modelled {
    rates: Rates,
}

impl Modelled {
    /// An estimate by a board's rates.
    #[must_use]
    pub fn new(rates: Rates) -> Self {
        Self { rates }
    }

    /// Always [`Source::Model`].
    #[must_use]
    pub fn source(&self) -> Source {
        Source::Model
    }

    /// Estimates the energy of something that moved `bytes`, multiplied `macs` times and took `elapsed`.
    #[must_use]
    pub fn energy(&self, bytes: u64, macs: u64, elapsed: Microseconds) -> Microjoules {
        let idle = self.rates.idle.over_round(elapsed);
        let picojoules = bytes as f64 * f64::from(self.rates.pj_per_byte)
            + macs as f64 * f64::from(self.rates.pj_per_mac);
        idle.plus(Microjoules::from_joules_round(picojoules / 1e12).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Milliwatts;

    #[test]
    fn bytes_products_and_time_cost_energy() {
        let rates = Rates {
            bandwidth_gb_s: 10.0,
            gmac_s: 10.0,
            idle: Milliwatts(5000),
            pj_per_byte: 150.0,
            pj_per_mac: 2.0,
        };
        // 5 W for 40 ms, 150 pJ for each of 1 GB, 2 pJ for each of 2 G products.
        let energy =
            Modelled::new(rates).energy(1_000_000_000, 2_000_000_000, Microseconds(40_000));
        assert_eq!(energy, Microjoules(200_000 + 150_000 + 4_000), "{energy}");
        assert_eq!(Modelled::new(rates).source().label(), "model", "and is called so");
    }
}
