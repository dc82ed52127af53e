//! What clients have taken, by address, by user and by handle.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::http::HeaderMap;
use domain::UserId;
use limits::{Bucket, Keys, Limiter, Names, client_key, holds, sweep_until};
use metrics::counter;
use tokio_util::sync::CancellationToken;

use super::guesses::{Guess, Guesses};
use super::origin::Origin;
use super::settings::ClientLimits;
use crate::problem::Problem;

/// How a table of this role is called in metrics.
pub(super) const fn names(of: &'static str) -> Names {
    Names { keys: "api_limit_keys", shared: "api_limit_keys_shared_total", of }
}

#[derive(Debug, Default)]
struct Address {
    requests: Bucket,
    passwords: Bucket,
    refreshes: Bucket,
    connections: AtomicU32,
}

/// One open connection of an address; none is counted where no limit holds.
#[derive(Debug)]
pub(crate) struct Connected(Option<Arc<Address>>);

impl Drop for Connected {
    fn drop(&mut self) {
        if let Some(address) = &self.0 {
            address.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[derive(Debug, Default)]
struct User {
    requests: Bucket,
    chats: Bucket,
}

/// What all clients have taken.
#[derive(Debug)]
pub(crate) struct Allowances {
    addresses: Keys<Address>,
    users: Keys<User>,
    guesses: Guesses,
    requests: Limiter,
    passwords: Limiter,
    refreshes: Limiter,
    user_requests: Limiter,
    user_chats: Limiter,
    limits: ClientLimits,
}

impl Allowances {
    pub(crate) fn new(limits: &ClientLimits) -> Self {
        Self {
            addresses: Keys::new(names("addresses"), limits.addresses_max),
            users: Keys::new(names("users"), limits.users_max),
            guesses: Guesses::new(limits),
            requests: Limiter::new(limits.address_requests),
            passwords: Limiter::new(limits.address_passwords),
            refreshes: Limiter::new(limits.address_refreshes),
            user_requests: Limiter::new(limits.user_requests),
            user_chats: Limiter::per_hour(limits.user_chats_per_hour),
            limits: limits.clone(),
        }
    }

    /// Where a request comes from, by what these limits say of proxies and of who is exempt.
    pub(super) fn origin(&self, peer: IpAddr, headers: &HeaderMap) -> Origin {
        Origin::new(peer, headers, &self.limits)
    }

    /// Counts a connection for as long as it is open; none: its peer has as many as it may.
    pub(crate) fn connection(&self, peer: IpAddr) -> Option<Connected> {
        // Whom a proxy speaks for is known only from each request.
        if holds(&self.limits.unlimited, peer) || holds(&self.limits.trusted_proxies, peer) {
            return Some(Connected(None));
        }
        let address = self.addresses.get(client_key(peer));
        let others = address.connections.fetch_add(1, Ordering::Relaxed);
        let connected = Connected(Some(address));
        if others < self.limits.address_connections_max {
            return Some(connected);
        }
        counter!("api_connections_refused_total").increment(1);
        None
    }

    /// Counts a request of an address.
    ///
    /// # Errors
    /// It has made as many as it may.
    pub(super) fn request(&self, origin: &Origin) -> Result<(), Problem> {
        self.of_address(origin, "address", &self.requests, |address| &address.requests)
    }

    /// Counts a password of an address, before it is looked at or hashed.
    ///
    /// # Errors
    /// It has tried as often as it may.
    pub(crate) fn password(&self, origin: &Origin) -> Result<(), Problem> {
        self.of_address(origin, "sign-ins", &self.passwords, |address| &address.passwords)
    }

    /// Counts the use of a refresh token from an address.
    ///
    /// # Errors
    /// It has used as many as it may.
    pub(crate) fn refresh(&self, origin: &Origin) -> Result<(), Problem> {
        self.of_address(origin, "refreshes", &self.refreshes, |address| &address.refreshes)
    }

    /// Counts a request of a user.
    ///
    /// # Errors
    /// The user has made as many as it may.
    pub(crate) fn of_user(&self, origin: &Origin, user: UserId) -> Result<(), Problem> {
        self.taken_by(origin, user, "user", &self.user_requests, |user| &user.requests)
    }

    /// Counts a chat that a user makes.
    ///
    /// # Errors
    /// The user has made as many as it may.
    pub(crate) fn chat(&self, origin: &Origin, user: UserId) -> Result<(), Problem> {
        self.taken_by(origin, user, "chats", &self.user_chats, |user| &user.chats)
    }

    fn taken_by(
        &self,
        origin: &Origin,
        user: UserId,
        name: &'static str,
        limiter: &Limiter,
        bucket: impl Fn(&User) -> &Bucket,
    ) -> Result<(), Problem> {
        if origin.counted.is_none() {
            return Ok(());
        }
        let user = self.users.get(user);
        origin.tally.take(name, limiter, bucket(&user)).map_err(|wait| refused(name, wait))
    }

    /// Lets a password for this handle be looked at; it counts only if it turns out to be wrong.
    ///
    /// # Errors
    /// There were too many wrong ones.
    pub(crate) fn guess(&self, origin: &Origin, handle: &str) -> Result<Guess<'_>, Problem> {
        self.guesses.begin(origin.counted, handle).map_err(|wait| refused("handle", wait))
    }

    fn of_address(
        &self,
        origin: &Origin,
        name: &'static str,
        limiter: &Limiter,
        bucket: impl Fn(&Address) -> &Bucket,
    ) -> Result<(), Problem> {
        let Some(client) = origin.counted else { return Ok(()) };
        let address = self.addresses.get(client_key(client));
        origin.tally.take(name, limiter, bucket(&address)).map_err(|wait| refused(name, wait))
    }

    /// Forgets clients that have nothing to tell any more, until stopped.
    pub(crate) async fn sweep(self: Arc<Self>, stop: CancellationToken) {
        sweep_until(stop, || self.sweep_once()).await;
    }

    fn sweep_once(&self) {
        self.addresses.sweep(|address| {
            self.requests.is_restored(&address.requests)
                && self.passwords.is_restored(&address.passwords)
                && self.refreshes.is_restored(&address.refreshes)
                && address.connections.load(Ordering::Relaxed) == 0
        });
        self.users
            .sweep(|user| self.user_requests.is_restored(&user.requests) && self.user_chats.is_restored(&user.chats));
        self.guesses.sweep();
    }
}

fn refused(of: &'static str, wait: std::time::Duration) -> Problem {
    counter!("api_requests_limited_total", "of" => of).increment(1);
    Problem::limited(wait)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    #[test]
    fn x13_an_address_has_so_many_connections_at_a_time_and_a_proxy_as_many_as_it_brings() {
        let limits = ClientLimits {
            address_connections_max: 3,
            trusted_proxies: vec!["192.0.2.9/32".parse().unwrap()],
            ..ClientLimits::default()
        };
        let allowances = Allowances::new(&limits);
        let connect = |last: u8| allowances.connection(IpAddr::from([192, 0, 2, last]));
        let open: Vec<_> = (0..3).map(|_| connect(1).unwrap()).collect();
        assert!(connect(1).is_none() && connect(1).is_none());
        assert!(connect(2).is_some(), "another address");
        assert!((0..9).map(|_| connect(9)).collect::<Option<Vec<_>>>().is_some(), "a proxy");
        assert!((0..9).map(|_| allowances.connection([127, 0, 0, 1].into())).collect::<Option<Vec<_>>>().is_some());
        // Open ones are not forgotten, and ended ones make room.
        allowances.sweep_once();
        assert!(connect(1).is_none());
        drop(open);
        let again: Vec<_> = (0..4).map(|_| connect(1)).collect();
        assert_eq!(again.iter().flatten().count(), 3);
    }

    #[test]
    fn x13_clients_are_counted_in_bounded_tables_and_forgotten() {
        const MOST: usize = 256;
        let limits =
            ClientLimits { addresses_max: MOST, users_max: MOST, handles_max: MOST, ..ClientLimits::default() };
        let allowances = Allowances::new(&limits);
        for n in 0..20_000_u64 {
            let peer = IpAddr::V6(Ipv6Addr::from_bits(u128::from(n) << 64));
            let origin = Origin::new(peer, &HeaderMap::new(), &limits);
            let _ = allowances.request(&origin);
            let _ = allowances.of_user(&origin, UserId::new(u128::from(n).to_be_bytes()));
            if let Ok(guess) = allowances.guess(&origin, &n.to_string()) {
                guess.wrong();
            }
        }
        let counts = [allowances.addresses.count(), allowances.users.count()];
        // The bound is per lock, so it is hit to within one entry for each of them.
        assert!(counts.iter().all(|count| (200..=MOST + 16).contains(count)), "{counts:?}");
        assert!(allowances.guesses.count() <= 2 * (MOST + 16), "{}", allowances.guesses.count());
    }

    #[test]
    fn x13_a_user_is_one_wherever_it_comes_from_and_makes_so_many_chats() {
        let limits = ClientLimits {
            user_requests: limits::Rate { per_s: 1, burst: 4 },
            user_chats_per_hour: 2,
            ..ClientLimits::default()
        };
        let allowances = Allowances::new(&limits);
        let user = |n: u8| UserId::new([n; 16]);
        let from = |n: u8| Origin::new([192, 0, 2, n].into(), &HeaderMap::new(), &limits);
        assert!((1..=4).all(|n| allowances.of_user(&from(n), user(1)).is_ok()));
        assert!(allowances.of_user(&from(5), user(1)).is_err() && allowances.of_user(&from(1), user(2)).is_ok());
        assert!((1..=2).all(|n| allowances.chat(&from(n), user(1)).is_ok()));
        let problem = allowances.chat(&from(3), user(1)).unwrap_err();
        assert_eq!(problem.kind(), crate::problem::Kind::RateLimited);
        assert!(allowances.chat(&from(1), user(2)).is_ok());
    }

    #[test]
    fn an_ipv6_site_is_one_client_and_an_exempt_one_none() {
        let limits = ClientLimits { address_requests: limits::Rate { per_s: 1, burst: 2 }, ..ClientLimits::default() };
        let allowances = Allowances::new(&limits);
        let ask =
            |from: &str| allowances.request(&Origin::new(from.parse().unwrap(), &HeaderMap::new(), &limits)).is_ok();
        assert!(ask("2001:db8:0:1::1") && ask("2001:db8:0:1::2") && !ask("2001:db8:0:1::3"));
        assert!(ask("2001:db8:0:2::1"));
        assert!((0..10).all(|_| ask("127.0.0.1")));
    }
}
