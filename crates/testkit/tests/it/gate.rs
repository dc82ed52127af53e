use std::time::Duration;

use testkit::wait::until;
use testkit::{Direction, Gate};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn what_is_held_stays_before_the_gate_until_it_is_let_go_in_order() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gate = Gate::before(server.local_addr().unwrap().port()).await.unwrap();
    let mut client = TcpStream::connect(("127.0.0.1", gate.port())).await.unwrap();
    let (mut peer, _) = server.accept().await.unwrap();
    let mut bytes = [0; 3];
    client.write_all(b"one").await.unwrap();
    peer.read_exact(&mut bytes).await.unwrap();
    gate.hold(Direction::ToServer);
    client.write_all(b"two").await.unwrap();
    until(SOON, "the gate to hold it", async || gate.holds(Direction::ToServer, "two")).await;
    client.write_all(b"six").await.unwrap();
    // The other direction is open all the while.
    peer.write_all(b"ten").await.unwrap();
    client.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"ten");
    assert!(peer.try_read(&mut bytes).is_err(), "a held gate let something pass");
    gate.let_go(Direction::ToServer);
    for expected in [b"two", b"six"] {
        peer.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, expected);
    }
    assert!(!gate.holds(Direction::ToServer, "two"));
}
