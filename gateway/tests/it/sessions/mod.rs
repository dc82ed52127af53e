//! A whole gateway on a real broker and store; clients, ingest and delivery owners are scripted.

mod client;
mod commands;
mod history;
mod leaving;
mod lists;
mod owner;
mod pushes;
mod reading;
mod revoking;
mod setup;
mod signing_in;
