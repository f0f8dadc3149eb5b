//! What was measured about exits: certified thresholds, and how agreement falls with the threshold.
//!
//! ```text
//! Lists { certificates, points, forced }   Certificate × certificates   Point × points
//! ```
//!
//! The content of the calibration section, as postcard values one after the other. It is decoded value by value, so
//! that a device without a heap can read it.

#[cfg(feature = "alloc")]
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::check::MAX_EXITS;
use crate::error::BundleError;
use crate::hash::Hash;
use crate::header::take;
use crate::program::StateMode;

/// What was counted as one independent observation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Unit {
    /// One token; its loss is 0 or 1.
    Token,
    /// One sequence; its loss is the share of its tokens that disagree.
    Sequence,
}

impl Unit {
    /// Several of them, in words.
    #[must_use]
    pub fn plural(self) -> &'static str {
        match self {
            Self::Token => "tokens",
            Self::Sequence => "sequences",
        }
    }
}

/// A guarantee: with probability `confidence` over the text it was calibrated on, tokens of such text differ from full
/// depth at a rate of at most `risk`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// What happened to the state of skipped layers.
    pub state: StateMode,
    /// A threshold for each exit on the probability of being settled; above 1: never leaves there.
    pub thresholds: [f32; MAX_EXITS],
    /// Most disagreement with full depth.
    pub risk: f32,
    /// Probability that this holds.
    pub confidence: f32,
    /// Observations.
    pub n: u64,
    /// What an observation was.
    pub unit: Unit,
    /// Disagreement that was observed.
    pub observed: f32,
    /// Mean share of the layers that tokens went through.
    pub depth_mean: f32,
    /// BLAKE3 of the tokens it was calibrated on.
    pub data: Hash,
}

/// What one threshold, the same at every exit, does on the calibration text.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// The threshold.
    pub threshold: f32,
    /// Share of the tokens that are those of full depth.
    pub agreement: f32,
    /// Share of the tokens that left at each exit.
    pub left: [f32; MAX_EXITS],
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Lists {
    certificates: u16,
    points: u16,
    /// Share of the tokens that would be those of full depth if all left at this exit.
    forced: [f32; MAX_EXITS],
}

/// The calibration section, every value of which is known to decode and to be in range.
#[derive(Clone, Copy, Debug)]
pub struct Calibration<'a> {
    lists: Lists,
    values: &'a [u8],
}

impl<'a> Calibration<'a> {
    /// Checks the content of a calibration section.
    ///
    /// # Errors
    ///
    /// A value that does not decode or is out of range; bytes behind the last.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BundleError> {
        let mut rest = bytes;
        let lists: Lists = take(&mut rest, "calibration", 0)?;
        let share = |share: &f32| (0.0..=1.0).contains(share);
        in_range(lists.forced.iter().all(share), "calibration", 0)?;
        let calibration = Self { lists, values: rest };
        for index in 0..lists.certificates {
            let certificate: Certificate = take(&mut rest, "certificate", index)?;
            in_range(certificate.is_in_range(), "certificate", index)?;
        }
        for index in 0..lists.points {
            let point: Point = take(&mut rest, "calibration point", index)?;
            in_range(point.is_in_range(), "calibration point", index)?;
        }
        in_range(rest.is_empty(), "calibration", 0)?;
        Ok(calibration)
    }

    /// The certificates, the one to use by default first.
    pub fn certificates(&self) -> impl Iterator<Item = Certificate> + use<'a> {
        let mut rest = self.values;
        (0..self.lists.certificates)
            .map_while(move |index| take(&mut rest, "certificate", index).ok())
    }

    /// How agreement falls with the threshold, from the most cautious on.
    pub fn points(&self) -> impl Iterator<Item = Point> + use<'a> {
        let mut rest = self.values;
        for index in 0..self.lists.certificates {
            let skipped: Result<Certificate, _> = take(&mut rest, "certificate", index);
            debug_assert!(skipped.is_ok(), "checked when it was parsed");
        }
        (0..self.lists.points).map_while(move |index| take(&mut rest, "point", index).ok())
    }

    /// For each exit, the share of the tokens that would be those of full depth if all left there.
    #[must_use]
    pub fn forced(&self) -> [f32; MAX_EXITS] {
        self.lists.forced
    }

    /// The certificate for a treatment of skipped state.
    #[must_use]
    pub fn certificate(&self, state: StateMode) -> Option<Certificate> {
        self.certificates().find(|certificate| certificate.state == state)
    }

    /// Writes the content of a calibration section.
    ///
    /// # Errors
    ///
    /// More than can be counted, or a number out of range.
    #[cfg(feature = "alloc")]
    pub fn emit(
        certificates: &[Certificate],
        points: &[Point],
        forced: [f32; MAX_EXITS],
    ) -> Result<Vec<u8>, BundleError> {
        let count = |what, found: usize| {
            let most = u64::from(u16::MAX);
            u16::try_from(found).map_err(|_| BundleError::TooMany {
                what,
                found: found as u64,
                most,
            })
        };
        let lists = Lists {
            certificates: count("certificates", certificates.len())?,
            points: count("calibration points", points.len())?,
            forced,
        };
        let malformed = |_| BundleError::Malformed { what: "calibration", index: 0 };
        let mut bytes = postcard::to_allocvec(&lists).map_err(malformed)?;
        for certificate in certificates {
            bytes.extend(postcard::to_allocvec(certificate).map_err(malformed)?);
        }
        for point in points {
            bytes.extend(postcard::to_allocvec(point).map_err(malformed)?);
        }
        Calibration::parse(&bytes).map(drop)?;
        Ok(bytes)
    }
}

