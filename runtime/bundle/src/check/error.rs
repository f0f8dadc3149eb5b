//! Why a Program is not sound.

use core::fmt;

/// An operator, by its place in the list and its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpAt {
    /// Its place.
    pub index: u16,
    /// Its name.
    pub name: &'static str,
}

impl fmt::Display for OpAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "operator {} ({})", self.index, self.name)
    }
}

/// Why a Program is not sound. `slot` is the operand's name in [`crate::Op`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the sentences below say what each field is")]
pub enum ProgramError {
    /// A list longer than ids can count.
    TooMany { what: &'static str, found: u64, most: u64 },
    /// A tensor that is wrong in itself.
    Entry { tensor: u16, expected: &'static str },
    /// A tensor with too few or too many numbers.
    Size { tensor: u16, what: &'static str, found: u64, most: u64 },
    /// Segments that do not follow each other.
    SegmentStart { segment: u16, found: u16, expected: u16 },
    /// A segment that is empty, or ends behind the operators.
    SegmentEnd { segment: u16, found: u16, least: u64, most: u64 },
    /// A segment with fewer layers than the one before.
    SegmentLayers { segment: u16, found: u16, least: u16 },
    /// No segment, or no head.
    Missing { what: &'static str },
    /// A residual that its segment does not write.
    Residual { segment: u16, tensor: u16 },
    /// A residual of another width.
    ResidualWidth { segment: u16, tensor: u16, found: u32, expected: u32 },
    /// The head does not start with what it should.
    HeadStart { op: OpAt },
    /// The head does not select the last residual.
    HeadInput { tensor: u16, expected: u16 },
    /// The last operator does not write the logits.
    Logits { tensor: u16, expected: u16 },
    /// An id without a tensor.
    NoSuchTensor { op: OpAt, slot: &'static str, tensor: u16, tensors: u64 },
    /// An operand of the wrong kind, layout or dtype.
    Operand { op: OpAt, slot: &'static str, tensor: u16, expected: &'static str },
    /// An operand with the wrong number of columns.
    Width { op: OpAt, slot: &'static str, tensor: u16, found: u32, expected: u64 },
    /// An operand with the wrong number of rows.
    RowCount { op: OpAt, slot: &'static str, tensor: u16, found: u32, expected: u64 },
    /// A number that does not divide another.
    NotDivisor { op: OpAt, constant: &'static str, found: u32, width: u32 },
    /// A constant out of range.
    Constant { op: OpAt, constant: &'static str, expected: &'static str },
    /// Two caches with different windows or dtypes.
    CachesDiffer { op: OpAt },
    /// An activation with many rows where one is expected, or the reverse.
    WrongRows { op: OpAt, tensor: u16, expected: &'static str },
    /// An operator where it may not stand.
    Misplaced { op: OpAt, expected: &'static str },
    /// An activation read before any operator writes it.
    ReadBeforeWrite { op: OpAt, tensor: u16 },
    /// An activation written by two operators.
    WrittenTwice { op: OpAt, tensor: u16 },
    /// An operator that writes what it reads.
    OutputIsInput { op: OpAt, tensor: u16 },
    /// A state updated twice.
    UpdatedTwice { op: OpAt, tensor: u16 },
    /// An activation or a state that no operator touches.
    Untouched { tensor: u16 },
    /// An embedding table without a row for each token.
    Vocabulary { op: OpAt, found: u32, expected: u32 },
    /// An activation of another segment, head or probe that is not the residual there.
    Crosses { op: OpAt, tensor: u16 },
    /// Exits that do not follow each other, or one with an empty part.
    ExitOps { exit: u16, what: &'static str, found: u16, expected: u16 },
    /// An exit at a segment that is not there, is the last, or comes before that of the exit before.
    ExitSegment { exit: u16, found: u16, least: u16, most: u64 },
    /// A score or logits that the last operator does not write, or of another width.
    ExitOutput { exit: u16, tensor: u16, expected: u32 },
}

impl ProgramError {
    /// A number that never changes its meaning, from 100.
    #[must_use]
    pub fn code(&self) -> u16 {
        match self {
            Self::TooMany { .. } => 100,
            Self::Entry { .. } => 101,
            Self::Size { .. } => 102,
            Self::SegmentStart { .. } => 103,
            Self::SegmentEnd { .. } => 104,
            Self::SegmentLayers { .. } => 105,
            Self::Missing { .. } => 106,
            Self::Residual { .. } => 107,
            Self::ResidualWidth { .. } => 108,
            Self::HeadStart { .. } => 109,
            Self::HeadInput { .. } => 110,
            Self::Logits { .. } => 111,
            Self::NoSuchTensor { .. } => 112,
            Self::Operand { .. } => 113,
            Self::Width { .. } => 114,
            Self::RowCount { .. } => 115,
            Self::NotDivisor { .. } => 116,
            Self::Constant { .. } => 117,
            Self::CachesDiffer { .. } => 118,
            Self::WrongRows { .. } => 119,
            Self::Misplaced { .. } => 120,
            Self::ReadBeforeWrite { .. } => 121,
            Self::WrittenTwice { .. } => 122,
            Self::OutputIsInput { .. } => 123,
            Self::UpdatedTwice { .. } => 124,
            Self::Untouched { .. } => 125,
            Self::Vocabulary { .. } => 126,
            Self::Crosses { .. } => 127,
            Self::ExitOps { .. } => 128,
            Self::ExitSegment { .. } => 129,
            Self::ExitOutput { .. } => 130,
        }
    }
}

impl fmt::Display for ProgramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TooMany { what, found, most } => {
                write!(f, "there are {found} {what}, at most {most} are expected")
            }
            Self::Entry { tensor, expected } => write!(f, "tensor {tensor}: expected {expected}"),
            Self::Size { tensor, what, found, most } => {
                write!(f, "tensor {tensor} has {found} {what}, expected 1 to {most}")
            }
            Self::SegmentStart { segment, found, expected } => {
                write!(f, "segment {segment} starts at operator {found}, expected {expected}")
            }
            Self::SegmentEnd { segment, found, least, most } => {
                write!(f, "segment {segment} ends at operator {found}, expected {least} to {most}")
            }
            Self::SegmentLayers { segment, found, least } => {
                write!(f, "segment {segment} ends after {found} layers, expected at least {least}")
            }
            Self::Missing { what } => write!(f, "there is no {what}"),
            Self::Residual { segment, tensor } => {
                write!(f, "segment {segment} does not write its residual, tensor {tensor}")
            }
            Self::ResidualWidth { segment, tensor, found, expected } => write!(
                f,
                "the residual of segment {segment}, tensor {tensor}, has width {found}, expected {expected}"
            ),
            Self::HeadStart { op } => write!(f, "the head starts with {op}, expected a select"),
            Self::HeadInput { tensor, expected } => {
                write!(
                    f,
                    "the head selects tensor {tensor}, expected the last residual, {expected}"
                )
            }
            Self::Logits { tensor, expected } => {
                write!(
                    f,
                    "the last operator writes tensor {tensor}, expected the logits, {expected}"
                )
            }
            Self::ExitOps { exit, what, found, expected } => {
                write!(f, "exit {exit} {what} at operator {found}, expected {expected}")
            }
            Self::ExitSegment { exit, found, least, most } => {
                write!(f, "exit {exit} stands at segment {found}, expected {least} to {most}")
            }
            Self::ExitOutput { exit, tensor, expected } => write!(
                f,
                "exit {exit}: tensor {tensor} is not what its last operator writes, of width {expected}"
            ),
            _ => self.fmt_op(f),
        }
    }
}

impl ProgramError {
    /// The errors of one operator.
    fn fmt_op(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NoSuchTensor { op, slot, tensor, tensors } => {
                write!(f, "{op}: `{slot}` is tensor {tensor}, there are {tensors}")
            }
            Self::Operand { op, slot, tensor, expected } => {
                write!(f, "{op}: `{slot}`, tensor {tensor}, is not {expected}")
            }
            Self::Width { op, slot, tensor, found, expected } => {
                write!(f, "{op}: `{slot}`, tensor {tensor}, has width {found}, expected {expected}")
            }
            Self::RowCount { op, slot, tensor, found, expected } => {
                write!(f, "{op}: `{slot}`, tensor {tensor}, has {found} rows, expected {expected}")
            }
            Self::NotDivisor { op, constant, found, width } => {
                write!(f, "{op}: `{constant}` is {found}, expected a divisor of {width}")
            }
            Self::Constant { op, constant, expected } => {
                write!(f, "{op}: `{constant}` is out of range, expected {expected}")
            }
            Self::CachesDiffer { op } => {
                write!(f, "{op}: the caches differ, expected one window and one dtype")
            }
            Self::WrongRows { op, tensor, expected } => {
                write!(f, "{op}: tensor {tensor} does not have {expected}")
            }
            Self::Misplaced { op, expected } => write!(f, "{op} stands {expected}"),
            Self::ReadBeforeWrite { op, tensor } => {
                write!(f, "{op} reads tensor {tensor}, which is not written before")
            }
            Self::WrittenTwice { op, tensor } => {
                write!(f, "{op} writes tensor {tensor}, which is written before")
            }
            Self::OutputIsInput { op, tensor } => {
                write!(f, "{op} writes tensor {tensor}, which it reads")
            }
            Self::UpdatedTwice { op, tensor } => {
                write!(f, "{op} updates tensor {tensor}, which is updated before")
            }
            Self::Untouched { tensor } => {
                write!(f, "no operator writes or updates tensor {tensor}")
            }
            Self::Vocabulary { op, found, expected } => {
                write!(
                    f,
                    "{op}: the table has {found} rows, expected one for each of {expected} logits"
                )
            }
            Self::Crosses { op, tensor } => {
                write!(f, "{op} reads tensor {tensor}, which is gone there: only a residual passes")
            }
            // The rest has its sentence in `Display`.
            _ => Ok(()),
        }
    }
}

impl core::error::Error for ProgramError {}
