//! What each client address has taken, and who may come in.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use hyper::header::HeaderMap;
use limits::{Bucket, Keys, Limiter, client_key, counted, holds, sweep_until};
use tokio_util::sync::CancellationToken;

use super::allowance::SocketLimiters;
use super::config::ClientLimits;
use super::names;

/// What one address has taken.
#[derive(Default)]
pub(super) struct Address {
    connects: Bucket,
    pub(super) frames: Bucket,
    pub(super) bytes: Bucket,
    sockets: AtomicU32,
    unauthenticated: AtomicU32,
}

/// Why an address gets no further socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TooMany {
    /// It connects too often, or has too many connections that are not authenticated.
    Connects {
        /// When the next one may come.
        retry_after: Duration,
    },
    /// It has as many sockets as it may.
    Sockets,
}

/// All addresses.
pub(crate) struct Addresses {
    limits: ClientLimits,
    keys: Keys<Address>,
    connects: Limiter,
    pub(super) frames: Limiter,
    pub(super) bytes: Limiter,
    pub(super) sockets: SocketLimiters,
}

impl Addresses {
    pub(crate) fn new(limits: ClientLimits) -> Self {
        Self {
            keys: Keys::new(names("addresses"), limits.addresses_max),
            connects: Limiter::new(limits.address_connects),
            frames: Limiter::new(limits.address_frames),
            bytes: Limiter::new(limits.address_bytes),
            sockets: SocketLimiters::new(&limits),
            limits,
        }
    }

    /// Decides at accept where the peer is the client for sure; none: only the request can tell.
    ///
    /// # Errors
    /// The address has taken too much.
    pub(crate) fn at_accept(self: &Arc<Self>, peer: IpAddr) -> Result<Option<Seat>, TooMany> {
        if holds(&self.limits.trusted_proxies, peer) || holds(&self.limits.unlimited, peer) {
            return Ok(None);
        }
        self.seat(peer).map(Some)
    }

    /// Decides by the request, for a peer that [`Self::at_accept`] let in; none: no limit holds for it.
    ///
    /// # Errors
    /// The address has taken too much.
    pub(crate) fn at_request(self: &Arc<Self>, peer: IpAddr, headers: &HeaderMap) -> Result<Option<Seat>, TooMany> {
        let ClientLimits { trusted_proxies, unlimited, .. } = &self.limits;
        counted(peer, headers, trusted_proxies, unlimited).map(|client| self.seat(client)).transpose()
    }

    fn seat(self: &Arc<Self>, client: IpAddr) -> Result<Seat, TooMany> {
        let address = self.keys.get(client_key(client));
        self.connects.take(&address.connects, 1).map_err(|retry_after| TooMany::Connects { retry_after })?;
        if !reserve(&address.sockets, self.limits.address_sockets_max) {
            return Err(TooMany::Sockets);
        }
        let mut seat = Seat { addresses: Arc::clone(self), address, waits: false };
        if !reserve(&seat.address.unauthenticated, self.limits.address_unauthenticated_max) {
            // One of them is authenticated or gone soon.
            return Err(TooMany::Connects { retry_after: Duration::from_secs(1) });
        }
        seat.waits = true;
        Ok(seat)
    }

    /// Forgets addresses that have nothing to tell any more, until stopped.
    pub(crate) async fn sweep(self: Arc<Self>, stop: CancellationToken) {
        sweep_until(stop, || self.sweep_once()).await;
    }

    fn sweep_once(&self) {
        self.keys.sweep(|address| {
            self.connects.is_restored(&address.connects)
                && self.frames.is_restored(&address.frames)
                && self.bytes.is_restored(&address.bytes)
        });
    }
}

impl std::fmt::Debug for Addresses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Addresses").field("keys", &self.keys.count()).finish_non_exhaustive()
    }
}

fn reserve(count: &AtomicU32, most: u32) -> bool {
    count.fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| (count < most).then_some(count + 1)).is_ok()
}

/// Counts a connection with its address, until dropped.
pub(crate) struct Seat {
    pub(super) addresses: Arc<Addresses>,
    pub(super) address: Arc<Address>,
    /// Counted among those that are not authenticated.
    waits: bool,
}

