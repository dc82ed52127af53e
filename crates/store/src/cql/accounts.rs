//! Accounts: a file a table or two, each with its writes and reads.
//!
//! What must be claimed, counted or compared is written by conditional writes alone, and those of one row take turns in
//! this process. A bound is kept by a generation beside the rows that it counts: a new row and the next generation are
//! one conditional write. A row that ends by itself has a time to live that reckons from its writing; whether it still
//! counts is said by the times in it.

mod blocks;
mod claims;
mod devices;
mod erasure;
mod families;
mod handles;
mod invites;
mod settings;
mod tickets;
mod users;
