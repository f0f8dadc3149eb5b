//! The kernel's I2C buses as an `embedded-hal` bus.
//!
//! Where a kernel driver holds the chip, as on every Jetson, selecting it (`I2C_SLAVE`) fails with EBUSY; whole transactions
//! (`I2C_RDWR`) do not select, and work beside the driver. The crate `linux-embedded-hal` selects; this does not.

use core::fmt;
use std::path::Path;
use std::vec::Vec;

use embedded_hal::i2c::{Error, ErrorKind, ErrorType, I2c, NoAcknowledgeSource, Operation};
use i2cdev::core::{I2CMessage, I2CTransfer};
use i2cdev::linux::{LinuxI2CBus, LinuxI2CError, LinuxI2CMessage};

/// No such address: nobody acknowledged.
const ENXIO: i32 = 6;

/// The same, as other controllers say it.
const EREMOTEIO: i32 = 121;

/// A bus such as `/dev/i2c-1`.
pub struct I2cDev(LinuxI2CBus);

impl I2cDev {
    /// Opens a bus.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn open(path: &Path) -> Result<Self, I2cDevError> {
        LinuxI2CBus::new(path).map(Self).map_err(I2cDevError)
    }
}

impl fmt::Debug for I2cDev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("I2cDev")
    }
}

/// What the kernel says.
#[derive(Debug)]
pub struct I2cDevError(LinuxI2CError);

impl fmt::Display for I2cDevError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl core::error::Error for I2cDevError {}

impl Error for I2cDevError {
    fn kind(&self) -> ErrorKind {
        match self.0 {
            LinuxI2CError::Errno(ENXIO | EREMOTEIO) => {
                ErrorKind::NoAcknowledge(NoAcknowledgeSource::Unknown)
            }
            _ => ErrorKind::Other,
        }
    }
}

impl ErrorType for I2cDev {
    type Error = I2cDevError;
}

impl I2c for I2cDev {
    fn transaction(
        &mut self,
        address: u8,
        operations: &mut [Operation<'_>],
    ) -> Result<(), I2cDevError> {
        let address = u16::from(address);
        let mut messages = Vec::with_capacity(operations.len());
        for operation in operations {
            let message = match operation {
                Operation::Write(bytes) => LinuxI2CMessage::write(bytes),
                Operation::Read(bytes) => LinuxI2CMessage::read(bytes),
            };
            messages.push(message.with_address(address));
        }
        self.0.transfer(&mut messages).map(drop).map_err(I2cDevError)
    }
}
