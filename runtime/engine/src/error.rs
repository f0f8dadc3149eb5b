//! What can go wrong before the first token ([`LoadError`], [`ExitError`]), and with a request ([`StepError`]).

use core::fmt;

use dynamax_bundle::TensorId;
use dynamax_plan::PlanError;

/// A Program that cannot be given its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoadError {
    /// A context of zero tokens, or longer than the model was made for.
    Context {
        /// Tokens asked for.
        found: u32,
        /// Longest context of the model.
        max: u32,
    },
    /// Chunks of zero rows, or longer than the context.
    Rows {
        /// Rows asked for.
        found: u32,
        /// Most rows that make sense.
        max: u32,
    },
    /// More drafts than logits of rows that are computed together.
    Drafts {
        /// Drafts asked for.
        found: u32,
        /// Most drafts that can be verified.
        most: u32,
    },
    /// A weight's section has another size than its shape gives, or does not start at a multiple of 64 bytes.
    Weight {
        /// The weight.
        tensor: TensorId,
        /// Bytes of its section.
        found: u64,
        /// Bytes that its shape needs.
        expected: u64,
    },
    /// A size does not fit into this machine's addresses.
    TooLarge,
    /// The planner's result did not verify: a defect, not a fault of the bundle.
    Plan(PlanError),
    /// The caller's lists are too short for this Program.
    Storage {
        /// Entries needed.
        need: usize,
        /// Entries given.
        have: usize,
    },
    /// Less memory than the plan needs.
    Memory {
        /// Bytes that the plan needs.
        need: u64,
        /// Bytes given.
        have: u64,
        /// The longest context that would fit; 0: none.
        context_that_fits: u32,
        /// Rows at which that context fits.
        rows_that_fit: u32,
    },
}

impl LoadError {
    /// A stable number for logs of devices without text.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::Context { .. } => 301,
            Self::Rows { .. } => 302,
            Self::Weight { .. } => 303,
            Self::TooLarge => 304,
            Self::Plan(_) => 305,
            Self::Storage { .. } => 306,
            Self::Memory { .. } => 307,
            Self::Drafts { .. } => 308,
        }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Context { found, max } => {
                write!(
                    f,
                    "a context of {found} tokens was asked for; this bundle allows 1 to {max}: choose one of these"
                )
            }
            Self::Rows { found, max } => {
                write!(
                    f,
                    "chunks of {found} rows were asked for; 1 to {max} are possible: choose one of these"
                )
            }
            Self::Drafts { found, most } => write!(
                f,
                "{found} drafts were asked for and {most} can be verified together: ask for fewer, or plan more rows (--rows)"
            ),
            Self::Weight { tensor, found, expected } => write!(
                f,
                "tensor {} has {found} bytes or a misaligned start, its shape needs {expected} bytes at a multiple of \
                 64: build the bundle again",
                tensor.0
            ),
            Self::TooLarge => {
                write!(f, "a size exceeds this machine's address space: choose a shorter context")
            }
            Self::Plan(error) => {
                write!(f, "the memory plan did not verify ({error}); please report this")
            }
            Self::Storage { need, have } => {
                write!(f, "the Program needs {need} entries of storage, {have} were given")
            }
            Self::Memory { need, have, context_that_fits, rows_that_fit } => {
                write!(
                    f,
                    "the plan needs {need} bytes and {have} are allowed: {} are missing; ",
                    need - have
                )?;
                if context_that_fits == 0 {
                    write!(f, "no context fits: allow more memory, or build with a smaller --quant")
                } else {
                    write!(f, "--context {context_that_fits} --rows {rows_that_fit} would fit")
                }
            }
        }
    }
}

impl core::error::Error for LoadError {}

/// A request that a decoder refuses; its state is as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StepError {
    /// No tokens.
    Empty,
    /// A token id that the vocabulary lacks.
    Token {
        /// The id.
        found: u32,
        /// Number of ids.
        vocab_size: u32,
    },
    /// More tokens than the planned context holds.
    ContextFull {
        /// Tokens there would be.
        need: u64,
        /// Tokens planned for.
        context: u32,
    },
    /// More drafts than are in use.
    Drafts {
        /// How many.
        found: u32,
        /// Most that were planned; 0 where none are in use.
        most: u32,
    },
}

impl StepError {
    /// A stable number for logs of devices without text.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::Empty => 401,
            Self::Token { .. } => 402,
            Self::ContextFull { .. } => 403,
            Self::Drafts { .. } => 404,
        }
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Empty => write!(f, "the prompt has no tokens: give at least one"),
            Self::Token { found, vocab_size } => {
                write!(
                    f,
                    "token id {found} is not in the vocabulary of {vocab_size}: use ids 0 to {}",
                    vocab_size - 1
                )
            }
            Self::ContextFull { need, context } => write!(
                f,
                "{need} tokens do not fit into the planned context of {context}: plan a longer one (--context) or \
                 shorten the prompt"
            ),
            Self::Drafts { found, most } => write!(
                f,
                "{found} drafts were given and at most {most} can be verified: plan more (--drafts), or give fewer"
            ),
        }
    }
}

impl core::error::Error for StepError {}

/// A use of exits that a Program does not allow; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExitError {
    /// A Program without exits.
    NoExits,
    /// Keys and values cannot be copied from layer to layer.
    Copy,
    /// Tokens cannot be drafted: nothing was planned for it, state is not exact, or a recurrence cannot go back.
    Drafts,
    /// Tokens cannot be drafted on a device: its recurrences cannot go back.
    Device,
    /// More rows are to wait than were planned, or none can.
    Pending {
        /// Rows asked for.
        found: u32,
        /// Most rows that can wait.
        most: u32,
    },
}

impl ExitError {
    /// A stable number for logs of devices without text.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::NoExits => 501,
            Self::Copy => 502,
            Self::Pending { .. } => 503,
            Self::Drafts => 504,
            Self::Device => 505,
        }
    }
}

impl fmt::Display for ExitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NoExits => write!(
                f,
                "this bundle has no exits: train some (dynamax exits) and build with --exits, or use --exit off"
            ),
            Self::Copy => write!(
                f,
                "layers behind an exit have keys and values of another shape than those before it: use --state \
                 deferred, propagate or skip"
            ),
            Self::Drafts => write!(
                f,
                "tokens of this bundle cannot be drafted and verified (it needs --state deferred, --rows of 2 or more, and \
                 recurrences with a d_state of at most {}): use --exit off or fixed",
                dynamax_kernels::ops::MOST_D_STATE
            ),
            Self::Device => write!(
                f,
                "this backend cannot take back what a recurrence has read, as drafts need: use --backend cpu, or --exit off or fixed"
            ),
            Self::Pending { found, most } => write!(
                f,
                "{found} rows are to wait at exits and the plan has room for {most}: plan more (--rows) or let fewer wait"
            ),
        }
    }
}

impl core::error::Error for ExitError {}
