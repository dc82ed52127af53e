//! The binary: composes the roles, and the commands that people type.
//!
//! Only this crate knows all roles. It decides nothing about messages.

pub mod admin;
mod boot;
pub mod broker;
pub mod chat;
pub mod cli;
pub mod folder;
pub mod identity;
mod import;
mod operate;
pub mod revoke;
pub mod up;
