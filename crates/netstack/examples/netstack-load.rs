//! Work for a network, and the server that it is done with, for benchmarks:
//!
//! ```text
//! netstack-load serve 127.0.0.1:7000
//! netstack-load connect 10.0.2.2:7000 --seconds 2    prints connections per second
//! netstack-load ping 10.0.2.2:7000 --seconds 2       prints microseconds: p50 p99
//! netstack-load idle 10.0.2.2:7000 --flows 1000      prints "ready", then waits for its input to end
//! ```
//!
//! The server echoes, and ends a connection when its client does.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};

/// Bytes of a message.
const MESSAGE: usize = 64;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    work: Work,
}

#[derive(Debug, Subcommand)]
enum Work {
    /// Echo.
    Serve { at: SocketAddr },
    /// Connect, exchange one byte, and close, again and again.
    Connect {
        to: SocketAddr,
        #[arg(long, default_value_t = 2.0)]
        seconds: f64,
    },
    /// Exchange messages on one connection.
    Ping {
        to: SocketAddr,
        #[arg(long, default_value_t = 2.0)]
        seconds: f64,
    },
    /// Hold connections on which one byte has been exchanged.
    Idle {
        to: SocketAddr,
        #[arg(long, default_value_t = 1000)]
        flows: usize,
    },
}

fn main() -> Result<(), Failure> {
    match Arguments::parse().work {
        Work::Serve { at } => serve(at),
        Work::Connect { to, seconds } => connect(to, Duration::from_secs_f64(seconds)),
        Work::Ping { to, seconds } => ping(to, Duration::from_secs_f64(seconds)),
        Work::Idle { to, flows } => idle(to, flows),
    }
}

/// One thread waits for many connections, so that it is the network that is measured.
#[tokio::main(flavor = "current_thread")]
async fn serve(at: SocketAddr) -> Result<(), Failure> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = TcpListener::bind(at)?;
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    println("ready")?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let mut buffer = [0; MESSAGE];
            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                if stream.write_all(&buffer[..count]).await.is_err() {
                    return;
                }
            }
        });
    }
}

fn exchange(stream: &mut TcpStream, length: usize) -> Result<(), Failure> {
    let mut bytes = [7; MESSAGE];
    stream.write_all(&bytes[..length])?;
    stream.read_exact(&mut bytes[..length])?;
    Ok(())
}

fn connect(to: SocketAddr, long: Duration) -> Result<(), Failure> {
    let (started, mut count) = (Instant::now(), 0_u32);
    while started.elapsed() < long {
        let mut stream = TcpStream::connect(to)?;
        exchange(&mut stream, 1)?;
        stream.shutdown(std::net::Shutdown::Write)?;
        // The server's end: the connection is closed on both sides when the next one begins.
        if stream.read(&mut [0])? != 0 {
            return Err("the server said more than it was asked".into());
        }
        count += 1;
    }
    println(&format!("{:.1}", f64::from(count) / started.elapsed().as_secs_f64()))
}

fn ping(to: SocketAddr, long: Duration) -> Result<(), Failure> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_nodelay(true)?;
    let started = Instant::now();
    let mut trips = Vec::new();
    while started.elapsed() < long {
        let sent = Instant::now();
        exchange(&mut stream, MESSAGE)?;
        trips.push(sent.elapsed());
    }
    trips.sort_unstable();
    let at = |percent: usize| trips[(trips.len() - 1) * percent / 100].as_secs_f64() * 1e6;
    println(&format!("{:.1} {:.1}", at(50), at(99)))
}

fn idle(to: SocketAddr, flows: usize) -> Result<(), Failure> {
    let mut streams = Vec::with_capacity(flows);
    for _ in 0..flows {
        let mut stream = TcpStream::connect(to)?;
        exchange(&mut stream, 1)?;
        streams.push(stream);
    }
    println("ready")?;
    let mut rest = Vec::new();
    std::io::stdin().read_to_end(&mut rest)?;
    Ok(())
}

fn println(line: &str) -> Result<(), Failure> {
    let mut output = std::io::stdout();
    match writeln!(output, "{line}").and_then(|()| output.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
