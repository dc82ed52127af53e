//! The signed-in sockets of each user on this gateway: one for each device, no more than so many, at a bounded rate.
//!
//! Another gateway's sockets are not known here: limits hold for each gateway.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::UserId;
use limits::{Bucket, Keys, Limiter, sweep_until};
use metrics::counter;
use tokio_util::sync::CancellationToken;

use crate::limits::{UserLimits, names};
use crate::socket::Outbound;

/// What one user has and has taken.
#[derive(Default)]
struct User {
    frames: Bucket,
    bytes: Bucket,
    chats: Bucket,
    sockets: Mutex<Vec<SignedIn>>,
}

struct SignedIn {
    /// Number of its socket.
    socket: u64,
    /// Hash of user and device; none for a client that names no device.
    device: Option<u64>,
    outbound: Outbound,
}

impl User {
    fn sockets(&self) -> MutexGuard<'_, Vec<SignedIn>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All users of this gateway.
pub(crate) struct Users {
    keys: Keys<User>,
    sockets_max: usize,
    frames: Limiter,
    bytes: Limiter,
    chats: Limiter,
}

impl Users {
    pub(crate) fn new(limits: &UserLimits) -> Self {
        Self {
            keys: Keys::new(names("users"), limits.users_max),
            sockets_max: limits.sockets_max,
            frames: Limiter::new(limits.frames),
            bytes: Limiter::new(limits.bytes),
            chats: Limiter::per_hour(limits.chats_per_hour),
        }
    }

    /// Counts a socket with its user, in the place of an older one of the same device, which is to be closed; no place
    /// if the user has too many.
    ///
    /// One that is not `limited` always has a place.
    pub(crate) fn sign_in(
        self: &Arc<Self>,
        user: UserId,
        device: &str,
        outbound: &Outbound,
        limited: bool,
    ) -> (Option<Place>, Option<Outbound>) {
        let entry = self.keys.get(user);
        // With the user in it: where users share an entry, their devices of one name are still two.
        let device = (!device.is_empty()).then(|| self.keys.hash((user, device)));
        let mut sockets = entry.sockets();
        let replaced = device
            .and_then(|device| sockets.iter().position(|it| it.device == Some(device)))
            .map(|at| sockets.swap_remove(at));
        let has_place = !limited || sockets.len() < self.sockets_max;
        if has_place {
            sockets.push(SignedIn { socket: outbound.id(), device, outbound: outbound.clone() });
        }
        drop(sockets);
        if !has_place {
            counter!("gateway_user_sockets_refused_total").increment(1);
        }
        let place = has_place.then(|| Place { users: Arc::clone(self), user: entry, socket: outbound.id() });
        (place, replaced.map(|replaced| replaced.outbound))
    }

    /// Forgets users that have nothing to tell any more, until stopped.
    pub(crate) async fn sweep(self: Arc<Self>, stop: CancellationToken) {
        let is_as_new = |user: &User| {
            self.frames.is_restored(&user.frames)
                && self.bytes.is_restored(&user.bytes)
                && self.chats.is_restored(&user.chats)
        };
        sweep_until(stop, || self.keys.sweep(is_as_new)).await;
    }
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Users").field("keys", &self.keys.count()).finish_non_exhaustive()
    }
}

/// One signed-in socket among those of its user, until dropped.
pub(crate) struct Place {
    users: Arc<Users>,
    user: Arc<User>,
    socket: u64,
}

impl Place {
    /// Takes a message of so many bytes.
    ///
    /// # Errors
    /// How long to wait until as much may come.
    pub(crate) fn take_message(&self, bytes: u32) -> Result<(), Duration> {
        self.users.frames.take(&self.user.frames, 1)?;
        self.users.bytes.take(&self.user.bytes, bytes)
    }

    /// Takes the creation of a chat.
    ///
    /// # Errors
    /// How long to wait until the next one may come.
    pub(crate) fn take_chat(&self) -> Result<(), Duration> {
        self.users.chats.take(&self.user.chats, 1)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.user.sockets().retain(|it| it.socket != self.socket);
    }
}
