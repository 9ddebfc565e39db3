//! eth0: addresses and routes, by rtnetlink(7).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures::TryStreamExt;
use nix::errno::Errno;
use rtnetlink::{Error, Handle, LinkUnspec, RouteMessageBuilder};

use super::Network;
use crate::boot::files;
use crate::boot::step::{Failure, While};

const INTERFACE: &str = "eth0";

/// The addresses are given, and there is nobody to ask or to be in the way of: without these an
/// address could be used a second after it was set, or others would be added.
const SYSCTLS: [(&str, &str); 3] = [
    ("/proc/sys/net/ipv6/conf/eth0/accept_dad", "0"),
    ("/proc/sys/net/ipv6/conf/eth0/accept_ra", "0"),
    ("/proc/sys/net/ipv6/conf/eth0/autoconf", "0"),
];

/// Brings the interface up with its addresses and routes.
pub(crate) async fn set_up(network: &Network) -> Result<(), Failure> {
    let opened = rtnetlink::new_connection();
    let (connection, handle, _) = opened.during(|| "Opening a netlink socket".into())?;
    let served = tokio::spawn(connection);
    let done = with(&handle, network).await;
    served.abort();
    done
}

async fn with(handle: &Handle, network: &Network) -> Result<(), Failure> {
    let mut links = handle.link().get().match_name(INTERFACE.to_owned()).execute();
    let found = links.try_next().await.during(|| format!("Looking for {INTERFACE}"))?;
    let Some(link) = found else { return Err(Failure::new(format!("There is no {INTERFACE}"))) };
    let index = link.header.index;
    SYSCTLS.iter().try_for_each(|(path, value)| files::set(path, value))?;
    let up = LinkUnspec::new_with_index(index).mtu(network.mtu).up().build();
    let brought = handle.link().set(up).execute().await;
    brought.during(|| format!("Bringing {INTERFACE} up with an MTU of {}", network.mtu))?;
    for (ip, length) in &network.addresses {
        let added = handle.address().add(index, *ip, *length).execute().await;
        added.during(|| format!("Giving {INTERFACE} the address {ip}/{length}"))?;
    }
    for gateway in &network.gateways {
        let route = match gateway {
            IpAddr::V4(ip) => {
                RouteMessageBuilder::<Ipv4Addr>::new().output_interface(index).gateway(*ip).build()
            }
            IpAddr::V6(ip) => {
                RouteMessageBuilder::<Ipv6Addr>::new().output_interface(index).gateway(*ip).build()
            }
        };
        let added = handle.route().add(route).execute().await;
        added.during(|| format!("Adding the default route through {gateway}"))?;
    }
    Ok(())
}

impl<T> While<T> for Result<T, Error> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        match self {
            Ok(value) => Ok(value),
            Err(Error::NetlinkError(error)) => Err(Errno::from_raw(-error.raw_code())).during(what),
            Err(error) => Err(Failure::new(format!("{}: {error}", what()))),
        }
    }
}
