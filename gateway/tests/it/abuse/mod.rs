//! Clients that mean harm, by the ids of the project's security list.
//!
//! Each test runs its body twice: against the protection, and against a control in which the protection is off by its
//! settings or is another implementation without it. The control must show the harm, or the test would prove nothing.

mod admission;
mod before_sign_in;
mod cross_site;
mod floods;
mod framing;
mod half_open;
mod per_address;
mod per_user;
mod secrets;
mod slow_readers;
pub(crate) mod slowloris;
mod stock;

use std::net::Ipv4Addr;

use gateway::limits::{ClientLimits, Rate};
use gateway::socket::Config;
use prost::Message as _;
use proto::v1::server_frame::Frame;
use proto::v1::{ErrorCode, ServerFrame};

use super::socket::peer::{RawClient, config};

/// Settings for tests in which limits hold for this machine too.
pub(crate) fn limited(change: impl FnOnce(&mut ClientLimits)) -> Config {
    let mut limits = ClientLimits { unlimited: Vec::new(), ..ClientLimits::default() };
    change(&mut limits);
    Config { limits, ..config() }
}

/// So many at once, and then next to nothing.
const fn once(burst: u32) -> Rate {
    Rate { per_s: 1, burst }
}

/// Whether as many passed as [`once`] lets through, on a machine that may stand still for some seconds.
fn is_about_once(passed: usize, burst: usize) -> bool {
    (burst..burst + 4).contains(&passed)
}

/// One of many client addresses that this machine has.
pub(crate) fn address(number: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 1).to_bits() + u32::try_from(number).unwrap())
}

/// The errors that a client hears up to the close frame, and that frame's code.
async fn last_words(client: &mut RawClient) -> (Vec<ErrorCode>, u16) {
    let mut errors = Vec::new();
    loop {
        let frame = client.frame().await.expect("a close frame before the end");
        if frame.opcode == 8 {
            return (errors, u16::from_be_bytes(frame.payload[..2].try_into().unwrap()));
        } else if let Ok(ServerFrame { frame: Some(Frame::Error(error)), .. }) = ServerFrame::decode(frame.payload) {
            errors.push(error.code());
        }
    }
}
