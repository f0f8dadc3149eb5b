//! Opens the bundle inside the image, plans it into static memory, and speaks.

use core::fmt;

use dynamax_bundle::check::MAX_EXITS;
use dynamax_bundle::{Bundle, BundleError, Exit, Op, Segment, Tensor};
use dynamax_engine::decoder::Crew;
use dynamax_engine::memory::{Slot, Storage};
use dynamax_engine::{Decoder, Line, LoadError, Model, Settings, StepError};
use dynamax_kernels::Isa;
use dynamax_plan::Buffer;
use embedded_io::Write;
use heapless::Vec;

use crate::once::Once;
use crate::uart::Uart;

/// Bytes at a multiple of 64, as sections need them.
#[repr(C, align(64))]
struct Aligned<B: ?Sized>(B);

/// The demo that the command line carries.
static BUNDLE: &Aligned<[u8]> = &Aligned(*include_bytes!("../../../tools/cli/demo/mamba2.dmx"));

/// The prompt, and how many tokens follow. `cargo xtask qemu` asks the command line for the same.
const PROMPT: [u32; 4] = [5, 6, 7, 8];
const TOKENS: usize = 24;
const SETTINGS: Settings = Settings::new(64, 8);

/// Room for the lists of a Program, and for what a decoder works in. What is too small is said with the need.
const TENSORS: usize = 512;
const OPS: usize = 256;
const SEGMENTS: usize = 16;
const LISTS: usize = TENSORS + OPS;
const LINES: usize = (2 << 20) / Line::BYTES;

const NOTHING: Buffer = Buffer { lower: 0, upper: 0, size: 0 };

static TENSOR_LIST: Once<[Tensor; TENSORS]> = Once::new([Tensor::EMPTY; TENSORS]);
static OP_LIST: Once<[Op; OPS]> = Once::new([Op::EMPTY; OPS]);
static SEGMENT_LIST: Once<[Segment; SEGMENTS]> = Once::new([Segment::EMPTY; SEGMENTS]);
static EXIT_LIST: Once<[Exit; MAX_EXITS]> = Once::new([Exit::EMPTY; MAX_EXITS]);
static SLOTS: Once<[Slot<'static>; LISTS]> = Once::new([Slot::EMPTY; LISTS]);
static BUFFERS: Once<[Buffer; LISTS]> = Once::new([NOTHING; LISTS]);
static OWNERS: Once<[u32; LISTS]> = Once::new([0; LISTS]);
static OFFSETS: Once<[u64; LISTS]> = Once::new([0; LISTS]);
static MEMORY: Once<[Line; LINES]> = Once::new([Line::ZERO; LINES]);

/// Why there is nothing to hear.
pub(crate) enum Problem {
    Bundle(BundleError),
    Load(LoadError),
    Step(StepError),
    Memory { need: u64 },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bundle(error) => error.fmt(f),
            Self::Load(error) => error.fmt(f),
            Self::Step(error) => error.fmt(f),
            Self::Memory { need } => {
                let have = LINES * Line::BYTES;
                write!(f, "the plan needs {need} bytes and {have} are there; raise LINES")
            }
        }
    }
}

/// Prints the plan and the tokens.
pub(crate) fn speak(uart: &mut Uart) -> Result<(), Problem> {
    let bundle = Bundle::parse(&BUNDLE.0).map_err(Problem::Bundle)?;
    bundle.verify().map_err(Problem::Bundle)?;
    let (tensors, ops, segments) = (TENSOR_LIST.take(), OP_LIST.take(), SEGMENT_LIST.take());
    let program =
        bundle.read_program(tensors, ops, segments, EXIT_LIST.take()).map_err(Problem::Bundle)?;
    let storage = Storage {
        slots: SLOTS.take(),
        buffers: BUFFERS.take(),
        owners: OWNERS.take(),
        offsets: OFFSETS.take(),
    };
    let section = |index: u16| bundle.section(index.into());
    let context_max = bundle.meta().context_max;
    let place = dynamax_plan::place_greedy;
    let model = Model::resolve(program, section, context_max, SETTINGS, place, storage);
    let (model, _) = model.map_err(Problem::Load)?;
    let sizes = model.sizes();
    if model.memory_lines() > LINES {
        return Err(Problem::Memory { need: sizes.memory_bytes() });
    }
    let isa = Isa::detect();
    let _ = write!(
        uart,
        "model: {}\r\nisa: {}\r\nplanned: {} bytes: weights {}, states {}, arena {}\r\n",
        bundle.meta().name,
        isa.name(),
        sizes.weights_bytes + sizes.memory_bytes(),
        sizes.weights_bytes,
        sizes.state_bytes,
        sizes.arena_bytes,
    );
    let mut decoder = Decoder::new(model, MEMORY.take(), isa, Crew::Alone);
    let tokens = decode(&mut decoder).map_err(Problem::Step)?;
    let _ = write!(uart, "tokens:");
    for token in &tokens {
        let _ = write!(uart, " {token}");
    }
    let _ = write!(uart, "\r\n");
    Ok(())
}

/// Greedy tokens behind the prompt.
fn decode(decoder: &mut Decoder<'_>) -> Result<Vec<u32, TOKENS>, StepError> {
    let mut tokens = Vec::new();
    let isa = decoder.isa();
    let mut token = isa.argmax(decoder.feed(&PROMPT)?) as u32;
    while tokens.push(token).is_ok() {
        if !tokens.is_full() {
            token = isa.argmax(decoder.feed(&[token])?) as u32;
        }
    }
    Ok(tokens)
}
