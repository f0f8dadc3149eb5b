//! From reset to `main`: floating point on, caches and memory types on, statics zeroed, a stack.

use core::arch::{asm, global_asm};

// The MMU is needed although addresses stay what they are: without it all memory is of the device type, which neither
// caches nor takes unaligned loads. One table with two entries of 1 GiB: devices, then memory.
global_asm!(
    ".section .text.boot, \"ax\"",
    ".global _start",
    "_start:",
    "mrs x0, mpidr_el1",
    "and x0, x0, #0xff",
    "cbnz x0, 9f",
    "mov x0, #(3 << 20)",
    "msr cpacr_el1, x0",
    "isb",
    "ldr x0, =__bss_start",
    "ldr x1, =__bss_end",
    "1: cmp x0, x1",
    "b.hs 2f",
    "stp xzr, xzr, [x0], #16",
    "b 1b",
    "2: ldr x0, =__stack_end",
    "mov sp, x0",
    // Attribute 0: device, in order. Attribute 1: memory, cached.
    "ldr x0, =0xff00",
    "msr mair_el1, x0",
    "ldr x0, =PAGES",
    // 0 to 1 GiB: block, attribute 0, accessed, never executed.
    "ldr x1, =0x0060000000000401",
    "str x1, [x0]",
    // 1 to 2 GiB: block, attribute 1, inner shareable, accessed.
    "ldr x1, =0x40000705",
    "str x1, [x0, #8]",
    "msr ttbr0_el1, x0",
    // 39 bits of address, so that the walk starts at the table of 1 GiB entries; cached walks; 40 bits out.
    "ldr x1, =0x200803519",
    "msr tcr_el1, x1",
    "isb",
    "mrs x0, sctlr_el1",
    "ldr x1, =0x1005",
    "orr x0, x0, x1",
    "bic x0, x0, #2",
    "msr sctlr_el1, x0",
    "isb",
    "bl {enter}",
    "9: wfe",
    "b 9b",
    enter = sym enter,
);

/// The table of 1 GiB entries.
#[repr(C, align(4096))]
struct Pages([u64; 512]);

#[unsafe(no_mangle)]
static mut PAGES: Pages = Pages([0; 512]);

extern "C" fn enter() -> ! {
    crate::main();
    power_off()
}

/// Asks the board's firmware (PSCI) to switch off: QEMU ends.
pub(crate) fn power_off() -> ! {
    const SYSTEM_OFF: u64 = 0x8400_0008;
    // SAFETY: a call to the firmware that does not come back.
    unsafe { asm!("hvc #0", in("x0") SYSTEM_OFF) };
    loop {
        core::hint::spin_loop();
    }
}
