//! What a run hits: processes that it started itself, by name and number.
//!
//! One implementation today, all roles in one process over a broker of its own ([`super::up::Up`]); a cluster of
//! processes is another.

use std::net::SocketAddr;

use anyhow::Result;
use nix::unistd::Pid;

use super::disk::Disk;
use super::fault::Kind;

/// A process of the deployment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Host {
    /// One that runs roles.
    Process(usize),
    /// A nats-server.
    Broker(usize),
}

/// What a process did on its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said {
    /// Lines of level WARN and ERROR, without their times, and how often each came.
    pub(crate) lines: std::collections::BTreeMap<String, u64>,
    /// Starts of processes.
    pub(crate) starts: u64,
    /// Ends that nobody asked for.
    pub(crate) ends: Vec<String>,
}

/// Processes that may be hit, and where clients find them.
pub(crate) trait Deployment {
    /// How many processes run roles.
    fn processes(&self) -> usize;
    /// How many brokers there are.
    fn brokers(&self) -> usize;
    /// Where each gateway takes sockets.
    fn gateways(&self) -> Vec<SocketAddr>;
    /// Where the HTTP API is, if there is one.
    fn api(&self) -> Option<SocketAddr>;
    /// The disk that can be filled, if there is one.
    fn disk(&self) -> Option<&Disk>;
    /// Whether a fault of this kind can be.
    fn can(&self, kind: Kind) -> bool;
    /// The process id, while it runs.
    fn pid(&mut self, host: Host) -> Option<Pid>;
    /// SIGKILL.
    fn kill(&mut self, host: Host) -> Result<()>;
    /// SIGTERM, and its orderly end.
    async fn stop(&mut self, host: Host) -> Result<()>;
    /// Starts it unless it runs; returns when it serves. Brokers are started by whoever keeps them.
    async fn start(&mut self, host: Host) -> Result<()>;
    /// Notes, and forgets, what ended on its own.
    fn look(&mut self);
    /// What was said and done so far.
    fn said(&self) -> &Said;
}
