//! The client over real sockets, against a server that plays a script.

mod scripted;
mod shell;
