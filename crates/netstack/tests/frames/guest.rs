//! A guest made of smoltcp, with a frame socket as its card.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use netstack::{GATEWAY_V4, GUEST_V4};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::{tcp, udp};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr};
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::card::{Card, MTU};

/// Long enough for any machine; never reached by a test that passes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
const MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 9]);
/// How often everything is looked at.
const TICK: Duration = Duration::from_millis(1);
const FIRST_PORT: u16 = 49_152;

enum Command {
    Connect(SocketAddr, oneshot::Sender<io::Result<UnixStream>>),
    Listen(u16, oneshot::Sender<io::Result<UnixStream>>),
    Ask(SocketAddr, Vec<u8>, oneshot::Sender<Vec<u8>>),
}

/// A guest. It lives as long as its frame socket is served.
pub(crate) struct Guest(UnboundedSender<Command>);

impl Guest {
    /// Starts it on its end of the frame socket.
    pub(crate) fn start(frames: UnixStream) -> Self {
        Self::start_as(frames, MAC)
    }

    /// The same with a card that has this address.
    pub(crate) fn start_as(frames: UnixStream, mac: EthernetAddress) -> Self {
        let (sender, commands) = unbounded_channel();
        tokio::spawn(Life::new(frames, mac).live(commands));
        Self(sender)
    }

    /// Takes one connection at a port. What is returned is the guest's program's end of it.
    #[allow(dead_code, reason = "not every test has a guest that listens")]
    pub(crate) async fn listen(&self, port: u16) -> io::Result<UnixStream> {
        let (reply, result) = oneshot::channel();
        self.0.send(Command::Listen(port, reply)).expect("the guest lives");
        timeout(PATIENCE, result).await.expect("an outcome").expect("the guest lives")
    }

    /// Connects. What is returned is the guest's program's end of the connection; an error also when
    /// the guest has ended.
    pub(crate) async fn connect(&self, to: SocketAddr) -> io::Result<UnixStream> {
        let (reply, result) = oneshot::channel();
        let ended = || Err(io::ErrorKind::ConnectionAborted.into());
        if self.0.send(Command::Connect(to, reply)).is_err() {
            return ended();
        }
        timeout(PATIENCE, result).await.expect("an outcome").unwrap_or_else(|_| ended())
    }

    /// Sends a datagram and waits for the one that answers it.
    pub(crate) async fn ask(&self, to: SocketAddr, datagram: &[u8]) -> Vec<u8> {
        let (reply, result) = oneshot::channel();
        self.0.send(Command::Ask(to, datagram.to_vec(), reply)).expect("the guest lives");
        timeout(PATIENCE, result).await.expect("an answer").expect("the guest lives")
    }
}

/// A connection: first somebody waits for it, then it has a program.
struct Connection {
    handle: SocketHandle,
    waiting: Option<oneshot::Sender<io::Result<UnixStream>>>,
    program: Option<UnixStream>,
    /// The program has been told that nothing more comes.
    ended: bool,
}

struct Life {
    frames: UnixStream,
    /// Bytes of frames that have not come whole.
    partial: Vec<u8>,
    card: Card,
    iface: Interface,
    sockets: SocketSet<'static>,
    connections: Vec<Connection>,
    questions: Vec<(SocketHandle, oneshot::Sender<Vec<u8>>)>,
    started: std::time::Instant,
    next_port: u16,
}

impl Life {
    fn new(frames: UnixStream, mac: EthernetAddress) -> Self {
        let mut card = Card::default();
        let config = Config::new(HardwareAddress::Ethernet(mac));
        let mut iface = Interface::new(config, &mut card, Instant::ZERO);
        iface.update_ip_addrs(|all| all.push(IpCidr::new(GUEST_V4.into(), 24)).expect("room"));
        iface.routes_mut().add_default_ipv4_route(GATEWAY_V4).expect("room");
        Self {
            frames,
            partial: Vec::new(),
            card,
            iface,
            sockets: SocketSet::new(Vec::new()),
            connections: Vec::new(),
            questions: Vec::new(),
            started: std::time::Instant::now(),
            next_port: FIRST_PORT,
        }
    }

