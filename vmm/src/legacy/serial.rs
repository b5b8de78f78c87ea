//! The first serial port, a 16550 from `vm-superio`, on the port bus.

use std::io::{self, Write};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use vm_superio::Serial;
use vm_superio::serial::{SerialEvents, SerialState};
use vmm_sys_util::eventfd::EventFd;

use crate::bus::BusDevice;
use crate::interrupt::{InterruptLine, Trigger};

/// COM1.
pub(crate) const PORTS: u64 = 0x3f8;
/// Registers.
pub(crate) const PORTS_LEN: u64 = 8;
/// Its interrupt.
pub(crate) const IRQ: u32 = 4;

/// Tells the input side that the guest has read everything.
pub(crate) struct InputRead(Option<Arc<EventFd>>);

impl SerialEvents for InputRead {
    fn buffer_read(&self) {}
    fn out_byte(&self) {}
    fn tx_lost_byte(&self) {}

    fn in_buffer_empty(&self) {
        if let Some(event) = &self.0
            && let Err(error) = event.write(1)
        {
            tracing::warn!(%error, "serial input may stall");
        }
    }
}

/// A port's registers and the input that waits in it, as a snapshot keeps them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct SavedSerial(#[serde(with = "State")] SerialState);

#[derive(Serialize, Deserialize)]
#[serde(remote = "SerialState")]
struct State {
    baud_divisor_low: u8,
    baud_divisor_high: u8,
    interrupt_enable: u8,
    interrupt_identification: u8,
    line_control: u8,
    line_status: u8,
    modem_control: u8,
    modem_status: u8,
    scratch: u8,
    in_buffer: Vec<u8>,
}

/// The port.
pub(crate) struct SerialPort {
    uart: Serial<Trigger, InputRead, Box<dyn Write + Send>>,
    out_failed: bool,
}

impl SerialPort {
    /// A port that writes what the guest says to `out` and interrupts through `line`; `input_read` is signalled when
    /// the guest has read all input. It begins in `state`, by default that after power-on.
    ///
    /// # Errors
    /// The state is of no serial port, or an interrupt that it has pending cannot be raised.
    pub(crate) fn new(
        line: Arc<dyn InterruptLine>,
        input_read: Option<Arc<EventFd>>,
        out: Box<dyn Write + Send>,
        state: &SavedSerial,
    ) -> io::Result<Self> {
        let uart = Serial::from_state(&state.0, Trigger(line), InputRead(input_read), out)
            .map_err(|error| io::Error::other(format!("the serial port cannot begin: {error}")))?;
        Ok(Self { uart, out_failed: false })
    }

    /// The port's registers and the input that the guest has not read.
    pub(crate) fn save(&self) -> SavedSerial {
        SavedSerial(self.uart.state())
    }

    /// How many bytes of input the port takes now.
    pub(crate) fn room(&self) -> usize {
        self.uart.fifo_capacity()
    }

    /// Gives the guest input, at most [`Self::room`] bytes.
    ///
    /// # Errors
    /// The port is full, or its interrupt cannot be raised.
    pub(crate) fn input(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.uart.enqueue_raw_bytes(bytes) {
            Ok(_) => Ok(()),
            Err(error) => Err(io::Error::other(error.to_string())),
        }
    }
}

impl BusDevice for SerialPort {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        match (data, u8::try_from(offset)) {
            ([byte], Ok(offset)) => *byte = self.uart.read(offset),
            (data, _) => data.fill(0xff),
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        let (&[byte], Ok(offset)) = (data, u8::try_from(offset)) else { return };
        if let Err(error) = self.uart.write(offset, byte)
            && !self.out_failed
        {
            // Said once: a reader that has gone away must not fill the log, nor stop the guest.
            self.out_failed = true;
            tracing::warn!(%error, "serial output is lost");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct CountingLine(Mutex<u32>);

    impl InterruptLine for CountingLine {
        fn trigger(&self) -> io::Result<()> {
            *self.0.lock().unwrap() += 1;
            Ok(())
        }
    }

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_the_guest_writes_comes_out() {
        let out = Shared::default();
        let mut port = SerialPort::new(
            Arc::<CountingLine>::default(),
            None,
            Box::new(out.clone()),
            &SavedSerial::default(),
        )
        .unwrap();
        for byte in b"ok" {
            port.write(0, &[*byte]);
        }
        port.write(0, &[1, 2]);
        port.write(1000, &[1]);
        assert_eq!(*out.0.lock().unwrap(), b"ok");
    }

    #[test]
    fn input_interrupts_and_reading_it_all_makes_room() {
        let line = Arc::new(CountingLine::default());
        let read = Arc::new(EventFd::new(libc::EFD_NONBLOCK).unwrap());
        let mut port =
            SerialPort::new(line.clone(), Some(read.clone()), Box::new(io::sink()), &SavedSerial::default())
                .unwrap();
        port.write(1, &[1]); // receive interrupts on
        port.input(b"x").unwrap();
        assert_eq!(*line.0.lock().unwrap(), 1);
        let mut byte = [0];
        port.read(0, &mut byte);
        assert_eq!(&byte, b"x");
        assert_eq!(read.read().unwrap(), 1);
    }

    #[test]
    fn a_closed_output_does_not_stop_the_guest() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut port =
            SerialPort::new(Arc::<CountingLine>::default(), None, Box::new(Closed), &SavedSerial::default())
                .unwrap();
        port.write(0, b"x");
        assert!(port.out_failed);
        let mut status = [0];
        port.read(5, &mut status);
        assert_ne!(status[0] & 0x20, 0, "the transmitter is ready again");
    }
}
