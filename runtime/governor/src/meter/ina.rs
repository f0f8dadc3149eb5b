//! Texas Instruments' INA3221, INA226 and INA219 over any `embedded-hal` I2C bus.
//!
//! ```text
//! register        INA3221                     INA226             INA219
//! configuration   0x00                        0x00               0x00
//! shunt voltage   0x01 0x03 0x05, >>3, 40 uV  0x01, 2.5 uV       0x01, 10 uV
//! bus voltage     0x02 0x04 0x06, >>3,  8 mV  0x02, 1.25 mV      0x02, >>3, 4 mV
//! identity        0xfe 0x5449, 0xff 0x3220    0x5449, 0xff 0x2260  none
//! ```
//!
//! Power is the product of the two voltages over the shunt. On a Jetson the kernel's driver owns the chip and has set it up, so
//! that nothing is ever written here: a channel that is switched off is a fault, and stays off.
//! (INA3221: SBOS576; INA226: SBOS547; INA219: SBOS448.)

use core::fmt;

use embedded_hal::i2c::I2c;

use super::{Draw, Meter, Source};
use crate::integrator::MeterFault;
use crate::units::{Microseconds, Milliwatts};

/// Most channels that are added up.
pub const MAX_CHANNELS: usize = 8;

/// A kind of chip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chip {
    /// Three channels, 13 bits.
    Ina3221,
    /// One channel, 16 bits.
    Ina226,
    /// One channel, 12 bits.
    Ina219,
}

/// A channel of a chip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channel {
    /// The chip's address.
    pub address: u8,
    /// The channel, from 1. An INA226 and an INA219 have one.
    pub channel: u8,
    /// The resistor, in microohms.
    pub shunt_uohm: u32,
}

/// A chip that is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InaError<E> {
    /// The bus failed, or no chip answered.
    Bus(E),
    /// Another chip answered.
    Identity {
        /// At this address.
        address: u8,
        /// What it calls itself.
        found: u16,
    },
    /// The channel is switched off, or the chip sleeps.
    Off {
        /// At this address.
        address: u8,
        /// Its configuration.
        configuration: u16,
    },
    /// No channels, too many, or one that the chip does not have.
    Channels,
    /// A shunt of nothing.
    Shunt,
}

impl<E: fmt::Debug> fmt::Display for InaError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bus(error) => {
                write!(
                    f,
                    "the I2C bus failed ({error:?}): check the bus, the address and the wires"
                )
            }
            Self::Identity { address, found } => {
                write!(
                    f,
                    "the chip at {address:#04x} calls itself {found:#06x}, which is another: check the address"
                )
            }
            Self::Off { address, configuration } => write!(
                f,
                "the chip at {address:#04x} does not measure (configuration {configuration:#06x}): enable the channel in the \
                 device tree"
            ),
            Self::Channels => {
                write!(f, "1 to {MAX_CHANNELS} channels, each 1 to 3, can be added up")
            }
            Self::Shunt => write!(f, "a shunt of nothing was given: write it like \"5 mOhm\""),
        }
    }
}

impl<E: fmt::Debug> core::error::Error for InaError<E> {}

impl Chip {
    fn source(self) -> Source {
        match self {
            Self::Ina3221 => Source::Ina3221,
            Self::Ina226 => Source::Ina226,
            Self::Ina219 => Source::Ina219,
        }
    }

    fn channels(self) -> u8 {
        if self == Self::Ina3221 { 3 } else { 1 }
    }

    /// What the chip must say that it is.
    fn identity(self) -> Option<(u8, u16)> {
        match self {
            Self::Ina3221 => Some((0xff, 0x3220)),
            Self::Ina226 => Some((0xff, 0x2260)),
            Self::Ina219 => None,
        }
    }

    /// Whether both voltages of a channel are measured all the time.
    fn is_on(self, configuration: u16, channel: u8) -> bool {
        let is_continuous = configuration & 7 == 7;
        is_continuous
            && (self != Self::Ina3221 || configuration >> (15 - u16::from(channel)) & 1 == 1)
    }

