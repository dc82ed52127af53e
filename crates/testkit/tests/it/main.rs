//! Behaviour of the test kit, on real processes.

mod children;
mod cql;
mod gate;
mod logs;
mod nats;
