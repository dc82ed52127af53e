//! A whole gateway on a real broker and store; clients, ingest and delivery owners are scripted.
//!
//! One set of tests for both sub-protocols.

/// Makes each of these a test over either sub-protocol: whichever a client speaks, the gateway behaves the same.
macro_rules! over_each_sub_protocol {
    ($($name:ident,)+) => {
        mod over_proto {
            $(#[tokio::test] async fn $name() { super::$name(gateway::socket::SubProtocol::Proto).await; })+
        }
        mod over_json {
            $(#[tokio::test] async fn $name() { super::$name(gateway::socket::SubProtocol::Json).await; })+
        }
    };
}

pub(crate) mod client;
mod coming_back;
mod commands;
mod history;
mod leaving;
mod lists;
mod owner;
mod pushes;
mod reading;
mod revoking;
pub(crate) mod setup;
pub(crate) mod signing_in;
mod tickets;
