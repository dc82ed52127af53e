//! Refresh tokens: drawn at random, stored as hashes, good once (X12).
//!
//! A token names its family, which is one sign-in. Using it draws the next one. A spent one is taken once more for a
//! moment, since its client may not have got the answer; after that its use is theft, and ends the sign-in.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::{Micros, UserId};
use store::{RefreshFamily, SPENT_MAX, Spent};

use crate::Config;

/// Bytes of the family's name in front of those of the secret.
const FAMILY_BYTES: usize = 16;
/// When a sibling of the live token was spent: as soon as one of them is used.
const NOT_YET: Micros = Micros::MAX;
/// Bits of chance in a token: 256.
const SECRET_BYTES: usize = 32;

/// A token as its client has it.
#[derive(Clone)]
pub(crate) struct RefreshToken {
    pub(crate) family: [u8; FAMILY_BYTES],
    secret: [u8; SECRET_BYTES],
}

impl RefreshToken {
    /// The first one of a family.
    pub(crate) fn first() -> Self {
        Self::next_of(rand::random())
    }

    /// Another one of the family.
    pub(crate) fn next_of(family: [u8; FAMILY_BYTES]) -> Self {
        Self { family, secret: rand::random() }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (family, secret) = bytes.split_at_checked(FAMILY_BYTES)?;
        Some(Self { family: family.try_into().ok()?, secret: secret.try_into().ok()? })
    }

    pub(crate) fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode([&self.family[..], &self.secret].concat())
    }

    /// What is stored of it.
    pub(crate) fn hash(&self) -> [u8; 32] {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, &self.secret).as_ref());
        hash
    }
}

/// How the sign-in is named in access tokens and revocations.
pub(crate) fn sign_in_of(family: [u8; FAMILY_BYTES]) -> String {
    // Not the family itself: that is part of a secret.
    let named = digest(&SHA256, &family);
    URL_SAFE_NO_PAD.encode(named.as_ref().get(..16).unwrap_or_default())
}

/// A sign-in that begins.
pub(crate) fn begin(config: &Config, user: UserId, device: &str, now_us: Micros) -> (RefreshFamily, RefreshToken) {
    let token = RefreshToken::first();
    let family = RefreshFamily {
        family: token.family,
        user,
        device: device.into(),
        live: token.hash(),
        spent: Vec::new(),
        created_us: now_us,
        expires_us: now_us + config.refresh_token_s * 1_000_000,
        version: 0,
    };
    (family, token)
}

/// What the use of a token comes to.
#[derive(Debug)]
pub(crate) enum Use {
    /// The family as it is then, and the token that follows; to be stored if nobody was faster.
    Next(RefreshFamily, RefreshToken),
    /// It has expired.
    Expired,
    /// Somebody has it who should not: the sign-in ends.
    Stolen,
}

impl std::fmt::Debug for RefreshToken {
    // Never its secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RefreshToken").finish_non_exhaustive()
    }
}