impl Seat {
    /// Counts no longer among those that are not authenticated.
    pub(crate) fn authenticated(&mut self) {
        if std::mem::replace(&mut self.waits, false) {
            self.address.unauthenticated.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.authenticated();
        self.address.sockets.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use limits::Rate;

    use super::*;

    /// Addresses of which nobody is exempt.
    pub(crate) fn addresses(change: impl FnOnce(&mut ClientLimits)) -> Arc<Addresses> {
        let mut limits = ClientLimits { unlimited: Vec::new(), ..ClientLimits::default() };
        change(&mut limits);
        Arc::new(Addresses::new(limits))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn headers(forwarded_for: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", forwarded_for.parse().unwrap());
        headers
    }

    #[test]
    fn each_count_of_an_address_has_its_bound_and_gives_room_again() {
        let addresses = addresses(|limits| {
            limits.address_sockets_max = 3;
            limits.address_unauthenticated_max = 2;
        });
        let come = || addresses.at_accept(ip("192.0.2.1"));
        let (mut first, _second) = (come().unwrap().unwrap(), come().unwrap().unwrap());
        assert_eq!(come().err(), Some(TooMany::Connects { retry_after: Duration::from_secs(1) }));
        first.authenticated();
        let third = come().unwrap();
        assert!(addresses.at_accept(ip("192.0.2.2")).is_ok(), "another address is not touched by it");
        assert_eq!(come().err(), Some(TooMany::Sockets));
        drop(third);
        drop(first);
        assert!(come().is_ok());
    }

    #[test]
    fn an_address_that_connects_too_often_hears_when_to_come_again() {
        let addresses = addresses(|limits| limits.address_connects = Rate { per_s: 1, burst: 2 });
        let come = |from: &str| addresses.at_accept(ip(from)).map(|_seat| ());
        assert_eq!((come("2001:db8:0:1::1"), come("2001:db8:0:1::2")), (Ok(()), Ok(())));
        let Err(TooMany::Connects { retry_after }) = come("2001:db8:0:1::3") else { panic!("a /64 is one client") };
        assert!((Duration::from_millis(500)..=Duration::from_secs(1)).contains(&retry_after), "{retry_after:?}");
        assert_eq!(come("2001:db8:0:2::1"), Ok(()));
    }

    #[test]
    fn the_forwarded_header_is_believed_from_trusted_proxies_only() {
        let addresses = addresses(|limits| {
            limits.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
            limits.address_sockets_max = 1;
        });
        assert!(addresses.at_accept(ip("10.0.0.1")).unwrap().is_none(), "the request tells");
        let proxied = |from: &str| addresses.at_request(ip("10.0.0.1"), &headers(from));
        let _first = proxied("192.0.2.1").unwrap();
        assert_eq!(proxied("203.0.113.9, 192.0.2.1").err(), Some(TooMany::Sockets), "what the client wrote is nothing");
        assert!(proxied("192.0.2.2").is_ok());
        // Garbage is the proxy's own, and the proxy has its bound as well.
        let _proxy = proxied("who knows").unwrap();
        assert_eq!(proxied("_hidden").err(), Some(TooMany::Sockets));
    }

    #[test]
    fn only_a_peer_that_speaks_for_itself_is_exempt() {
        let addresses = addresses(|limits| {
            limits.unlimited = vec!["127.0.0.0/8".parse().unwrap()];
            limits.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
        });
        let seated = |peer: &str, headers: &HeaderMap| addresses.at_request(ip(peer), headers).unwrap().is_some();
        assert!(addresses.at_accept(ip("127.0.0.1")).unwrap().is_none());
        assert!(!seated("127.0.0.1", &HeaderMap::new()));
        assert!(seated("127.0.0.1", &headers("192.0.2.1")), "a proxy that nobody listed");
        assert!(seated("10.0.0.1", &headers("127.0.0.1")), "nobody becomes exempt by a header");
        assert!(seated("10.0.0.1", &HeaderMap::new()));
    }

    #[test]
    fn addresses_with_nothing_to_tell_are_forgotten() {
        let addresses = addresses(|limits| limits.address_connects = Rate::MAX);
        let seats: Vec<_> = (0..100).map(|n| addresses.at_accept(IpAddr::from([192, 0, 2, n])).unwrap()).collect();
        addresses.sweep_once();
        assert_eq!(addresses.keys.count(), 100);
        drop(seats);
        addresses.sweep_once();
        assert_eq!(addresses.keys.count(), 0);
    }
}
