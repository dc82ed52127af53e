//! A real nats-server, driven with raw sockets: this crate knows no client.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result};
use testkit::{NatsOptions, NatsServer, wait};

const SOON: Duration = Duration::from_secs(10);

/// Asks for JetStream's account figures over the wire, as a client would.
fn jetstream_info(port: u16) -> Result<String> {
    let mut socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    socket.write_all(b"CONNECT {\"verbose\":false}\r\nSUB reply 1\r\nPUB $JS.API.INFO reply 0\r\n\r\n")?;
    BufReader::new(socket)
        .lines()
        .map_while(Result::ok)
        .find(|line| line.contains("account_info_response"))
        .context("no answer")
}

fn make_stream(port: u16, name: &str) -> Result<String> {
    let config = format!("{{\"name\":\"{name}\",\"subjects\":[\"{name}.x\"],\"storage\":\"file\"}}");
    let mut socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    let length = config.len();
    write!(
        socket,
        "CONNECT {{\"verbose\":false}}\r\nSUB reply 1\r\nPUB $JS.API.STREAM.CREATE.{name} reply {length}\r\n{config}\r\n"
    )?;
    BufReader::new(socket)
        .lines()
        .map_while(Result::ok)
        .find(|line| line.contains("stream_create_response"))
        .context("no answer")
}

#[tokio::test]
async fn a_server_answers_jetstream_calls() {
    let server = NatsServer::start(NatsOptions::default()).await.unwrap();
    assert!(server.url().starts_with("nats://127.0.0.1:"));
    assert!(jetstream_info(server.port()).unwrap().contains("\"streams\":0"));
}

#[tokio::test]
async fn a_killed_server_comes_back_on_its_port_with_its_streams() {
    let server = NatsServer::start(NatsOptions::default().sync_always()).await.unwrap();
    let (port, pid) = (server.port(), server.pid());
    make_stream(port, "kept").unwrap();
    server.kill().unwrap();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    server.restart().await.unwrap();
    assert_eq!(server.port(), port);
    assert_ne!(server.pid(), pid);
    assert!(jetstream_info(port).unwrap().contains("\"streams\":1"));
    server.stop().await.unwrap();
    server.restart().await.unwrap();
    assert!(jetstream_info(port).unwrap().contains("\"streams\":1"));
}

#[tokio::test]
async fn a_paused_server_is_silent_until_resumed() {
    let server = NatsServer::start(NatsOptions::default()).await.unwrap();
    server.pause().unwrap();
    assert!(jetstream_info(server.port()).is_err());
    server.resume().unwrap();
    wait::until(SOON, "an answer after the pause", async || jetstream_info(server.port()).is_ok()).await;
}

#[tokio::test]
async fn a_store_put_back_has_lost_its_tail() {
    let server = NatsServer::start(NatsOptions::default()).await.unwrap();
    make_stream(server.port(), "early").unwrap();
    server.stop().await.unwrap();
    let saved = server.save_store().unwrap();
    server.restart().await.unwrap();
    assert!(server.save_store().is_err(), "a running server's disk must not be copied");
    make_stream(server.port(), "late").unwrap();
    server.stop().await.unwrap();
    server.put_back_store(&saved).unwrap();
    server.restart().await.unwrap();
    assert!(jetstream_info(server.port()).unwrap().contains("\"streams\":1"));
}

#[tokio::test]
async fn options_reach_the_server() {
    let options = NatsOptions::default().sync_always().max_file_store(10_000_000).extra_config("max_payload: 300000");
    let server = NatsServer::start(options).await.unwrap();
    let config = fs::read_to_string(server.folder().join("nats.conf")).unwrap();
    assert!(config.contains("sync_interval: always"), "{config}");
    assert!(server.log().contains("Max Storage:     9.54 MB"), "{}", server.log());
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let first = NatsServer::start(NatsOptions::default()).await.unwrap();
    let error = NatsServer::start(NatsOptions::default().port(first.port())).await.unwrap_err();
    assert_eq!(error.to_string(), format!("port {} is taken", first.port()));
}

#[tokio::test]
async fn a_dropped_server_leaves_no_process_and_no_folder() {
    let server = NatsServer::start(NatsOptions::default()).await.unwrap();
    let (port, folder) = (server.port(), server.folder().to_path_buf());
    drop(server);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    assert!(!folder.exists());
}
