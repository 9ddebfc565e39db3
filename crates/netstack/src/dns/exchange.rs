//! One query to the servers, one after the other, until one gives an answer that can be used.
//!
//! Each attempt has a socket and an id of its own, both random, and takes nothing from elsewhere than
//! the server it asked (RFC 5452). An answer that is cut off is asked for again over TCP.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::query::Query;
use super::servers::Server;
use super::sift::{self, Lie, Pin};

/// Longest answer over UDP that is read; we ask for less.
const LONGEST_DATAGRAM: usize = 4_096;
/// Datagrams that are no answer to our query, before the attempt is given up.
const MOST_STRANGERS: usize = 32;

/// How servers are asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For the first attempt at a server; the second one takes twice as long.
    pub(super) attempt: Duration,
    /// For all of it.
    pub(super) total: Duration,
}

/// Asks servers.
#[derive(Debug)]
pub(super) struct Exchange {
    patience: Patience,
    slots: Semaphore,
    /// The one that answered last is asked first.
    answered_last: Mutex<Option<Server>>,
}

/// An answer that has been checked.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) message: Message,
    pub(super) pins: Vec<Pin>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("Too many queries are under way")]
    Busy,
    #[error("There is no server to ask")]
    NoServer,
    #[error("No server answered in time")]
    TimedOut,
    #[error("The server cannot be reached")]
    Io(#[from] io::Error),
    #[error("The server sent what cannot be read")]
    Unreadable,
    #[error("The server sent something else than the answer")]
    NotTheAnswer,
    #[error(transparent)]
    Lie(#[from] Lie),
}

impl Exchange {
    pub(super) fn new(patience: Patience, at_once: usize) -> Self {
        Self { patience, slots: Semaphore::new(at_once), answered_last: Mutex::default() }
    }

    /// Asks until one of the servers knows. Another failure than NXDOMAIN is believed only when
    /// nobody knows better.
    pub(super) async fn ask(&self, servers: &[Server], query: &Query) -> Result<Answer, Failure> {
        let _slot = self.slots.try_acquire().map_err(|_| Failure::Busy)?;
        let mut best = Err(Failure::NoServer);
        let attempts = async {
            for round in 0..2 {
                for server in self.in_order(servers) {
                    match self.attempt(server, query, self.patience.attempt * (1 << round)).await {
                        Ok(answer) if is_knowledge(&answer.message) => {
                            *self.last() = Some(server);
                            best = Ok(answer);
                            return;
                        }
                        Err(_) if best.is_ok() => (),
                        other => best = other,
                    }
                }
                if best.is_ok() {
                    return;
                }
            }
        };
        if timeout(self.patience.total, attempts).await.is_err() && best.is_err() {
            return Err(Failure::TimedOut);
        }
        best
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Option<Server>> {
        self.answered_last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn in_order(&self, servers: &[Server]) -> Vec<Server> {
        let last = *self.last();
        let mut servers = servers.to_vec();
        servers.sort_by_key(|server| Some(*server) != last);
        servers
    }

    async fn attempt(
        &self,
        server: Server,
        query: &Query,
        patience: Duration,
    ) -> Result<Answer, Failure> {
        let ask = async {
            let message = exchange(server.address(), query, true).await?;
            // Servers from before EDNS do not know what to make of it (RFC 6891, 7).
            let old = matches!(
                message.metadata.response_code,
                ResponseCode::FormErr | ResponseCode::NotImp | ResponseCode::BADVERS
            );
            if old { exchange(server.address(), query, false).await } else { Ok(message) }
        };
        let mut message = timeout(patience, ask).await.map_err(|_| Failure::TimedOut)??;
        let pins = sift::sift(&mut message)?;
        Ok(Answer { message, pins })
    }
}

fn is_knowledge(message: &Message) -> bool {
    matches!(message.metadata.response_code, ResponseCode::NoError | ResponseCode::NXDomain)
}

async fn exchange(server: SocketAddr, query: &Query, edns: bool) -> Result<Message, Failure> {
    let id = rand::random();
    let asked = query.to_server(id, edns).to_vec().map_err(|_| Failure::Unreadable)?;
    let message = over_udp(server, query, id, &asked).await?;
    if !message.metadata.truncation {
        return Ok(message);
    }
    over_tcp(server, query, id, &asked).await
}

async fn over_udp(
    server: SocketAddr,
    query: &Query,
    id: u16,
    asked: &[u8],
) -> Result<Message, Failure> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(asked).await?;
    let mut buffer = vec![0; LONGEST_DATAGRAM];
    for _ in 0..MOST_STRANGERS {
        let length = socket.recv(&mut buffer).await?;
        let bytes = &buffer[..length];
        // A forger who does not know the id must not be able to end the attempt.
        if bytes.get(..2) != Some(&id.to_be_bytes()) {
            continue;
        }
        match Message::from_vec(bytes) {
            Ok(message) if query.is_answered_by(&message, id) => return Ok(message),
            Ok(_) => (),
            // Some servers cut in the middle of a record.
            Err(_) if bytes.get(2).is_some_and(|flags| flags & 0x02 != 0) => {
                let mut message = Message::new(id, MessageType::Response, OpCode::Query);
                message.metadata.truncation = true;
                return Ok(message);
            }
            Err(_) => return Err(Failure::Unreadable),
        }
    }
    Err(Failure::NotTheAnswer)
}

async fn over_tcp(
    server: SocketAddr,
    query: &Query,
    id: u16,
    asked: &[u8],
) -> Result<Message, Failure> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(asked.len()).map_err(|_| Failure::Unreadable)?;
    stream.write_all(&[&length.to_be_bytes()[..], asked].concat()).await?;
    let mut bytes = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut bytes).await?;
    let message = Message::from_vec(&bytes).map_err(|_| Failure::Unreadable)?;
    if !query.is_answered_by(&message, id) || message.metadata.truncation {
        return Err(Failure::NotTheAnswer);
    }
    Ok(message)
}
