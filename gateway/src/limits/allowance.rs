//! What one socket may still send: by its own buckets, by its address's and by its user's.
//!
//! A message costs a few compare-and-swaps on buckets that the socket holds: no lock, no lookup, no wait.

use std::sync::Arc;
use std::time::Duration;

use limits::{Bucket, Limiter, Rate};

use super::addresses::{Address, Addresses, Seat};
use super::config::ClientLimits;

/// What to do with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    /// Refuse it: as much may come again after this time.
    Wait(Duration),
    /// Close the socket: it goes on though it was told to wait.
    Flood,
}

/// The limits of every socket.
pub(super) struct SocketLimiters {
    frames: Limiter,
    bytes: Limiter,
    extra_frames: Limiter,
    refused_frames: Limiter,
    refused_bytes: Limiter,
}

impl SocketLimiters {
    pub(super) fn new(limits: &ClientLimits) -> Self {
        // What is over the rate is let be refused for so long: together it makes `flood_factor` times the rate.
        let times = limits.flood_factor.saturating_sub(1).max(1);
        let over =
            |rate: Rate| Rate { per_s: rate.per_s.saturating_mul(times), burst: rate.burst.saturating_mul(times) };
        Self {
            frames: Limiter::new(limits.socket_frames),
            bytes: Limiter::new(limits.socket_bytes),
            extra_frames: Limiter::new(limits.socket_extra_frames),
            refused_frames: Limiter::new(over(limits.socket_frames)),
            refused_bytes: Limiter::new(over(limits.socket_bytes)),
        }
    }
}

/// What one socket has taken.
pub(crate) struct Allowance {
    addresses: Arc<Addresses>,
    address: Arc<Address>,
    frames: Bucket,
    bytes: Bucket,
    extra_frames: Bucket,
    refused_frames: Bucket,
    refused_bytes: Bucket,
}

impl Allowance {
    pub(crate) fn new(seat: &Seat) -> Self {
        Self {
            addresses: Arc::clone(&seat.addresses),
            address: Arc::clone(&seat.address),
            frames: Bucket::default(),
            bytes: Bucket::default(),
            extra_frames: Bucket::default(),
            refused_frames: Bucket::default(),
            refused_bytes: Bucket::default(),
        }
    }

    /// Takes control frames and fragments; whether as many may come.
    pub(crate) fn take_extra_frames(&self, count: u32) -> bool {
        self.addresses.sockets.extra_frames.take(&self.extra_frames, count).is_ok()
    }

    /// Takes a message of so many bytes; `of_user` takes the same of the user.
    pub(crate) fn take_message(&self, bytes: usize, of_user: impl FnOnce(u32) -> Result<(), Duration>) -> Verdict {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let Addresses { sockets, frames, bytes: bytes_limit, .. } = &*self.addresses;
        let of_socket = || sockets.frames.take(&self.frames, 1).and_then(|()| sockets.bytes.take(&self.bytes, bytes));
        let of_address =
            || frames.take(&self.address.frames, 1).and_then(|()| bytes_limit.take(&self.address.bytes, bytes));
        let (of, wait) = if let Err(wait) = of_socket() {
            ("socket", wait)
        } else if let Err(wait) = of_address() {
            ("address", wait)
        } else if let Err(wait) = of_user(bytes) {
            ("user", wait)
        } else {
            return Verdict::Pass;
        };
        metrics::counter!("gateway_messages_limited_total", "of" => of).increment(1);
        let goes_on = sockets.refused_frames.take(&self.refused_frames, 1).is_err()
            || sockets.refused_bytes.take(&self.refused_bytes, bytes).is_err();
        if goes_on { Verdict::Flood } else { Verdict::Wait(wait) }
    }
}

impl std::fmt::Debug for Allowance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Allowance").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::addresses::tests::addresses;
    use super::*;

    fn socket(addresses: &Arc<Addresses>, from: [u8; 4]) -> (Allowance, Seat) {
        let seat = addresses.at_accept(from.into()).unwrap().unwrap();
        (Allowance::new(&seat), seat)
    }

    const SLOW: Rate = Rate { per_s: 1, burst: 4 };

    #[test]
    fn what_is_over_the_rate_waits_and_what_goes_on_is_a_flood() {
        let addresses = addresses(|limits| (limits.socket_frames, limits.flood_factor) = (SLOW, 3));
        let (allowance, _seat) = socket(&addresses, [192, 0, 2, 1]);
        let verdicts: Vec<_> = (0..13).map(|_| allowance.take_message(10, |_| Ok(()))).collect();
        assert_eq!(verdicts[..4], [Verdict::Pass; 4]);
        let waits = |verdict: &Verdict| matches!(verdict, Verdict::Wait(wait) if *wait <= Duration::from_secs(1));
        assert!(verdicts[4..12].iter().all(waits), "{verdicts:?}");
        assert_eq!(verdicts[12], Verdict::Flood);
        let (other, _seat) = socket(&addresses, [192, 0, 2, 1]);
        assert_eq!(other.take_message(10, |_| Ok(())), Verdict::Pass);
    }

    #[test]
    fn bytes_count_as_well_as_messages_and_refused_ones_too() {
        let addresses = addresses(|limits| limits.socket_bytes = Rate { per_s: 1_000, burst: 100_000 });
        let (allowance, _seat) = socket(&addresses, [192, 0, 2, 1]);
        assert_eq!(allowance.take_message(60_000, |_| Ok(())), Verdict::Pass);
        let verdicts: Vec<_> = (0..6).map(|_| allowance.take_message(60_000, |_| Ok(()))).collect();
        assert!(matches!(verdicts[0], Verdict::Wait(_)));
        assert_eq!(verdicts[5], Verdict::Flood, "{verdicts:?}");
    }

    #[test]
    fn many_sockets_get_no_more_than_their_address_and_their_user() {
        let addresses = addresses(|limits| limits.address_frames = SLOW);
        let sockets: Vec<_> = (0..5).map(|_| socket(&addresses, [192, 0, 2, 1])).collect();
        let passed = |(allowance, _): &&(Allowance, Seat)| allowance.take_message(1, |_| Ok(())) == Verdict::Pass;
        assert_eq!(sockets.iter().filter(passed).count(), 4);
        let (elsewhere, _seat) = socket(&addresses, [192, 0, 2, 2]);
        let wait = Duration::from_secs(9);
        assert_eq!(elsewhere.take_message(1, |_| Err(wait)), Verdict::Wait(wait));
    }

    #[test]
    fn a_message_costs_little_to_count() {
        const MESSAGES: u32 = 200_000;
        let addresses = addresses(|limits| {
            for rate in [
                &mut limits.socket_frames,
                &mut limits.socket_bytes,
                &mut limits.address_frames,
                &mut limits.address_bytes,
            ] {
                *rate = Rate::MAX;
            }
        });
        let (allowance, _seat) = socket(&addresses, [192, 0, 2, 1]);
        let user = (Limiter::new(Rate::MAX), Limiter::new(Rate::MAX), Bucket::default(), Bucket::default());
        let started = Instant::now();
        for _ in 0..MESSAGES {
            let verdict =
                allowance.take_message(100, |bytes| user.0.take(&user.2, 1).and_then(|()| user.1.take(&user.3, bytes)));
            assert_eq!(verdict, Verdict::Pass);
        }
        let each = started.elapsed() / MESSAGES;
        eprintln!("{each:?} a message");
        // A tenth of it is usual; a message costs a gateway some twenty µs in all.
        assert!(each < Duration::from_micros(2), "{each:?}");
    }
}
