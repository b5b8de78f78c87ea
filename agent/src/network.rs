//! Loopback and the guest's one network interface.

use agent::protocol::Network;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netdevice, recv, send, socket_with,
};

use crate::netlink::{Batch, LOOPBACK, answer};

const INTERFACE: &str = "eth0";
/// What each request of the batch does, for the error message.
const STEPS: [&str; 5] = [
    "switch loopback on",
    "set the mtu of eth0",
    "set the address of eth0",
    "switch eth0 on",
    "set the default route",
];

/// Why the network could not be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkError {
    /// There is no interface to configure.
    #[error("the guest has no network interface {INTERFACE}: {0}")]
    NoInterface(Errno),
    /// The kernel refused one step.
    #[error("cannot {step}: {error}")]
    Refused {
        /// The step.
        step: &'static str,
        /// The kernel's answer.
        error: Errno,
    },
    /// The kernel could not be asked.
    #[error("cannot talk to the guest kernel about the network: {0}")]
    Netlink(Errno),
}

/// Switches loopback on, and gives `eth0` its address, MTU and default route where there is a network.
///
/// # Errors
/// [`NetworkError`], naming the step that failed.
pub(crate) fn set_up(network: Option<&Network>) -> Result<(), NetworkError> {
    // Protocol 0 is NETLINK_ROUTE.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)
        .map_err(NetworkError::Netlink)?;
    let mut batch = Batch::default();
    batch.link_up(LOOPBACK);
    if let Some(network) = network {
        let index = netdevice::name_to_index(&socket, INTERFACE).map_err(NetworkError::NoInterface)?;
        batch.configure_link(index, network.mtu);
        batch.address(index, network);
        batch.link_up(index);
        batch.default_route(index, network);
    }
    send(&socket, &batch.finish(), SendFlags::empty()).map_err(NetworkError::Netlink)?;
    let mut reply = [0u8; 128];
    let (_, length) = recv(&socket, &mut reply, RecvFlags::empty()).map_err(NetworkError::Netlink)?;
    match answer(&reply[..length.min(reply.len())]) {
        Some((_, 0)) => Ok(()),
        Some((request, error)) => {
            let step = (request as usize).checked_sub(1).and_then(|at| STEPS.get(at).copied());
            Err(NetworkError::Refused {
                step: step.unwrap_or("set the network up"),
                error: Errno::from_raw_os_error(error),
            })
        }
        None => Err(NetworkError::Netlink(Errno::PROTO)),
    }
}
