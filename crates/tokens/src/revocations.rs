//! Which tokens are no longer good, as CONTROL told.
//!
//! What is forgotten is harmless: every token that it names has expired by then. It never looks at a clock or a socket.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use domain::UserId;
use proto::log;

use crate::{Grant, NAME_BYTES_MAX};

/// Revocations that a user may have at a time; at the bound they become one, of all tokens so far.
const PER_USER_MAX: usize = 256;

/// Which tokens are no longer good.
#[derive(Debug, Default)]
pub struct Revocations {
    by_user: RwLock<HashMap<UserId, Vec<Revoked>>>,
}

/// Tokens of one user.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Revoked {
    issued_through_s: u64,
    /// Empty: of any device.
    device: Box<str>,
    /// Empty: of any sign-in.
    sign_in: Box<str>,
    forget_after_s: u64,
}

impl Revoked {
    fn covers(&self, grant: &Grant) -> bool {
        let is_named = |named: &str, own: &str| named.is_empty() || named == own;
        grant.issued_s <= self.issued_through_s
            && is_named(&self.device, &grant.device)
            && is_named(&self.sign_in, &grant.sign_in)
    }

    /// Takes in another one; false: it names others.
    fn widen(&mut self, other: &Self) -> bool {
        let is_same = self.device == other.device && self.sign_in == other.sign_in;
        if is_same {
            self.issued_through_s = self.issued_through_s.max(other.issued_through_s);
            self.forget_after_s = self.forget_after_s.max(other.forget_after_s);
        }
        is_same
    }
}

impl Revocations {
    /// Whether the token is one of those.
    pub fn cover(&self, grant: &Grant) -> bool {
        self.read().get(&grant.user).is_some_and(|revoked| revoked.iter().any(|revoked| revoked.covers(grant)))
    }

    /// Learns one; false: it names nobody.
    pub fn learn(&self, revocation: log::Revocation, now_s: u64) -> bool {
        let log::Revocation { user, issued_through_s, device, sign_in, forget_after_s } = revocation;
        let Ok(user) = UserId::try_from(&user[..]) else { return false };
        if device.len() > NAME_BYTES_MAX || sign_in.len() > NAME_BYTES_MAX {
            // No token that we take has such a name.
            return false;
        }
        if forget_after_s < now_s {
            return true;
        }
        let new = Revoked { issued_through_s, device: device.into(), sign_in: sign_in.into(), forget_after_s };
        let mut by_user = self.write();
        let revoked = by_user.entry(user).or_default();
        if revoked.iter_mut().any(|known| known.widen(&new)) {
            return true;
        }
        revoked.push(new);
        if revoked.len() > PER_USER_MAX {
            // Rather one sign-in too many than a list without an end.
            let mut all = Revoked { issued_through_s: 0, device: "".into(), sign_in: "".into(), forget_after_s: 0 };
            for each in revoked.drain(..) {
                all.issued_through_s = all.issued_through_s.max(each.issued_through_s);
                all.forget_after_s = all.forget_after_s.max(each.forget_after_s);
            }
            revoked.push(all);
        }
        true
    }

    /// Forgets what has expired by itself.
    pub fn forget(&self, now_s: u64) {
        self.write().retain(|_, revoked| {
            revoked.retain(|revoked| revoked.forget_after_s >= now_s);
            !revoked.is_empty()
        });
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<UserId, Vec<Revoked>>> {
        self.by_user.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<UserId, Vec<Revoked>>> {
        self.by_user.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(device: &str, sign_in: &str, issued_s: u64) -> Grant {
        Grant {
            user: UserId::new([1; 16]),
            device: device.into(),
            sign_in: sign_in.into(),
            issued_s,
            expires_s: issued_s + 900,
        }
    }

    fn revocation(device: &str, sign_in: &str, issued_through_s: u64) -> log::Revocation {
        log::Revocation {
            user: UserId::new([1; 16]).to_wire(),
            issued_through_s,
            device: device.to_owned(),
            sign_in: sign_in.to_owned(),
            forget_after_s: issued_through_s + 900,
        }
    }

    #[test]
    fn a_revocation_covers_what_it_names_and_nothing_else() {
        let cases = [
            (revocation("", "", 100), grant("phone", "a", 100), true),
            (revocation("", "", 100), grant("phone", "a", 101), false),
            (revocation("phone", "", 100), grant("phone", "a", 50), true),
            (revocation("phone", "", 100), grant("tablet", "a", 50), false),
            (revocation("phone", "", 100), grant("", "a", 50), false),
            (revocation("", "a", 100), grant("tablet", "a", 50), true),
            (revocation("", "a", 100), grant("tablet", "b", 50), false),
            (revocation("phone", "a", 100), grant("phone", "b", 50), false),
        ];
        for (revocation, grant, covered) in cases {
            let revocations = Revocations::default();
            assert!(revocations.learn(revocation.clone(), 100));
            assert_eq!(revocations.cover(&grant), covered, "{revocation:?} {grant:?}");
            let other = Grant { user: UserId::new([2; 16]), ..grant };
            assert!(!revocations.cover(&other));
        }
    }

    #[test]
    fn an_older_copy_takes_nothing_back() {
        let revocations = Revocations::default();
        revocations.learn(revocation("", "", 100), 100);
        revocations.learn(revocation("", "", 90), 100);
        assert!(revocations.cover(&grant("", "", 100)));
        assert_eq!(revocations.read()[&UserId::new([1; 16])].len(), 1);
    }

    #[test]
    fn what_has_expired_is_forgotten_and_not_learnt() {
        let revocations = Revocations::default();
        revocations.learn(revocation("phone", "", 100), 100);
        revocations.forget(1_000);
        assert!(revocations.cover(&grant("phone", "", 100)));
        revocations.forget(1_001);
        assert!(revocations.read().is_empty());
        revocations.learn(revocation("phone", "", 100), 1_001);
        assert!(revocations.read().is_empty());
    }

    #[test]
    fn beyond_the_bound_all_tokens_so_far_are_revoked() {
        let revocations = Revocations::default();
        for n in 0..=PER_USER_MAX as u64 {
            revocations.learn(revocation("", &format!("s{n}"), 100 + n), 100);
        }
        assert_eq!(revocations.read()[&UserId::new([1; 16])].len(), 1);
        assert!(revocations.cover(&grant("any", "other", 100)));
        assert!(!revocations.cover(&grant("any", "other", 101 + PER_USER_MAX as u64)));
    }

    #[test]
    fn what_names_nobody_is_refused() {
        let revocations = Revocations::default();
        assert!(!revocations.learn(log::Revocation { user: vec![1; 3].into(), ..revocation("", "", 1) }, 0));
        assert!(!revocations.learn(revocation(&"x".repeat(NAME_BYTES_MAX + 1), "", 1), 0));
    }
}
