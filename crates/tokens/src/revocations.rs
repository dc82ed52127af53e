//! Which tokens are no longer good, as CONTROL told.
//!
//! What is forgotten is harmless: every token that it names has expired by then. It never looks at a clock or a socket.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use domain::UserId;
use proto::log;

use crate::{Grant, KeyTag, NAME_BYTES_MAX, SignedBy, TICKET_LASTS_S_MAX};

/// Revocations that a user may have at a time; at the bound they become one, of all tokens so far.
const PER_USER_MAX: usize = 256;
/// Revoked keys that are remembered: far more than operators take out in the time that a token lasts.
const KEYS_MAX_REVOKED: usize = 256;

/// Which tokens are no longer good.
#[derive(Debug, Default)]
pub struct Revocations {
    by_user: RwLock<HashMap<UserId, Vec<Revoked>>>,
    keys: RwLock<Vec<RevokedKey>>,
}

/// A key whose tokens are worth nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct RevokedKey {
    tag: KeyTag,
    at_s: u64,
    forget_after_s: u64,
}

impl RevokedKey {
    fn covers(&self, grant: &Grant) -> bool {
        match grant.signed_by {
            SignedBy::Own(tag) => tag == self.tag,
            SignedBy::Other => false,
            // The token may have been one of those. Who is refused wrongly gets another ticket.
            SignedBy::Ticket(until_s) => until_s <= self.at_s.saturating_add(TICKET_LASTS_S_MAX),
        }
    }
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
            || self.keys.read().unwrap_or_else(PoisonError::into_inner).iter().any(|key| key.covers(grant))
    }

    /// Learns of a key that is good for nothing any more; false: no key has such a name.
    pub fn learn_key(&self, revocation: &log::KeyRevocation, now_s: u64) -> bool {
        let log::KeyRevocation { kid, at_s, forget_after_s } = revocation;
        let Some(tag) = KeyTag::of(kid) else { return false };
        if *forget_after_s < now_s {
            return true;
        }
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = keys.iter_mut().find(|known| known.tag == tag) {
            known.at_s = known.at_s.max(*at_s);
            known.forget_after_s = known.forget_after_s.max(*forget_after_s);
            return true;
        }
        if keys.len() >= KEYS_MAX_REVOKED {
            // What was revoked first has ended first, and is in no ring that is kept up.
            keys.remove(0);
        }
        keys.push(RevokedKey { tag, at_s: *at_s, forget_after_s: *forget_after_s });
        true
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
        self.keys.write().unwrap_or_else(PoisonError::into_inner).retain(|key| key.forget_after_s >= now_s);
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
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    fn grant(device: &str, sign_in: &str, issued_s: u64) -> Grant {
        Grant {
            user: UserId::new([1; 16]),
            device: device.into(),
            sign_in: sign_in.into(),
            issued_s,
            expires_s: issued_s + 900,
            signed_by: SignedBy::Other,
        }
    }

    /// A key's name, which is no other's.
    fn kid(n: u8) -> String {
        URL_SAFE_NO_PAD.encode([n; 32])
    }

    fn key_revocation(n: u8, at_s: u64) -> log::KeyRevocation {
        log::KeyRevocation { kid: kid(n), at_s, forget_after_s: at_s + 900 }
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
    fn a_revoked_key_covers_what_it_signed_and_every_ticket_of_before() {
        let revocations = Revocations::default();
        assert!(revocations.learn_key(&key_revocation(1, 100), 100));
        let by = |signed_by| revocations.cover(&Grant { signed_by, ..grant("", "", 50) });
        let own = |n| SignedBy::Own(KeyTag::of(&kid(n)).unwrap());
        assert_eq!([own(1), own(2), SignedBy::Other].map(by), [true, false, false]);
        let tickets = [101, 130, 131].map(SignedBy::Ticket);
        assert_eq!(tickets.map(by), [true, true, false], "one got at 100 lasts until 130");
        // What comes again widens it, an older copy does not narrow it.
        assert!(
            revocations.learn_key(&key_revocation(1, 105), 105) && revocations.learn_key(&key_revocation(1, 90), 105)
        );
        assert!(by(SignedBy::Ticket(135)) && !by(SignedBy::Ticket(136)));
        assert_eq!(revocations.keys.read().unwrap().len(), 1);
        revocations.forget(1_005);
        assert!(by(own(1)));
        revocations.forget(1_006);
        assert!(!by(own(1)));
        assert!(revocations.learn_key(&key_revocation(1, 100), 1_001) && !by(own(1)), "it has ended");
    }

    #[test]
    fn revoked_keys_are_bounded() {
        let revocations = Revocations::default();
        for n in 0..=KEYS_MAX_REVOKED as u64 {
            let mut thumbprint = [0; 32];
            thumbprint[..8].copy_from_slice(&n.to_be_bytes());
            let kid = URL_SAFE_NO_PAD.encode(thumbprint);
            assert!(revocations.learn_key(&log::KeyRevocation { kid, at_s: 100, forget_after_s: 900 }, 100));
        }
        assert_eq!(revocations.keys.read().unwrap().len(), KEYS_MAX_REVOKED);
    }

    #[test]
    fn what_names_nobody_is_refused() {
        let revocations = Revocations::default();
        for kid in ["", "phone", &kid(1)[1..], &format!("{}A", kid(1))] {
            let unknown = log::KeyRevocation { kid: kid.to_owned(), ..key_revocation(1, 100) };
            assert!(!revocations.learn_key(&unknown, 0), "{kid}");
        }
        assert!(!revocations.learn(log::Revocation { user: vec![1; 3].into(), ..revocation("", "", 1) }, 0));
        assert!(!revocations.learn(revocation(&"x".repeat(NAME_BYTES_MAX + 1), "", 1), 0));
    }
}
