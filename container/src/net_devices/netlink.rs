//! What moving devices asks of rtnetlink, one function each.

use std::io;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{LinkAttribute, LinkMessage};

use crate::netlink::Netlink;

/// The index of the link of this name; ENODEV when there is none.
pub(super) fn index(netlink: &mut Netlink, name: &str) -> io::Result<u32> {
    netlink.link_index(name)?.ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
}

/// The addresses of a link that somebody has given it and that hold beyond it, of any family.
pub(super) fn addresses(netlink: &mut Netlink, index: u32) -> io::Result<Vec<AddressMessage>> {
    let dump = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let answers = netlink.request(dump, NLM_F_DUMP)?.into_iter();
    let addresses = answers.filter_map(|answer| match answer {
        RouteNetlinkMessage::NewAddress(address) => Some(address),
        _ => None,
    });
    let lasting = |address: &AddressMessage| {
        address.header.index == index
            && address.header.scope == AddressScope::Universe
            && address.header.flags.contains(AddressHeaderFlags::Permanent)
    };
    Ok(addresses.filter(lasting).collect())
}

/// Moves a link to another network namespace, where it has this name.
pub(super) fn move_link(
    netlink: &mut Netlink,
    index: u32,
    name: &str,
    target: LinkAttribute,
) -> io::Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes = vec![LinkAttribute::IfName(name.to_owned()), target];
    netlink.request(RouteNetlinkMessage::SetLink(message), 0).map(drop)
}

/// Gives a link an address that another one had.
pub(super) fn add_address(netlink: &mut Netlink, index: u32, address: &AddressMessage) -> io::Result<()> {
    let mut message = AddressMessage::default();
    message.header.family = address.header.family;
    message.header.prefix_len = address.header.prefix_len;
    message.header.scope = address.header.scope;
    message.header.index = index;
    let kept = |attribute: &&AddressAttribute| {
        matches!(
            attribute,
            AddressAttribute::Address(_) | AddressAttribute::Local(_) | AddressAttribute::Broadcast(_)
        )
    };
    message.attributes = address.attributes.iter().filter(kept).cloned().collect();
    netlink.request(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL).map(drop)
}
