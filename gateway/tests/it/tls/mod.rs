//! TLS in the gateway: what differs from a plain socket, and that nothing else does.

mod ending;
mod files;
mod handshakes;
mod keys;
mod peer;
mod records;
mod reloads;
mod sessions;
mod slow_readers;
mod slowloris;
