//! Open-loop load over real sockets, and the benchmarks with their controls.
//!
//! It stands outside the product: it starts `heliograph up` as a child process, speaks frames to it, and measures the
//! machine's own figures (the raw broker, a bare socket) in the same run, so that a result is a ratio and no boast.
//!
//! ```text
//! target   `heliograph up` as a child, in a folder of its own
//! wire     client frames over bare TCP, at the least cost of our own
//! fleet    sockets, chats, what was sent, stored and received: driven by a window or by a schedule
//! control  raw JetStream, core and socket figures
//! herd     many light clients that sign in and stay, or are cut and come back
//! hostile  clients that mean harm, in a child process
//! chaos    faults while people write, and what the checker says
//! bare     a server that does nothing but the handshake, or not even that
//! rows     P1, P4, P19b: one ratio each ; idle P8 ; readers P12 ; storm P13 ; stuck P14
//! beside   what others cost a fleet: abuse (hostile), sign_ins
//! ```

mod abuse;
pub mod bare;
pub mod bench;
mod beside;
pub mod chaos;
mod control;
mod fleet;
mod herd;
pub mod hostile;
mod idle;
mod readers;
mod rows;
mod sign_ins;
mod storm;
mod stuck;
mod target;
mod wire;
