//! The control: an echo server on stock fastwebsockets, with its own reader, auto-pong and auto-close.

use std::net::SocketAddr;
use std::time::Duration;

use fastwebsockets::{FragmentCollector, OpCode, Role, WebSocket};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::limits::MESSAGE_BYTES;

/// For a client to take what was said to it.
const LINGER: Duration = Duration::from_secs(5);

/// Accepts for as long as the test's runtime lives.
pub(super) async fn start() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

async fn serve(mut stream: TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_buf(&mut head).await {
            Ok(read) if read > 0 => {}
            _ => return,
        }
    }
    // The handshake is not what is compared.
    let switched = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    if stream.set_nodelay(true).is_err() || stream.write_all(switched).await.is_err() {
        return;
    }
    let mut socket = WebSocket::after_handshake(stream, Role::Server);
    // It refuses a frame of exactly its limit.
    socket.set_max_message_size(MESSAGE_BYTES as usize + 1);
    let mut socket = FragmentCollector::new(socket);
    while let Ok(frame) = socket.read_frame().await {
        match frame.opcode {
            OpCode::Close => break,
            OpCode::Text | OpCode::Binary => {
                if socket.write_frame(frame).await.is_err() {
                    break;
                }
            }
            OpCode::Continuation | OpCode::Ping | OpCode::Pong => {}
        }
    }
    // Ended so that a reset for unread bytes does not take from the client what the crate has said.
    let mut stream = socket.into_inner();
    let _ = stream.shutdown().await;
    let mut rest = vec![0; 64 * 1024];
    let drained = async { while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {} };
    let _ = timeout(LINGER, drained).await;
}