impl Certificate {
    fn is_in_range(&self) -> bool {
        let thresholds = self.thresholds.iter().all(|threshold| (0.0..=2.0).contains(threshold));
        let rates = [self.risk, self.confidence, self.observed, self.depth_mean];
        thresholds && self.n > 0 && rates.iter().all(|rate| (0.0..=1.0).contains(rate))
    }
}

impl Point {
    fn is_in_range(&self) -> bool {
        let mut rates = [self.agreement].into_iter().chain(self.left);
        (0.0..=2.0).contains(&self.threshold) && rates.all(|rate| (0.0..=1.0).contains(&rate))
    }
}

fn in_range(fits: bool, what: &'static str, index: u16) -> Result<(), BundleError> {
    match fits {
        true => Ok(()),
        false => Err(BundleError::Malformed { what, index }),
    }
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use super::*;

    const FORCED: [f32; MAX_EXITS] = [0.9; MAX_EXITS];

    fn certificate(state: StateMode) -> Certificate {
        Certificate {
            state,
            thresholds: [0.75; MAX_EXITS],
            risk: 0.02,
            confidence: 0.95,
            n: 400,
            unit: Unit::Sequence,
            observed: 0.013,
            depth_mean: 0.6,
            data: Hash([7; 32]),
        }
    }

    fn point(threshold: f32) -> Point {
        Point { threshold, agreement: 0.97, left: [0.05; MAX_EXITS] }
    }

    #[test]
    fn what_was_written_is_read() {
        let certificates = [certificate(StateMode::Deferred), certificate(StateMode::Skip)];
        let points = [point(0.9), point(0.8), point(0.7)];
        let bytes = Calibration::emit(&certificates, &points, FORCED).unwrap();
        let read = Calibration::parse(&bytes).unwrap();
        assert!(read.certificates().eq(certificates), "certificates");
        assert!(read.points().eq(points), "points");
        assert_eq!(read.forced().map(f32::to_bits), FORCED.map(f32::to_bits), "if all left");
        assert_eq!(read.certificate(StateMode::Skip), Some(certificates[1]), "by treatment");
        assert_eq!(read.certificate(StateMode::Copy), None, "not certified");
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        let refused = |certificate| Calibration::emit(&[certificate], &[], FORCED).is_err();
        let sound = certificate(StateMode::Deferred);
        assert!(!refused(sound), "as it is");
        assert!(refused(Certificate { risk: -0.1, ..sound }), "a negative rate");
        assert!(refused(Certificate { observed: f32::NAN, ..sound }), "no number");
        assert!(refused(Certificate { thresholds: [2.5; MAX_EXITS], ..sound }), "a threshold");
        assert!(refused(Certificate { n: 0, ..sound }), "nothing observed");
        assert!(Calibration::emit(&[], &[point(-0.1)], FORCED).is_err(), "a point");
        assert!(Calibration::emit(&[], &[], [1.1; MAX_EXITS]).is_err(), "more than all");
    }

    #[test]
    fn any_truncation_and_any_excess_is_refused() {
        let bytes =
            Calibration::emit(&[certificate(StateMode::Copy)], &[point(0.5)], FORCED).unwrap();
        for len in 0..bytes.len() {
            assert!(Calibration::parse(&bytes[..len]).is_err(), "{len} bytes");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(Calibration::parse(&longer).is_err(), "one byte more");
    }
}
