//! Can anything leave by an interface at this moment?

use super::ObserveError;
use super::socket::Netlink;
use crate::facts::LinkState;
use crate::netns::NetNs;
use netlink_packet_core::Parseable;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkFlags, LinkMessage};

/// Asks `netns` for the interface of that index.
///
/// # Errors
/// [`ObserveError::NetNs`], [`ObserveError::Io`], [`ObserveError::Refused`], [`ObserveError::NoAnswer`].
///
/// Source: rtnetlink(7) RTM_GETLINK; netdevice(7) for the flags.
pub fn read_link_state(netns: &NetNs, index: u32) -> Result<LinkState, ObserveError> {
    let mut question = LinkMessage::default();
    question.header.index = index;
    question.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    let question = RouteNetlinkMessage::GetLink(question);
    let flags = netns.run(|| {
        let parse = |payload: &[u8]| LinkMessage::parse(payload).ok().map(|link| link.header.flags);
        Netlink::route()?.ask("an interface", &question, parse)
    })?;
    match flags {
        Ok(flags) if !flags.contains(LinkFlags::Up) => Ok(LinkState::Down),
        Ok(flags) if !flags.contains(LinkFlags::LowerUp) => Ok(LinkState::NoCarrier),
        Ok(_) => Ok(LinkState::Up),
        Err(ObserveError::Refused { source, .. }) if source.raw_os_error() == Some(libc::ENODEV) => {
            Ok(LinkState::Gone)
        }
        Err(error) => Err(error),
    }
}
