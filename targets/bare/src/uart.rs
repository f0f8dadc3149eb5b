//! The PL011 of QEMU's virt board, as far as printing needs it.

use core::convert::Infallible;

use embedded_io::{ErrorType, Write};

/// Data register; flags are at 0x18.
const DATA: *mut u32 = 0x0900_0000 as *mut u32;
const FLAGS: *const u32 = 0x0900_0018 as *const u32;
/// The transmitter has no room.
const FULL: u32 = 1 << 5;

/// The serial port.
pub(crate) struct Uart(());

impl Uart {
    /// The port as the firmware left it: ready to print.
    pub(crate) fn new() -> Self {
        Self(())
    }

    fn put(&mut self, byte: u8) {
        // SAFETY: the flags register of the board's UART; reading it changes nothing.
        while unsafe { FLAGS.read_volatile() } & FULL != 0 {
            core::hint::spin_loop();
        }
        // SAFETY: the data register of the board's UART, which has room.
        unsafe { DATA.write_volatile(byte.into()) };
    }
}

impl ErrorType for Uart {
    type Error = Infallible;
}

impl Write for Uart {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        bytes.iter().for_each(|byte| self.put(*byte));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}