    /// Nanovolts over the shunt.
    fn shunt_nv(self, register: u16) -> i64 {
        let signed = i64::from(register.cast_signed());
        match self {
            Self::Ina3221 => (signed >> 3) * 40_000,
            Self::Ina226 => signed * 2_500,
            Self::Ina219 => signed * 10_000,
        }
    }

    /// Microvolts of the bus.
    fn bus_uv(self, register: u16) -> i64 {
        match self {
            Self::Ina3221 => i64::from(register.cast_signed() >> 3) * 8_000,
            Self::Ina226 => i64::from(register) * 1_250,
            Self::Ina219 => i64::from(register >> 3) * 4_000,
        }
    }
}

/// Channels of chips of one kind on one bus, added up.
#[derive(Debug)]
pub struct Ina<I> {
    bus: I,
    chip: Chip,
    channels: [Channel; MAX_CHANNELS],
    count: usize,
}

impl<I: I2c> Ina<I> {
    /// Looks whether every chip is there, is what it should be, and measures.
    ///
    /// # Errors
    ///
    /// What is not as it should be.
    pub fn new(bus: I, chip: Chip, channels: &[Channel]) -> Result<Self, InaError<I::Error>> {
        let count = channels.len();
        let has = |channel: &Channel| (1..=chip.channels()).contains(&channel.channel);
        if !(1..=MAX_CHANNELS).contains(&count) || !channels.iter().all(has) {
            return Err(InaError::Channels);
        }
        if channels.iter().any(|channel| channel.shunt_uohm == 0) {
            return Err(InaError::Shunt);
        }
        let mut stored = [channels[0]; MAX_CHANNELS];
        stored[..count].copy_from_slice(channels);
        let mut ina = Self { bus, chip, channels: stored, count };
        for channel in channels {
            ina.check(channel)?;
        }
        Ok(ina)
    }

    /// Power of all channels.
    ///
    /// # Errors
    ///
    /// What the bus says.
    pub fn power(&mut self) -> Result<Milliwatts, I::Error> {
        let mut sum = 0;
        for index in 0..self.count {
            sum += self.channel_uw(self.channels[index])?;
        }
        Ok(Milliwatts(u32::try_from((sum + 500) / 1000).unwrap_or(0)))
    }

    /// Gives the bus back.
    pub fn release(self) -> I {
        self.bus
    }

    fn check(&mut self, channel: &Channel) -> Result<(), InaError<I::Error>> {
        let address = channel.address;
        if let Some((register, expected)) = self.chip.identity() {
            let found = self.read(address, register).map_err(InaError::Bus)?;
            if found != expected {
                return Err(InaError::Identity { address, found });
            }
        }
        let configuration = self.read(address, 0x00).map_err(InaError::Bus)?;
        if !self.chip.is_on(configuration, channel.channel) {
            return Err(InaError::Off { address, configuration });
        }
        Ok(())
    }

    /// Microwatts of one channel. A current that flows back counts as what it is: less than nothing.
    fn channel_uw(&mut self, channel: Channel) -> Result<i64, I::Error> {
        let first = 2 * (channel.channel - 1);
        let shunt = self.read(channel.address, first + 1)?;
        let bus = self.read(channel.address, first + 2)?;
        let current_ua = self.chip.shunt_nv(shunt) * 1000 / i64::from(channel.shunt_uohm);
        Ok(current_ua * self.chip.bus_uv(bus) / 1_000_000)
    }

    fn read(&mut self, address: u8, register: u8) -> Result<u16, I::Error> {
        let mut answer = [0; 2];
        self.bus.write_read(address, &[register], &mut answer)?;
        Ok(u16::from_be_bytes(answer))
    }
}

impl<I: I2c> Meter for Ina<I> {
    fn source(&self) -> Source {
        self.chip.source()
    }

