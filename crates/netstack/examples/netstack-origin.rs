//! An HTTPS server for benchmarks, with a root of its own:
//!
//! ```text
//! netstack-origin 127.0.0.1:7443 --name 10.0.2.2 --root root.pem
//! ```
//!
//! Writes the root's certificate, prints `ready`, and answers every request with a short text.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::SystemTime;

use clap::Parser;
use http::Response;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use netstack::http::full;
use netstack::tls::{Alpn, Authority};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

#[derive(Debug, Parser)]
struct Arguments {
    /// Where to listen
    at: SocketAddr,
    /// The name or the address in the certificate
    #[arg(long)]
    name: String,
    /// Where the root's certificate is written, in PEM
    #[arg(long)]
    root: PathBuf,
}

/// One thread serves many connections, so that it is what lies before it that is measured.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let arguments = Arguments::parse();
    let now = SystemTime::now();
    let authority = Authority::new(now)?;
    let tls = TlsAcceptor::from(authority.server_config(&arguments.name, Alpn::Http1, now)?);
    let listener = TcpListener::bind(arguments.at).await?;
    std::fs::write(&arguments.root, authority.certificate_pem())?;
    eprintln!("ready");
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let tls = tls.clone();
        tokio::spawn(async move {
            let Ok(stream) = tls.accept(stream).await else { return };
            let answer =
                service_fn(async |_| Ok::<_, Infallible>(Response::new(full("as you asked"))));
            // A client that leaves is no error.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}
