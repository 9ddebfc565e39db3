//! Ports of the host that lead to ports of the guest. Who may connect is decided by the address that
//! is listened on: the loopback, unless the owner names another.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use netstack::{GuestPorts, Published};
use nix::errno::Errno;
use tokio::net::TcpListener;
use tokio::sync::Mutex;

use crate::error::Error;
use crate::limits::MAX_PUBLISHED;
use crate::request::PublishPlan;

/// How many ports are tried until one is free for both families.
const ATTEMPTS: usize = 16;

/// The ports that are published.
#[derive(Debug)]
pub(super) struct Ports {
    guest: GuestPorts,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    published: HashMap<u64, Vec<Published>>,
    last: u64,
    ended: bool,
}

/// A port that is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listening {
    /// Its number.
    pub id: u64,
    /// Port of the host.
    pub port: u16,
    /// Addresses that are listened on.
    pub hosts: Vec<IpAddr>,
}

impl Ports {
    pub(super) fn new(guest: GuestPorts) -> Self {
        Self { guest, state: Mutex::default() }
    }

    pub(super) async fn publish(&self, plan: &PublishPlan) -> Result<Listening, Error> {
        let mut state = self.state.lock().await;
        if state.ended {
            return Err(Error::Closed);
        }
        if state.published.len() >= MAX_PUBLISHED as usize {
            return Err(Error::Limit { what: "ports published", limit: MAX_PUBLISHED });
        }
        let listeners = match plan.host {
            Some(host) => vec![listen(host, plan.host_port).await?],
            None => loopback(plan.host_port).await?,
        };
        let mut published = Vec::new();
        for listener in listeners {
            let leads = self.guest.publish(listener, plan.guest_port);
            published.push(leads.map_err(|_| Error::Defect("A listener"))?);
        }
        state.last += 1;
        let id = state.last;
        let port = published.first().map_or(0, |published| published.local_addr().port());
        let hosts = published.iter().map(|published| published.local_addr().ip()).collect();
        tracing::info!(id, guest_port = plan.guest_port, port, ?hosts, "a port is published");
        state.published.insert(id, published);
        Ok(Listening { id, port, hosts })
    }

    /// Stops listening. Connections that are open go on.
    pub(super) async fn unpublish(&self, id: u64) -> Result<(), Error> {
        let mut state = self.state.lock().await;
        let Some(published) = state.published.remove(&id) else {
            return Err(Error::NoSuch { what: "published port", id });
        };
        tracing::info!(id, "a port is unpublished");
        close(published).await;
        Ok(())
    }

    /// The VM has ended.
    pub(super) async fn end(&self) {
        let mut state = self.state.lock().await;
        state.ended = true;
        let all = std::mem::take(&mut state.published);
        close(all.into_values().flatten().collect()).await;
    }
}

async fn close(published: Vec<Published>) {
    for listener in published {
        listener.close().await;
    }
}

/// Listeners on one port of 127.0.0.1 and of `::1`, where there is IPv6.
async fn loopback(port: u16) -> Result<Vec<TcpListener>, Error> {
    let mut attempt = 1;
    loop {
        let v4 = listen(Ipv4Addr::LOCALHOST.into(), port).await?;
        let found = v4.local_addr().map_err(|source| refused(Ipv4Addr::LOCALHOST, port, source))?;
        match TcpListener::bind((Ipv6Addr::LOCALHOST, found.port())).await {
            Ok(v6) => return Ok(vec![v4, v6]),
            Err(error) if is_missing(&error) => return Ok(vec![v4]),
            // Another program has it there: any other port will do.
            Err(_) if port == 0 && attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(refused(Ipv6Addr::LOCALHOST, port, error)),
        }
    }
}

/// Whether there is no IPv6 on this host.
fn is_missing(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EADDRNOTAVAIL | Errno::EAFNOSUPPORT))
}

async fn listen(host: IpAddr, port: u16) -> Result<TcpListener, Error> {
    let bound = TcpListener::bind(SocketAddr::new(host, port)).await;
    bound.map_err(|source| refused(host, port, source))
}

fn refused(host: impl Into<IpAddr>, port: u16, source: io::Error) -> Error {
    Error::Publish { address: SocketAddr::new(host.into(), port), source }
}
