//! Whom to ask: the servers that the caller names, or those of the host's `resolv.conf`(5).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::time::Instant;

/// Where resolvers listen.
const PORT: u16 = 53;
/// How long the host's configuration is believed without looking again.
const BELIEVED: Duration = Duration::from_secs(5);
/// Bytes of the host's configuration.
const LONGEST_FILE: u64 = 64 << 10;
/// Servers of the host that are used.
const MOST_SERVERS: usize = 8;

/// A server: `"ip"`, `"ip:port"`, `"v6"` or `"[v6]:port"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Server(SocketAddr);

/// A text that names no server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Not the address of a resolver (ip, ip:port or [ip]:port): {0:?}")]
pub struct InvalidServer(String);

impl Server {
    /// Its address.
    #[must_use]
    pub fn address(self) -> SocketAddr {
        self.0
    }
}

impl From<SocketAddr> for Server {
    fn from(address: SocketAddr) -> Self {
        Self(address)
    }
}

impl FromStr for Server {
    type Err = InvalidServer;

    fn from_str(text: &str) -> Result<Self, InvalidServer> {
        let bracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        let address = match (text.parse::<SocketAddr>(), text.parse::<IpAddr>(), bracketed) {
            (Ok(address), _, _) => Some(address),
            (_, Ok(ip), _) => Some(SocketAddr::new(ip, PORT)),
            (_, _, Some(text)) => text.parse().ok().map(|ip| SocketAddr::new(IpAddr::V6(ip), PORT)),
            _ => None,
        };
        let usable = |address: &SocketAddr| {
            address.port() != 0 && !address.ip().is_unspecified() && !address.ip().is_multicast()
        };
        address.filter(usable).map(Self).ok_or_else(|| InvalidServer(text.to_owned()))
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The servers to ask.
#[derive(Debug)]
pub enum Servers {
    /// These.
    Named(Vec<Server>),
    /// Those that the host asks.
    Host(HostServers),
}

impl Servers {
    /// These servers; the host's when none is named.
    #[must_use]
    pub fn new(named: Vec<Server>) -> Self {
        if named.is_empty() {
            Self::host_file("/etc/resolv.conf".into())
        } else {
            Self::Named(named)
        }
    }

    /// Those in a file of the form of `resolv.conf`.
    #[must_use]
    pub fn host_file(path: PathBuf) -> Self {
        Self::Host(HostServers { path, read: Mutex::default() })
    }

    pub(super) async fn list(&self) -> Vec<Server> {
        match self {
            Self::Named(servers) => servers.clone(),
            Self::Host(host) => host.list().await,
        }
    }
}

/// The servers of the host, read anew as they change.
#[derive(Debug)]
pub struct HostServers {
    path: PathBuf,
    read: Mutex<Option<(Instant, Vec<Server>)>>,
}

impl HostServers {
    async fn list(&self) -> Vec<Server> {
        let now = Instant::now();
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((since, servers)) = &read
            && now.saturating_duration_since(*since) < BELIEVED
        {
            return servers.clone();
        }
        let servers = match (self.text().await, read) {
            (Some(text), _) => parse(&text),
            (None, Some((_, servers))) => servers,
            (None, None) => parse(""),
        };
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        *read = Some((now, servers.clone()));
        servers
    }

    /// Nothing when the file is there and cannot be read, as in a process that may only read the
    /// file that was there when it began: then what was read before goes on.
    async fn text(&self) -> Option<String> {
        let mut bytes = Vec::new();
        let read = async {
            let file = tokio::fs::File::open(&self.path).await?;
            file.take(LONGEST_FILE).read_to_end(&mut bytes).await
        };
        if let Err(error) = read.await {
            tracing::debug!(%error, path = %self.path.display(), "no resolver configuration");
            if error.kind() != std::io::ErrorKind::NotFound {
                return None;
            }
        }
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// The servers in a `resolv.conf`; without any, the one on this machine.
fn parse(text: &str) -> Vec<Server> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse().ok()).flatten()
    };
    let servers: Vec<Server> = text.lines().filter_map(server).take(MOST_SERVERS).collect();
    if servers.is_empty() {
        return vec![Server(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), PORT))];
    }
    servers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_an_address_with_or_without_a_port() {
        for (text, address) in [
            ("192.0.2.1", "192.0.2.1:53"),
            ("192.0.2.1:5353", "192.0.2.1:5353"),
            ("2001:db8::1", "[2001:db8::1]:53"),
            ("[2001:db8::1]", "[2001:db8::1]:53"),
            ("[2001:db8::1]:54", "[2001:db8::1]:54"),
        ] {
            assert_eq!(text.parse::<Server>().unwrap().to_string(), address);
        }
        for text in [
            "",
            "dns.example",
            "192.0.2.1:",
            "192.0.2.1:0",
            "1.2.3",
            "[192.0.2.1]",
            "::",
            "224.0.0.1",
        ] {
            let error = text.parse::<Server>().unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_cannot_be_read_any_more_leaves_the_servers_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resolv.conf");
        std::fs::write(&path, "nameserver 192.0.2.1\n").unwrap();
        let servers = Servers::host_file(path.clone());
        let list =
            async || servers.list().await.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(list().await, ["192.0.2.1:53"]);
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        tokio::time::advance(BELIEVED).await;
        assert_eq!(list().await, ["192.0.2.1:53"]);
        std::fs::remove_dir(&path).unwrap();
        tokio::time::advance(BELIEVED).await;
        assert_eq!(list().await, ["127.0.0.1:53"]);
    }

    #[test]
    fn the_hosts_servers_are_those_of_its_file() {
        let text = "# nameserver 1.1.1.1\nsearch example\nnameserver 192.0.2.1\n\
            nameserver  2001:db8::1 # v6\nnameserver nonsense\noptions ndots:1\n";
        let found: Vec<_> = parse(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["192.0.2.1:53", "[2001:db8::1]:53"]);
        assert_eq!(parse("search example\n")[0].to_string(), "127.0.0.1:53");
    }
}
