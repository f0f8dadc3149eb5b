//! Why a governor cannot be made. Once made, it cannot fail.

use core::fmt;

use crate::calibration::MAX_LEVELS;
use crate::config::MAX_WINDOW;
use crate::cost::MAX_SEGMENTS;

/// Settings, costs or a calibration that make no sense.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum GovernorError {
    /// No segments, or more than there is room for.
    Segments {
        /// Segments given.
        found: usize,
    },
    /// A segment's cost is negative, no number, or no time.
    SegmentCost {
        /// Which.
        segment: usize,
    },
    /// The head's cost is negative or no number.
    HeadCost,
    /// More thresholds than there is room for.
    Levels {
        /// Thresholds given.
        found: usize,
    },
    /// A level's threshold is not below the one before, or not from 0 to 1.
    Threshold {
        /// Which level.
        level: usize,
    },
    /// A level's agreement is above the one before, or not from 0 to 1.
    Agreement {
        /// Which level.
        level: usize,
    },
    /// A level's shares of exits do not sum to 1, or are not as many as there are segments.
    Exits {
        /// Which level.
        level: usize,
    },
    /// A floor outside 0 to 1.
    Floor,
    /// A window of too few or too many tokens.
    Window {
        /// Tokens given.
        found: usize,
    },
    /// A budget of zero, or of more than a kilojoule.
    Budget,
    /// A deadline of zero, or longer than an hour.
    Deadline,
    /// Goals that are not each named once.
    Sacrifice,
}

impl GovernorError {
    /// A stable number for logs of devices without text.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::Segments { .. } => 501,
            Self::SegmentCost { .. } => 502,
            Self::HeadCost => 503,
            Self::Levels { .. } => 504,
            Self::Threshold { .. } => 505,
            Self::Agreement { .. } => 506,
            Self::Exits { .. } => 507,
            Self::Floor => 508,
            Self::Window { .. } => 509,
            Self::Budget => 510,
            Self::Deadline => 511,
            Self::Sacrifice => 512,
        }
    }
}

impl fmt::Display for GovernorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Segments { found } => {
                write!(
                    f,
                    "{found} segments were given; 1 to {MAX_SEGMENTS} are possible: build with fewer exits"
                )
            }
            Self::SegmentCost { segment } => write!(
                f,
                "the cost of segment {segment} is negative, no number, or no time: profile the board again"
            ),
            Self::HeadCost => {
                write!(f, "the cost of the head is negative or no number: profile the board again")
            }
            Self::Levels { found } => write!(
                f,
                "the calibration has {found} thresholds; at most {} are possible: calibrate with fewer",
                MAX_LEVELS - 1
            ),
            Self::Threshold { level } => write!(
                f,
                "threshold {level} of the calibration is not below the one before, or not from 0 to 1: calibrate again"
            ),
            Self::Agreement { level } => write!(
                f,
                "agreement {level} of the calibration is above the one before, or not from 0 to 1: calibrate again"
            ),
            Self::Exits { level } => write!(
                f,
                "the shares of exits at level {level} of the calibration do not sum to 1 over the bundle's segments: \
                 calibrate again"
            ),
            Self::Floor => write!(f, "min_agreement is not from 0 to 1: write one like 0.98"),
            Self::Window { found } => {
                write!(
                    f,
                    "the window is {found} tokens; 8 to {MAX_WINDOW} are possible: write one like 64"
                )
            }
            Self::Budget => write!(
                f,
                "the energy budget is zero, or more than a kilojoule: write one like \"900 mJ\""
            ),
            Self::Deadline => {
                write!(f, "the deadline is zero, or longer than an hour: write one like \"120 ms\"")
            }
            Self::Sacrifice => {
                write!(
                    f,
                    "the order of sacrifice does not name agreement, latency and energy, each once"
                )
            }
        }
    }
}

impl core::error::Error for GovernorError {}
