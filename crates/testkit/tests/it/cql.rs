//! A real Cassandra node, asked with raw frames: this crate knows no driver.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use testkit::Cassandra;

/// Whether the node answers the first question of the CQL protocol, version 4: an OPTIONS frame by a SUPPORTED one.
fn answers(node: &Cassandra) -> std::io::Result<bool> {
    let mut socket = TcpStream::connect(node.address())?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    socket.write_all(&[4, 0, 0, 0, 5, 0, 0, 0, 0])?;
    let mut head = [0; 9];
    socket.read_exact(&mut head)?;
    Ok((head[0], head[4]) == (0x84, 6))
}

#[tokio::test]
#[ignore = "needs Cassandra: `cargo xtask test cql`"]
async fn a_node_answers_is_paused_killed_stopped_and_comes_back_on_its_port() {
    let node = Cassandra::start().await.unwrap();
    assert!(answers(&node).unwrap());
    node.pause().unwrap();
    assert!(answers(&node).is_err());
    node.resume().unwrap();
    assert!(answers(&node).unwrap());
    node.kill().unwrap();
    assert!(answers(&node).is_err());
    node.restart().await.unwrap();
    assert!(answers(&node).unwrap(), "{}", node.tail());
    node.stop().await.unwrap();
    assert!(answers(&node).is_err());
}
