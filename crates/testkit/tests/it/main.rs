//! Behaviour of the test kit, on real processes.

mod children;
mod logs;
mod nats;
