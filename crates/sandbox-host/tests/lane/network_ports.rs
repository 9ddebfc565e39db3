//! Ports of the host that lead to ports of the guest.

use std::net::SocketAddr;

use protocol::ErrorCode;
use protocol::v1;
use protocol::v1::network_event::Event;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tonic::Status;

use crate::client::{assert_code, detail, soon, until};
use crate::network_client::World;

const GUEST_PORT: u16 = 8080;

async fn publish(
    world: &World,
    host_port: u16,
    host: &str,
) -> Result<v1::PublishPortResponse, Status> {
    let request = v1::PublishPortRequest {
        guest_port: GUEST_PORT.into(),
        host_port: host_port.into(),
        host: host.to_owned(),
    };
    let answer = soon(world.helper.network.clone().publish_port(request)).await?;
    Ok(answer.into_inner())
}

async fn unpublish(world: &World, id: u64) -> Result<(), Status> {
    let request = v1::UnpublishPortRequest { id };
    soon(world.helper.network.clone().unpublish_port(request)).await.map(drop)
}

fn address(published: &v1::PublishPortResponse, index: usize) -> SocketAddr {
    let port = u16::try_from(published.host_port).unwrap();
    SocketAddr::new(published.hosts[index].parse().unwrap(), port)
}

/// Whether somebody listens there.
fn listens(address: SocketAddr) -> bool {
    std::net::TcpStream::connect(address).is_ok()
}

/// The guest's hardware address is known from its first packet.
async fn speaks(world: &World) {
    world.connect(9).await.expect_err("denied");
}

#[tokio::test]
async fn a_published_port_leads_to_the_guest_until_it_is_unpublished() {
    let world = World::new(v1::NetworkPolicy::default()).await;
    speaks(&world).await;
    let published = publish(&world, 0, "").await.unwrap();
    assert_eq!(published.hosts[0], "127.0.0.1");
    let (guest, client) = tokio::join!(world.guest.listen(GUEST_PORT), async {
        let mut client = soon(TcpStream::connect(address(&published, 0))).await.unwrap();
        client.write_all(b"hello").await.unwrap();
        client
    });
    let (mut guest, mut client) = (guest.unwrap(), client);
    let mut word = [0; 5];
    soon(guest.read_exact(&mut word)).await.unwrap();
    assert_eq!(&word, b"hello");
    soon(guest.write_all(b"world")).await.unwrap();
    soon(client.read_exact(&mut word)).await.unwrap();
    assert_eq!(&word, b"world");
    drop((guest, client));
    // Where there is IPv6, the same port is listened on.
    for index in 0..published.hosts.len() {
        assert!(listens(address(&published, index)));
    }
    unpublish(&world, published.id).await.unwrap();
    for index in 0..published.hosts.len() {
        assert!(!listens(address(&published, index)));
    }
    let error = detail(unpublish(&world, published.id).await);
    assert_code(&error, ErrorCode::NotFound);
    let ended = world.told("the end", |event| matches!(event, Event::Closed(_))).await;
    let Event::Closed(closed) = ended else { panic!("{ended:?}") };
    let flow = closed.flow.unwrap();
    let destination = flow.destination.unwrap();
    assert_eq!((destination.ip.as_str(), destination.port), ("10.0.2.15", GUEST_PORT.into()));
    assert_eq!((closed.sent_bytes, closed.received_bytes), (5, 5));
    let other = publish(&world, 0, "127.0.0.1").await.unwrap();
    assert_ne!(other.id, published.id);
}

#[tokio::test]
async fn open_connections_go_on_without_their_listener_and_end_with_the_machine() {
    let world = World::new(v1::NetworkPolicy::default()).await;
    speaks(&world).await;
    let published = publish(&world, 0, "127.0.0.1").await.unwrap();
    let kept = publish(&world, 0, "").await.unwrap();
    let (guest, client) = tokio::join!(world.guest.listen(GUEST_PORT), async {
        soon(TcpStream::connect(address(&published, 0))).await.unwrap()
    });
    let (mut guest, mut client) = (guest.unwrap(), client);
    unpublish(&world, published.id).await.unwrap();
    soon(client.write_all(b"still")).await.unwrap();
    soon(guest.read_exact(&mut [0; 5])).await.unwrap();
    world.helper.shutdown(0).await.unwrap();
    assert_eq!(soon(client.read(&mut [0; 8])).await.unwrap_or(0), 0);
    assert!(!listens(address(&kept, 0)));
    let error = detail(publish(&world, 0, "").await);
    assert_code(&error, ErrorCode::SandboxExited);
}

#[tokio::test]
async fn a_port_where_nobody_listens_in_the_guest_ends_the_connection() {
    let world = World::new(v1::NetworkPolicy::default()).await;
    speaks(&world).await;
    let published = publish(&world, 0, "").await.unwrap();
    let mut client = soon(TcpStream::connect(address(&published, 0))).await.unwrap();
    assert_eq!(soon(client.read(&mut [0; 8])).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn a_port_that_is_taken_or_makes_no_sense_is_refused() {
    let world = World::new(v1::NetworkPolicy::default()).await;
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = detail(publish(&world, port, "").await);
    assert_code(&error, ErrorCode::InvalidArgument);
    assert_eq!(error.errno, "EADDRINUSE");
    assert!(error.message.contains(&format!("127.0.0.1:{port}")), "{error:?}");
    let error = detail(publish(&world, 0, "localhost").await);
    assert!(error.message.starts_with("host is \"localhost\""), "{error:?}");
    drop(taken);
    until("the port is free", || !listens(SocketAddr::from(([127, 0, 0, 1], port)))).await;
    let published = publish(&world, port, "127.0.0.1").await.unwrap();
    assert_eq!(
        (published.host_port, &published.hosts[..]),
        (port.into(), &["127.0.0.1".to_owned()][..])
    );
}
