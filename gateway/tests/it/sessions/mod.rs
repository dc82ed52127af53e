//! A whole gateway on a real broker and store; clients, ingest and delivery owners are scripted.

pub(crate) mod client;
mod commands;
mod history;
mod leaving;
mod lists;
mod owner;
mod pushes;
mod reading;
pub(crate) mod setup;
pub(crate) mod signing_in;