    async fn live(mut self, mut commands: UnboundedReceiver<Command>) {
        let mut ticks = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.begin(command),
                    None => return,
                },
                _ = ticks.tick() => {}
            }
            if !self.read_frames() {
                return;
            }
            let now = i64::try_from(self.started.elapsed().as_micros()).expect("a short test");
            self.iface.poll(Instant::from_micros(now), &mut self.card, &mut self.sockets);
            let sockets = &mut self.sockets;
            self.connections.retain_mut(|connection| connection.turn(sockets));
            self.read_answers();
            while let Some(frame) = self.card.sent.pop_front() {
                let length = u32::try_from(frame.len()).expect("a frame").to_be_bytes();
                let whole = [&length[..], &frame].concat();
                if self.frames.write_all(&whole).await.is_err() {
                    return;
                }
            }
        }
    }

    fn begin(&mut self, command: Command) {
        let port = self.next_port;
        self.next_port += 1;
        match command {
            Command::Connect(to, reply) => {
                let buffer = || tcp::SocketBuffer::new(vec![0; 65_536]);
                let mut socket = tcp::Socket::new(buffer(), buffer());
                socket.connect(self.iface.context(), to, port).expect("a new socket");
                self.add(socket, reply);
            }
            Command::Listen(port, reply) => {
                let buffer = || tcp::SocketBuffer::new(vec![0; 65_536]);
                let mut socket = tcp::Socket::new(buffer(), buffer());
                socket.listen(port).expect("a new socket");
                self.add(socket, reply);
            }
            Command::Ask(to, datagram, reply) => {
                let buffer =
                    || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 4], vec![0; 8192]);
                let mut socket = udp::Socket::new(buffer(), buffer());
                socket.bind(port).expect("a new socket");
                socket.send_slice(&datagram, to).expect("room");
                self.questions.push((self.sockets.add(socket), reply));
            }
        }
    }

    fn add(
        &mut self,
        socket: tcp::Socket<'static>,
        waiting: oneshot::Sender<io::Result<UnixStream>>,
    ) {
        let handle = self.sockets.add(socket);
        self.connections.push(Connection {
            handle,
            waiting: Some(waiting),
            program: None,
            ended: false,
        });
    }

    /// Takes frames in. `false`: the other side has gone.
    fn read_frames(&mut self) -> bool {
        let mut buffer = [0; 65_536];
        loop {
            match self.frames.try_read(&mut buffer) {
                Ok(0) => return false,
                Ok(count) => self.partial.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return false,
            }
        }
        while let Some((length, rest)) = self.partial.split_first_chunk::<4>() {
            let length = u32::from_be_bytes(*length) as usize;
            assert!(length <= usize::from(MTU) + 14, "a frame of {length} bytes");
            let Some(frame) = rest.get(..length) else { break };
            self.card.received.push_back(frame.to_vec());
            self.partial.drain(..4 + length);
        }
        true
    }

    fn read_answers(&mut self) {
        let mut waiting = Vec::new();
        for (handle, reply) in self.questions.drain(..) {
            match self.sockets.get_mut::<udp::Socket>(handle).recv() {
                // Nobody may wait any more.
                Ok((datagram, _)) => drop(reply.send(datagram.to_vec())),
                Err(_) => waiting.push((handle, reply)),
            }
        }
        self.questions = waiting;
    }
}

impl Connection {
    /// Moves what can be moved. `false`: it is over.
    fn turn(&mut self, sockets: &mut SocketSet<'static>) -> bool {
        let socket = sockets.get_mut::<tcp::Socket>(self.handle);
        if let Some(waiting) = self.waiting.take() {
            if socket.state() == tcp::State::Closed {
                // Nobody may wait any more.
                let _ = waiting.send(Err(io::ErrorKind::ConnectionRefused.into()));
                sockets.remove(self.handle);
                return false;
            }
            if !socket.may_send() {
                self.waiting = Some(waiting);
                return true;
            }
            let (ours, theirs) = UnixStream::pair().expect("two sockets");
            self.program = Some(ours);
            let _ = waiting.send(Ok(theirs));
        }
        let Some(program) = &self.program else { return false };
        while socket.can_recv() {
            let moved = socket.recv(|bytes| match program.try_write(bytes) {
                Ok(count) => (count, count),
                // It waits, or the program has gone and wants nothing.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => (0, 0),
                Err(_) => (bytes.len(), bytes.len()),
            });
            if moved.expect("it can") == 0 {
                break;
            }
        }
        while socket.can_send() {
            let moved = socket.send(|room| match program.try_read(room) {
                Ok(0) => (0, None),
                Ok(count) => (count, Some(count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => (0, Some(0)),
                Err(_) => (0, None),
            });
            match moved.expect("it can") {
                None => socket.close(),
                Some(0) => break,
                Some(_) => {}
            }
        }
        if !socket.may_recv() && !socket.can_recv() && !self.ended {
            self.ended = true;
            // It fails when the program has gone.
            let _ = SockRef::from(program).shutdown(Shutdown::Write);
        }
        if socket.state() != tcp::State::Closed {
            return true;
        }
        sockets.remove(self.handle);
        false
    }
}
