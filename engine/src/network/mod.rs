//! The network that instances of both models share: a bridge, an address each, and ports of the host that lead in.
//!
//! A container is connected by a veth pair, a virtual machine by a tap; beyond that there is no difference. Bridge
//! and rules are made with the first instance and removed with the last. All changes happen under one lock.

mod address;
mod netlink;
pub(crate) mod publish;

use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    path::Path,
};

use container::netlink::Netlink;
use rustix::{
    net::{AddressFamily, SocketFlags, SocketType, bind, socket_with},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use sha2::{Digest, Sha256};

use self::{
    address::{PREFIX, Subnet},
    publish::{Protocol, PublishedPort},
};
use crate::{
    engine::Engine,
    error::{EngineError, Result},
    files::Lock,
    instance::Instance,
    spec::NetworkMode,
};

/// Largest transmission unit of the bridge, in bytes.
pub(crate) const MTU: u16 = 1500;

/// An instance's place on the bridge.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) address: Ipv4Addr,
    pub(crate) prefix: u8,
    pub(crate) gateway: Ipv4Addr,
    pub(crate) mac: [u8; 6],
    /// The link on the host's side: the veth's end, or the tap.
    pub(crate) link: String,
    /// Sockets bound to the published ports, so that nobody else takes them. They never see a packet.
    _reserved: Vec<rustix::fd::OwnedFd>,
}

/// The bridge's name, which is also the name of the nftables table: other roots get others.
fn bridge_name(engine: &Engine) -> String {
    if engine.root.is_default() {
        return "carve0".to_owned();
    }
    let hash = Sha256::digest(engine.root.path().as_os_str().as_encoded_bytes());
    format!("carve{:02x}{:02x}{:02x}{:02x}", hash[0], hash[1], hash[2], hash[3])
}

/// Reserves the published ports and an address, and sees to it that the bridge is there.
pub(crate) fn reserve(engine: &Engine, instance: &Instance) -> Result<Option<Place>> {
    if instance.spec.network == NetworkMode::None {
        return Ok(None);
    }
    let reserved = instance.spec.ports.iter().map(hold_port).collect::<Result<_>>()?;
    let _changing = Lock::acquire(&engine.root.network_lock())?;
    let mut netlink = Netlink::new().map_err(failed("speak to the kernel"))?;
    let bridge = bridge_name(engine);
    let (subnet, is_new) = make_bridge(engine, &mut netlink, &bridge)?;
    let taken: Vec<_> = engine.list()?.iter().filter_map(|i| i.address).collect();
    let address = subnet.free_address(&taken).ok_or_else(|| {
        EngineError::Network(format!("all addresses of {subnet} are taken; end an instance first"))
    })?;
    engine.database.set_address(&instance.id, Some(address))?;
    if is_new || !instance.spec.ports.is_empty() {
        publish_all(engine, &bridge, subnet)?;
    }
    Ok(Some(Place {
        address,
        prefix: PREFIX,
        gateway: subnet.gateway(),
        mac: address::mac(address),
        link: format!("cv{}", instance.id),
        _reserved: reserved,
    }))
}

/// Connects a container: a veth pair whose far end, `eth0`, is in the network namespace of its init.
pub(crate) fn connect_container(engine: &Engine, place: &Place, init_pid: u32) -> Result<()> {
    let mut host = Netlink::new().map_err(failed("speak to the kernel"))?;
    netlink::create_veth(&mut host, &place.link, "eth0", place.mac, init_pid)
        .map_err(failed("make a veth pair"))?;
    plug_in(engine, &mut host, &place.link)?;
    let mut inside = netlink_in(init_pid).map_err(failed("enter the container's network namespace"))?;
    let missing = || EngineError::Network("eth0 did not arrive in the container".to_owned());
    let eth0 = inside.link_index("eth0").map_err(failed("look at eth0"))?.ok_or_else(missing)?;
    netlink::add_address(&mut inside, eth0, place.address, place.prefix)
        .map_err(failed("give eth0 its address"))?;
    inside.switch_on(eth0, None).map_err(failed("switch eth0 on"))?;
    netlink::add_default_route(&mut inside, place.gateway).map_err(failed("route by the gateway"))
}

/// Connects a virtual machine: plugs its tap, which the caller holds open, into the bridge.
pub(crate) fn connect_tap(engine: &Engine, place: &Place) -> Result<()> {
    let mut host = Netlink::new().map_err(failed("speak to the kernel"))?;
    plug_in(engine, &mut host, &place.link)
}

fn plug_in(engine: &Engine, netlink: &mut Netlink, link: &str) -> Result<()> {
    let bridge = bridge_name(engine);
    let missing = |name: &str| EngineError::Network(format!("the link {name} is gone"));
    let port = netlink.link_index(link).map_err(failed("look at a link"))?.ok_or_else(|| missing(link))?;
    let bridge =
        netlink.link_index(&bridge).map_err(failed("look at the bridge"))?.ok_or_else(|| missing(&bridge))?;
    netlink.switch_on(port, Some(bridge)).map_err(failed("plug a link into the bridge"))
}

