//! Import of old history: what an operator's file holds, and how it goes over the admin socket.
//!
//! ```text
//! operate::import: file ▶ checked whole ▶ wire ─▶ admin.sock ─▶ admin::imports ▶ steps ▶ log
//! ```

pub(crate) mod file;
pub(crate) mod wire;
