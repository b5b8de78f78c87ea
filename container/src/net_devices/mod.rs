//! Moves network devices of the host into a container's network namespace.
//!
//! The kernel forgets a device's addresses when it moves. So the creator notes them and moves the device, and init, which
//! has the notes for it is a copy of the creator, gives them back and switches the device on.

mod netlink;

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::LinkAttribute;
use oci_spec::runtime::LinuxNamespaceType;

use crate::netlink::Netlink;
use crate::plan::{NetDevicePlan, Plan};
use crate::step::{At, StepError};

const STEP: &str = "network devices";

/// The devices of a container, found on the host.
#[derive(Debug, Default)]
pub(crate) struct NetDevices {
    found: Vec<Found>,
    /// The network namespace, if it is one that exists already; else init's.
    namespace: Option<OwnedFd>,
}

#[derive(Debug)]
struct Found {
    plan: NetDevicePlan,
    index: u32,
    addresses: Vec<AddressMessage>,
}

impl NetDevices {
    /// Finds the plan's devices and notes their addresses.
    pub(crate) fn find(plan: &Plan) -> Result<Self, StepError> {
        if plan.net_devices.is_empty() {
            return Ok(Self::default());
        }
        let mut joined = plan.namespaces.join.iter();
        let joined = joined.find(|joined| joined.kind == LinuxNamespaceType::Network);
        let namespace = joined.map(|joined| File::open(&joined.path).at(STEP, joined.path.display()));
        let mut netlink = Netlink::new().at(STEP, "netlink")?;
        let find = |device: &NetDevicePlan| -> Result<Found, StepError> {
            let index = netlink::index(&mut netlink, &device.name).at(STEP, &device.field)?;
            let addresses = netlink::addresses(&mut netlink, index).at(STEP, &device.field)?;
            Ok(Found { plan: device.clone(), index, addresses })
        };
        let found = plan.net_devices.iter().map(find).collect::<Result<_, _>>()?;
        Ok(Self { found, namespace: namespace.transpose()?.map(OwnedFd::from) })
    }

    /// Moves them to the container's namespace, by its init process.
    pub(crate) fn move_to(&self, init: i32) -> Result<(), StepError> {
        if self.found.is_empty() {
            return Ok(());
        }
        let target = match &self.namespace {
            Some(namespace) => LinkAttribute::NetNsFd(namespace.as_raw_fd()),
            None => LinkAttribute::NetNsPid(init.unsigned_abs()),
        };
        let mut netlink = Netlink::new().at(STEP, "netlink")?;
        for Found { plan, index, .. } in &self.found {
            netlink::move_link(&mut netlink, *index, &plan.new_name, target.clone())
                .map_err(taken)
                .at(STEP, &plan.field)?;
        }
        Ok(())
    }

    /// In the container's namespace: gives them their addresses back and switches them on.
    pub(crate) fn configure(&self) -> Result<(), StepError> {
        if self.found.is_empty() {
            return Ok(());
        }
        let mut netlink = Netlink::new().at(STEP, "netlink")?;
        for Found { plan, addresses, .. } in &self.found {
            let index = netlink::index(&mut netlink, &plan.new_name).at(STEP, &plan.field)?;
            for address in addresses {
                netlink::add_address(&mut netlink, index, address).at(STEP, &plan.field)?;
            }
            netlink.switch_on(index, None).at(STEP, &plan.field)?;
        }
        Ok(())
    }
}

fn taken(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::AlreadyExists => {
            io::Error::new(error.kind(), format!("the container has a device of that name already ({error})"))
        }
        _ => error,
    }
}
