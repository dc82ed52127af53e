//! The client's deterministic state machines: no socket, no clock, no chance of their own.
//!
//! [`Outbox`] holds sends until they settle, [`Timeline`] merges what the chats say by seq, [`Endpoint`] joins the two
//! into one machine that eats server frames and emits client frames. Time and random bits are passed in.

mod endpoint;
mod outbox;
mod receipts;
mod timeline;

pub use endpoint::{Endpoint, EndpointAction, Event, Source};
pub use outbox::{
    Action, Bounds, Draft, Full, Identity, Input, Kept, KeptLane, KeptRejected, KeptSend, Outbox, SendId, Settlement,
    Sighting,
};
pub use receipts::Receipts;
pub use timeline::{Entry, Progress, Timeline, TimelineAction, TimelineBounds, TimelineInput};

/// µs of whatever clock the caller keeps; only differences matter.
pub type Micros = u64;

/// Spreads bits evenly (the finaliser of splitmix64): deterministic jitter from an id.
const fn mixed(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// `base` doubled `times` times, at most `most`, of which the upper half is spread by `bits`.
fn back_off(base: Micros, times: u32, most: Micros, bits: u64) -> Micros {
    let whole = base.saturating_mul(1 << times.min(20)).min(most).max(2);
    whole / 2 + mixed(bits) % (whole / 2)
}