/// Uses a token of this family.
///
/// A replay within the leeway draws a sibling of the token that its client may not have got: whichever of the two is used
/// first, the other one is spent from then on.
pub(crate) fn use_token(config: &Config, mut family: RefreshFamily, token: &RefreshToken, now_us: Micros) -> Use {
    let hash = token.hash();
    let leeway_us = config.refresh_leeway_ms * 1_000;
    let is_taken = |spent: &Spent| spent.at_us == NOT_YET || now_us.saturating_sub(spent.at_us) <= leeway_us;
    let named = family.spent.iter().find(|spent| spent.hash == hash).copied();
    if family.live != hash && !named.as_ref().is_some_and(is_taken) {
        return Use::Stolen;
    }
    if family.expires_us <= now_us {
        return Use::Expired;
    }
    let is_replay = named.is_some_and(|spent| spent.at_us != NOT_YET);
    let next = RefreshToken::next_of(family.family);
    family.spent.retain(is_taken);
    let mut at_us = NOT_YET;
    if !is_replay {
        at_us = now_us;
        family.spent.iter_mut().for_each(|spent| spent.at_us = spent.at_us.min(now_us));
    }
    family.spent.push(Spent { hash: family.live, at_us });
    let excess = family.spent.len().saturating_sub(SPENT_MAX);
    family.spent.drain(..excess);
    family.live = next.hash();
    family.expires_us = now_us + config.refresh_token_s * 1_000_000;
    Use::Next(family, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Micros = 1_790_000_000_000_000;

    fn next(family: RefreshFamily, token: &RefreshToken, at: Micros) -> Option<(RefreshFamily, RefreshToken)> {
        match use_token(&Config::default(), family, token, at) {
            Use::Next(family, token) => Some((family, token)),
            Use::Expired | Use::Stolen => None,
        }
    }

    #[test]
    fn x12_a_token_has_256_bits_of_chance_and_only_its_hash_is_kept() {
        let (family, token) = begin(&Config::default(), UserId::new([1; 16]), "phone", NOW);
        let text = token.text();
        assert_eq!(URL_SAFE_NO_PAD.decode(&text).unwrap().len(), 48);
        assert_eq!(RefreshToken::parse(&text).unwrap().hash(), family.live);
        assert_ne!(&family.live[..], &token.secret[..]);
        assert!(!format!("{token:?} {family:?}").contains(&text[22..]), "no log may have it");
        for bad in ["", "x", &text[1..], &format!("{text}A"), "ä"] {
            assert!(RefreshToken::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn x12_each_use_draws_the_next_one_and_a_spent_one_is_theft_after_a_moment() {
        let (family, first) = begin(&Config::default(), UserId::new([1; 16]), "phone", NOW);
        let (family, second) = next(family, &first, NOW + 1).unwrap();
        let (family, third) = next(family, &second, NOW + 2).unwrap();
        for spent in [&first, &second] {
            assert!(next(family.clone(), spent, NOW + 3_000_000).is_some(), "within the leeway");
            let used = use_token(&Config::default(), family.clone(), spent, NOW + 60_000_000);
            assert!(matches!(used, Use::Stolen));
        }
        assert!(next(family.clone(), &third, NOW + 60_000_000).is_some());
        let forged = RefreshToken::next_of(family.family);
        assert!(matches!(use_token(&Config::default(), family, &forged, NOW + 3_000_000), Use::Stolen));
    }

    #[test]
    fn x12_of_two_answers_to_one_token_either_goes_on_and_the_other_is_then_spent() {
        let (family, first) = begin(&Config::default(), UserId::new([1; 16]), "phone", NOW);
        let (family, second) = next(family, &first, NOW + 1).unwrap();
        let (family, sibling) = next(family, &first, NOW + 1_000_000).unwrap();
        // However much later: nobody knows which of the two the client has.
        let later = NOW + 3_600_000_000;
        for (used, other) in [(&second, &sibling), (&sibling, &second)] {
            let (family, third) = next(family.clone(), used, later).unwrap();
            assert!(matches!(use_token(&Config::default(), family.clone(), other, later + 60_000_000), Use::Stolen));
            assert!(next(family, &third, later + 60_000_000).is_some());
        }
        assert!(matches!(use_token(&Config::default(), family, &first, later), Use::Stolen));
    }

    #[test]
    fn an_unused_token_expires_and_the_list_of_spent_ones_has_a_bound() {
        let config = Config::default();
        let (mut family, mut token) = begin(&config, UserId::new([1; 16]), "phone", NOW);
        for at in 1..200 {
            (family, token) = next(family, &token, NOW + at).unwrap();
            assert!(family.spent.len() <= SPENT_MAX);
        }
        let late = family.expires_us;
        assert!(matches!(use_token(&config, family, &token, late), Use::Expired));
    }
}
