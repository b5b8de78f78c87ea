//! The device status state machine (virtio 1.2, sections 2.1 and 3.1.1), as a pure function.
//!
//! ```text
//!  ┌───────┐ ACKNOWLEDGE ┌──────────────┐ DRIVER ┌────────┐ FEATURES_OK ┌─────────────┐ DRIVER_OK ┌──────┐
//!  │ reset ├────────────►│ acknowledged ├───────►│ driver ├────────────►│ features ok ├──────────►│ live │
//!  └───▲───┘             └──────────────┘        └────────┘  if agreed  └─────────────┘           └──┬───┘
//!      │                                                                                             │
//!      │ write 0, from any state        FAILED, written by the driver, from any state                │ error
//!      └──────────────────────────────  NEEDS_RESET, added by the device when it is broken ◄─────────┘
//! ```
//!
//! The only writer is [`crate::virtio::MmioTransport`].

use virtio_bindings::virtio_config::{
    VIRTIO_CONFIG_S_ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER, VIRTIO_CONFIG_S_DRIVER_OK, VIRTIO_CONFIG_S_FAILED,
    VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_CONFIG_S_NEEDS_RESET,
};

/// The guest has noticed the device.
pub const ACKNOWLEDGE: u32 = VIRTIO_CONFIG_S_ACKNOWLEDGE;
/// The guest has a driver for it.
pub const DRIVER: u32 = VIRTIO_CONFIG_S_DRIVER;
/// Feature negotiation is complete.
pub const FEATURES_OK: u32 = VIRTIO_CONFIG_S_FEATURES_OK;
/// The driver is ready; the device is live.
pub const DRIVER_OK: u32 = VIRTIO_CONFIG_S_DRIVER_OK;
/// The device is broken and must be reset. Only the device sets it.
pub const NEEDS_RESET: u32 = VIRTIO_CONFIG_S_NEEDS_RESET;
/// The driver has given up.
pub const FAILED: u32 = VIRTIO_CONFIG_S_FAILED;

/// What a write of the status register asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// Back to the initial state.
    Reset,
    /// Remember this status; nothing else happens.
    Set(u32),
    /// Check the features; on agreement remember this status.
    Negotiate(u32),
    /// Remember this status and start the device.
    Activate(u32),
    /// The write makes no sense in this state; keep the old status.
    Refuse,
}

/// The meaning of writing `written` while the status is `current` (both without NEEDS_RESET).
pub fn transition(current: u32, written: u32) -> Transition {
    let current = current & !NEEDS_RESET;
    let written = written & !NEEDS_RESET;
    if written == 0 {
        return Transition::Reset;
    }
    // The driver must not clear bits (section 2.1.1).
    if written & current != current {
        return Transition::Refuse;
    }
    if written & FAILED != 0 {
        return Transition::Set(current | FAILED);
    }
    const ACKNOWLEDGED: u32 = ACKNOWLEDGE;
    const DRIVEN: u32 = ACKNOWLEDGE | DRIVER;
    const AGREED: u32 = DRIVEN | FEATURES_OK;
    const LIVE: u32 = AGREED | DRIVER_OK;
    match (current, written) {
        (same, again) if same == again => Transition::Set(current),
        (0, ACKNOWLEDGED | DRIVEN) | (ACKNOWLEDGED, DRIVEN) => Transition::Set(written),
        (DRIVEN, AGREED) => Transition::Negotiate(written),
        (AGREED, LIVE) => Transition::Activate(written),
        _ => Transition::Refuse,
    }
}

/// Whether the driver may choose features now.
pub fn may_negotiate(status: u32) -> bool {
    status & (DRIVER | FEATURES_OK | FAILED) == DRIVER
}

/// Whether the driver may set up queues now.
pub fn may_set_up_queues(status: u32) -> bool {
    status & (FEATURES_OK | DRIVER_OK | FAILED) == FEATURES_OK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_initialisation_sequence_and_refuses_the_rest() {
        let cases = [
            (0, 0, Transition::Reset),
            (0, 1, Transition::Set(1)),
            (0, 3, Transition::Set(3)),
            (1, 3, Transition::Set(3)),
            (3, 3, Transition::Set(3)),
            (3, 0xb, Transition::Negotiate(0xb)),
            (0xb, 0xf, Transition::Activate(0xf)),
            (0xf, 0xf, Transition::Set(0xf)),
            (0xf, 0, Transition::Reset),
            (0xf | NEEDS_RESET, 0, Transition::Reset),
            // Giving up is possible from everywhere, and final.
            (0, FAILED, Transition::Set(FAILED)),
            (0xf, 0xf | FAILED, Transition::Set(0xf | FAILED)),
            (3 | FAILED, 0xb | FAILED, Transition::Set(3 | FAILED)),
            (3 | FAILED, 0xb, Transition::Refuse),
            // Steps left out, bits cleared, bits that do not exist.
            (0, 0xb, Transition::Refuse),
            (0, 0xf, Transition::Refuse),
            (1, 0xf, Transition::Refuse),
            (3, 0xf, Transition::Refuse),
            (3, 7, Transition::Refuse),
            (0xb, 3, Transition::Refuse),
            (0xf, 1, Transition::Refuse),
            (0, 0x10, Transition::Refuse),
            (3, 0x13, Transition::Refuse),
            // The driver cannot set the device's own bit.
            (3, 3 | NEEDS_RESET, Transition::Set(3)),
        ];
        for (current, written, wanted) in cases {
            assert_eq!(transition(current, written), wanted, "{current:#x} -> {written:#x}");
        }
    }

    #[test]
    fn features_and_queues_are_open_in_their_own_step_only() {
        let cases = [
            (0, false, false),
            (1, false, false),
            (3, true, false),
            (0xb, false, true),
            (0xf, false, false),
            (3 | FAILED, false, false),
            (0xb | FAILED, false, false),
        ];
        for (status, negotiate, queues) in cases {
            assert_eq!(may_negotiate(status), negotiate, "{status:#x}");
            assert_eq!(may_set_up_queues(status), queues, "{status:#x}");
        }
    }
}