/// After an instance gave its address back: its ports lead nowhere, and bridge and rules go when nobody is left.
pub(crate) fn release(engine: &Engine) -> Result<()> {
    let _changing = Lock::acquire(&engine.root.network_lock())?;
    let Some(subnet) = engine.database.subnet()?.and_then(|s| s.parse::<Subnet>().ok()) else {
        return Ok(());
    };
    let bridge = bridge_name(engine);
    let mut netlink = Netlink::new().map_err(failed("speak to the kernel"))?;
    let index = netlink.link_index(&bridge).map_err(failed("look at the bridge"))?;
    if engine.list()?.iter().any(|i| i.address.is_some()) {
        // Made in another network namespace: nothing to change in this one.
        return if index.is_some() { publish_all(engine, &bridge, subnet) } else { Ok(()) };
    }
    if let Some(index) = index {
        publish::apply(&publish::no_rules(&bridge)).map_err(EngineError::Network)?;
        netlink::delete_link(&mut netlink, index).map_err(failed("remove the bridge"))?;
    }
    engine.database.set_subnet(None)
}

/// The subnet, and whether the bridge had to be made.
fn make_bridge(engine: &Engine, netlink: &mut Netlink, name: &str) -> Result<(Subnet, bool)> {
    let recorded = engine.database.subnet()?.and_then(|s| s.parse::<Subnet>().ok());
    let index = netlink.link_index(name).map_err(failed("look at the bridge"))?;
    if let (Some(subnet), Some(_)) = (recorded, index) {
        return Ok((subnet, false));
    }
    // Half made, or left from a lost data root: begin anew.
    if let Some(index) = index {
        netlink::delete_link(netlink, index).map_err(failed("remove an old bridge"))?;
    }
    let taken = netlink::addresses(netlink).map_err(failed("list addresses"))?;
    let subnet = Subnet::choose(&taken).ok_or_else(|| {
        EngineError::Network("10.213.0.0/16 is in use on this host; use `--network none`".to_owned())
    })?;
    engine.database.set_subnet(Some(&subnet.to_string()))?;
    netlink::create_bridge(netlink, name).map_err(failed("make the bridge (root is needed)"))?;
    let index = netlink.link_index(name).map_err(failed("look at the bridge"))?;
    let index = index.ok_or_else(|| EngineError::Network("the new bridge is gone".to_owned()))?;
    netlink::add_address(netlink, index, subnet.gateway(), PREFIX)
        .map_err(failed("give the bridge its address"))?;
    netlink.switch_on(index, None).map_err(failed("switch the bridge on"))?;
    // Packets pass between the bridge and the world, and from 127.0.0.1 to a published port.
    set_sysctl("/proc/sys/net/ipv4/ip_forward")?;
    set_sysctl(&format!("/proc/sys/net/ipv4/conf/{name}/route_localnet"))?;
    Ok((subnet, true))
}

fn publish_all(engine: &Engine, bridge: &str, subnet: Subnet) -> Result<()> {
    let ports: Vec<_> = engine
        .list()?
        .into_iter()
        .filter_map(|i| Some((i.address?, i.spec.ports)))
        .flat_map(|(address, ports)| ports.into_iter().map(move |port| (address, port)))
        .collect();
    publish::apply(&publish::ruleset(bridge, subnet, &ports)).map_err(EngineError::Network)
}

/// Binds a port of the host, so that a second user of it is told, as everywhere, that it is in use.
fn hold_port(port: &PublishedPort) -> Result<rustix::fd::OwnedFd> {
    let kind = if port.protocol == Protocol::Tcp { SocketType::STREAM } else { SocketType::DGRAM };
    let held = socket_with(AddressFamily::INET, kind, SocketFlags::CLOEXEC, None)
        .and_then(|socket| bind(&socket, &SocketAddrV4::new(port.address, port.host_port)).map(|()| socket));
    held.map_err(|e| {
        let hint = match e {
            rustix::io::Errno::ADDRINUSE => "; choose another, or end who uses it",
            rustix::io::Errno::ADDRNOTAVAIL => "; the host has no such address",
            _ => "",
        };
        EngineError::Network(format!("cannot publish {}:{}: {e}{hint}", port.address, port.host_port))
    })
}

/// A netlink connection in the network namespace of a process. The calling thread must be the only one.
fn netlink_in(pid: u32) -> std::io::Result<Netlink> {
    let ours = fs::File::open("/proc/self/ns/net")?;
    let theirs = fs::File::open(Path::new("/proc").join(pid.to_string()).join("ns/net"))?;
    let enter = |ns: &fs::File| {
        move_into_link_name_space(std::os::fd::AsFd::as_fd(ns), Some(LinkNameSpaceType::Network))
    };
    enter(&theirs)?;
    let netlink = Netlink::new();
    enter(&ours)?;
    netlink
}

fn set_sysctl(path: &str) -> Result<()> {
    if fs::read(path).is_ok_and(|v| v.starts_with(b"1")) {
        return Ok(());
    }
    fs::write(path, "1").map_err(EngineError::file("set", path))
}

fn failed(what: &'static str) -> impl FnOnce(std::io::Error) -> EngineError {
    move |e| EngineError::Network(format!("cannot {what}: {e}"))
}
