//! Wire types: client frames, log records and the messages between roles.
