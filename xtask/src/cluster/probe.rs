//! Asks members whether they are ready.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::layout::{Kind, Member};
use super::state::State;

const WITHIN: Duration = Duration::from_secs(2);

/// Whether it does its work: what it says itself, or that it takes connections where it says nothing.
pub(crate) fn is_ready(member: &Member, state: &State) -> bool {
    match member.kind {
        Kind::Cassandra => connect(state.port(member, "cql").ok()).is_some(),
        Kind::Proxy => connect(state.port(member, "listen").ok()).is_some(),
        // Not before it has its cluster's leader, and its streams.
        Kind::Nats => is_ok(state.port(member, "monitor").ok(), "/healthz"),
        Kind::Role(_) => is_ok(state.port(member, "admin").ok(), "/readyz"),
    }
}

fn connect(port: Option<u16>) -> Option<TcpStream> {
    TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port?)), WITHIN).ok()
}

/// Whether the path is answered with 200.
fn is_ok(port: Option<u16>, path: &str) -> bool {
    let ask = || {
        let mut stream = connect(port)?;
        stream.set_read_timeout(Some(WITHIN)).ok()?;
        stream.set_write_timeout(Some(WITHIN)).ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut status = [0; 12];
        stream.read_exact(&mut status).ok()?;
        Some(status == *b"HTTP/1.1 200")
    };
    ask() == Some(true)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn only_200_is_ready() {
        for (answer, is_ready) in [("200 OK", true), ("503 Service Unavailable", false), ("2", false)] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            let serving = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 64];
                let length = stream.read(&mut request).unwrap();
                assert!(request[..length].starts_with(b"GET /readyz HTTP/1.1\r\n"));
                stream.write_all(format!("HTTP/1.1 {answer}\r\n\r\n").as_bytes()).unwrap();
            });
            assert_eq!(is_ok(Some(port), "/readyz"), is_ready, "{answer}");
            serving.join().unwrap();
        }
        assert!(!is_ok(None, "/readyz"));
    }
}
