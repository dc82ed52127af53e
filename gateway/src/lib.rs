//! Sockets on one side, the command log and pushes on the other.
