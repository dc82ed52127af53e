//! Free ports for servers of tests.

use std::net::{Ipv4Addr, TcpListener};
use std::process;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Result, bail};

/// Ports below those that the system gives to outgoing connections.
///
/// While a server is down its clients keep dialling. On a port of the outgoing range such a dial can meet itself
/// (TCP simultaneous open), and the server finds its port taken when it comes back.
const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 12_000;
static NEXT_PORT: AtomicU16 = AtomicU16::new(0);

/// A port on 127.0.0.1 that nobody listens on now.
pub fn free_port() -> Result<u16> {
    // Test processes that run at the same time begin at different places.
    let start = u16::try_from(process::id().wrapping_mul(2_654_435_761) % u32::from(PORTS)).unwrap_or_default();
    for _ in 0..PORTS {
        let step = NEXT_PORT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST_PORT + start.wrapping_add(step) % PORTS;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port from {FIRST_PORT} on")
}
