//! The binary: composes the roles, and the commands that people type.
//!
//! Only this crate knows all roles. It decides nothing about messages.

pub mod admin;
mod boot;
pub mod broker;
pub mod chat;
pub mod cli;
pub mod config;
mod epoch;
pub mod folder;
mod ground;
pub mod identity;
mod import;
pub mod key_file;
mod operate;
mod renew;
pub mod revoke;
pub mod roles;
mod run;
mod schema;
pub mod up;
