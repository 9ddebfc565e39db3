//! What stands on the host's loopback: a name server, and origins.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, Record, RecordType};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

/// Things that a server saw, in order.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().expect("no panic while it is held").clone()
    }

    fn add(&self, entry: String) {
        self.0.lock().expect("no panic while it is held").push(entry);
    }
}

/// A name server that knows one address for all names under `example.com`. Logs the names it is
/// asked for.
pub(crate) async fn name_server(address: Ipv4Addr) -> (SocketAddr, Log) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let bound = socket.local_addr().expect("its address");
    let log = Log::default();
    let asked = log.clone();
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let query = Message::from_vec(&buffer[..length]).expect("a query");
            let question = query.queries[0].clone();
            let name = question.name.to_ascii().to_ascii_lowercase();
            let mut reply = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
            reply.queries = query.queries.clone();
            if !name.ends_with(".example.com.") {
                reply.metadata.response_code = ResponseCode::NXDomain;
            } else if question.query_type == RecordType::A {
                let data = RData::A(A(address));
                reply.answers = vec![Record::from_rdata(question.name.clone(), 60, data)];
            }
            asked.add(name);
            let reply = reply.to_vec().expect("a reply");
            socket.send_to(&reply, from).await.expect("sent");
        }
    });
    (bound, log)
}

/// An origin that answers every request with its path, and logs each head.
pub(crate) async fn origin(tls: Option<Arc<ServerConfig>>) -> (u16, Log) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let log = Log::default();
    let seen = log.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (seen, tls) = (seen.clone(), tls.clone().map(TlsAcceptor::from));
            tokio::spawn(async move {
                match tls {
                    None => serve(stream, &seen).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            serve(stream, &seen).await;
                        }
                    }
                }
            });
        }
    });
    (port, log)
}

/// Requests without a body, until one cannot be read or answered.
async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, seen: &Log) {
    let mut bytes = Vec::new();
    while let Ok(1..) = stream.read_buf(&mut bytes).await {
        while let Some(end) = bytes.windows(4).position(|part| part == b"\r\n\r\n") {
            let head: Vec<u8> = bytes.drain(..end + 4).collect();
            let head = String::from_utf8(head).expect("text");
            let path = head.split(' ').nth(1).expect("a path").to_owned();
            seen.add(head);
            let body = format!("you asked for {path}");
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}