    fn sample(&mut self, _now: Microseconds) -> Result<Draw, MeterFault> {
        // A bus that is stuck reads as all ones: -1 over the shunt, and a voltage that none of these can measure.
        self.power().map(Draw::Power).map_err(|_| MeterFault::Gone)
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use embedded_hal::i2c::{Error, ErrorKind, ErrorType, NoAcknowledgeSource, Operation};

    use super::*;

    /// A bus that expects these bytes and gives these answers, in this order, and nothing else.
    #[derive(Debug)]
    struct Script {
        expected: Vec<(u8, u8, Result<u16, NoAnswer>)>,
        done: usize,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct NoAnswer;

    impl Error for NoAnswer {
        fn kind(&self) -> ErrorKind {
            ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address)
        }
    }

    impl ErrorType for Script {
        type Error = NoAnswer;
    }

    impl I2c for Script {
        fn transaction(
            &mut self,
            address: u8,
            operations: &mut [Operation<'_>],
        ) -> Result<(), NoAnswer> {
            let (expected_address, register, answer) = self.expected[self.done];
            self.done += 1;
            assert_eq!(address, expected_address, "transaction {}", self.done);
            let [Operation::Write(written), Operation::Read(read)] = operations else {
                panic!("a write of the register, then a read, without a stop between them");
            };
            assert_eq!(*written, [register], "transaction {}", self.done);
            assert_eq!(read.len(), 2, "transaction {}", self.done);
            read.copy_from_slice(&answer?.to_be_bytes());
            Ok(())
        }
    }

    fn script(expected: &[(u8, u8, u16)]) -> Script {
        let expected =
            expected.iter().map(|(address, register, answer)| (*address, *register, Ok(*answer)));
        Script { expected: expected.collect(), done: 0 }
    }

    const VDD_IN: Channel = Channel { address: 0x40, channel: 1, shunt_uohm: 5000 };

    #[test]
    fn an_ina3221_is_read_byte_for_byte() {
        let bus = script(&[
            (0x40, 0xff, 0x3220),
            (0x40, 0x00, 0x7127),
            // 0x01f4 >> 3 = 62 steps of 40 uV = 2480 uV over 5 mOhm: 496 mA; 0x13a8 >> 3 = 629 steps of 8 mV: 5.032 V.
            (0x40, 0x01, 0x01f4),
            (0x40, 0x02, 0x13a8),
        ]);
        let mut ina = Ina::new(bus, Chip::Ina3221, &[VDD_IN]).unwrap();
        // 496 mA at 5032 mV.
        assert_eq!(ina.power(), Ok(Milliwatts(2496)), "power");
        assert_eq!(ina.source().label(), "ina3221", "label");
        assert_eq!(ina.release().done, 4, "no transaction more");
    }

    #[test]
    fn channels_of_two_chips_are_added_up() {
        let second = Channel { address: 0x41, channel: 2, shunt_uohm: 2000 };
        let bus = script(&[
            (0x40, 0xff, 0x3220),
            (0x40, 0x00, 0x7127),
            (0x41, 0xff, 0x3220),
            (0x41, 0x00, 0x2127),
            (0x40, 0x01, 0x0190),
            (0x40, 0x02, 0x1388),
            // The second channel's registers.
            (0x41, 0x03, 0x0050),
            (0x41, 0x04, 0x1388),
        ]);
        let mut ina = Ina::new(bus, Chip::Ina3221, &[VDD_IN, second]).unwrap();
        // 50·40 uV / 5 mOhm = 400 mA at 625·8 mV = 5 V: 2 W; 10·40 uV / 2 mOhm = 200 mA at 5 V: 1 W.
        assert_eq!(ina.power(), Ok(Milliwatts(3000)), "power");
        assert_eq!(ina.release().done, 8, "no transaction more");
    }

    #[test]
    fn an_ina226_and_an_ina219_are_read_byte_for_byte() {
        let channel = Channel { address: 0x45, channel: 1, shunt_uohm: 100_000 };
        // 0x2710 = 10000 steps of 2.5 uV = 25 mV over 100 mOhm: 250 mA; 0x2570 = 9584 steps of 1.25 mV: 11.98 V.
        let bus = script(&[
            (0x45, 0xff, 0x2260),
            (0x45, 0x00, 0x4127),
            (0x45, 0x01, 0x2710),
            (0x45, 0x02, 0x2570),
        ]);
        let mut ina = Ina::new(bus, Chip::Ina226, &[channel]).unwrap();
        assert_eq!(ina.power(), Ok(Milliwatts(2995)), "INA226");
        // 0x09c4 = 2500 steps of 10 uV = 25 mV: 250 mA; 0x5d98 >> 3 = 2995 steps of 4 mV: 11.98 V. No identity to ask for.
        let bus = script(&[(0x45, 0x00, 0x399f), (0x45, 0x01, 0x09c4), (0x45, 0x02, 0x5d9a)]);
        let mut ina = Ina::new(bus, Chip::Ina219, &[channel]).unwrap();
        assert_eq!(ina.power(), Ok(Milliwatts(2995)), "INA219");
    }

    #[test]
    fn a_current_that_flows_back_does_not_wrap() {
        // -1 step: 40 uV the other way.
        let bus = script(&[
            (0x40, 0xff, 0x3220),
            (0x40, 0x00, 0x7127),
            (0x40, 0x01, 0xfff8),
            (0x40, 0x02, 0x1388),
        ]);
        let mut ina = Ina::new(bus, Chip::Ina3221, &[VDD_IN]).unwrap();
        assert_eq!(ina.power(), Ok(Milliwatts(0)), "at least nothing");
    }

    #[test]
    fn a_chip_that_is_not_as_it_should_be_is_refused() {
        let refused = |bus: Script| Ina::new(bus, Chip::Ina3221, &[VDD_IN]).unwrap_err();
        let other = script(&[(0x40, 0xff, 0x2260)]);
        assert_eq!(
            refused(other),
            InaError::Identity { address: 0x40, found: 0x2260 },
            "an INA226"
        );
        let asleep = script(&[(0x40, 0xff, 0x3220), (0x40, 0x00, 0x7120)]);
        assert_eq!(
            refused(asleep),
            InaError::Off { address: 0x40, configuration: 0x7120 },
            "asleep"
        );
        let disabled = script(&[(0x40, 0xff, 0x3220), (0x40, 0x00, 0x3127)]);
        assert_eq!(
            refused(disabled),
            InaError::Off { address: 0x40, configuration: 0x3127 },
            "channel off"
        );
        let absent = Script { expected: std::vec![(0x40, 0xff, Err(NoAnswer))], done: 0 };
        assert_eq!(refused(absent), InaError::Bus(NoAnswer), "nobody there");
        let nothing = script(&[]);
        assert_eq!(
            Ina::new(nothing, Chip::Ina3221, &[]).unwrap_err(),
            InaError::Channels,
            "no channels"
        );
        let fourth = Channel { channel: 4, ..VDD_IN };
        assert_eq!(
            Ina::new(script(&[]), Chip::Ina3221, &[fourth]).unwrap_err(),
            InaError::Channels,
            "none"
        );
        let second = Channel { channel: 2, ..VDD_IN };
        assert_eq!(
            Ina::new(script(&[]), Chip::Ina226, &[second]).unwrap_err(),
            InaError::Channels,
            "one"
        );
        let short = Channel { shunt_uohm: 0, ..VDD_IN };
        assert_eq!(
            Ina::new(script(&[]), Chip::Ina3221, &[short]).unwrap_err(),
            InaError::Shunt,
            "no shunt"
        );
    }

    #[test]
    fn a_chip_that_disappears_is_a_fault_until_it_is_back() {
        let mut bus = script(&[(0x40, 0xff, 0x3220), (0x40, 0x00, 0x7127)]);
        bus.expected.push((0x40, 0x01, Err(NoAnswer)));
        bus.expected.extend([(0x40, 0x01, Ok(0x0190)), (0x40, 0x02, Ok(0x1388))]);
        let mut ina = Ina::new(bus, Chip::Ina3221, &[VDD_IN]).unwrap();
        assert_eq!(ina.sample(Microseconds(0)), Err(MeterFault::Gone), "gone");
        assert_eq!(ina.sample(Microseconds(1)), Ok(Draw::Power(Milliwatts(2000))), "back");
    }
}
