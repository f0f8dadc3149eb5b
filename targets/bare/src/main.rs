//! The runtime with no operating system and no allocator: a bundle inside the image, its memory in `.bss`, tokens over a
//! UART.
//!
//! ```sh
//! cargo run --release      # in this folder: builds, and starts QEMU's virt board
//! ```
//!
//! What it proves: the core needs nothing but memory and arithmetic, and says the same as on the desk, bit for bit. There
//! is no allocator in the image, so an allocation would not link.
#![no_std]
#![no_main]

mod boot;
mod once;
mod speak;
mod uart;

use core::panic::PanicInfo;

use embedded_io::Write;

use uart::Uart;

/// Called by `boot`, once, with a stack and zeroed statics.
fn main() {
    let mut uart = Uart::new();
    if let Err(problem) = speak::speak(&mut uart) {
        let _ = writeln!(uart, "refused: {problem}\r");
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let _ = writeln!(Uart::new(), "{info}\r");
    boot::power_off()
}
