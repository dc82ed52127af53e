//! The keys that are there, and from when to when each of them is used.
//!
//! ```text
//! next ── it begins to sign ─▶ signing ── a newer one does ─▶ retired ── what it signed has ended ─▶ gone
//! ```
//! The times stand beside the keys and states follow from the clock: once a rotation is written nothing is left to do,
//! so nothing can break it off, and whoever reads the same file sees the same states.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{DecodingKey, EncodingKey};
use pem::Pem;
use serde::Serialize;

use crate::grant::LEEWAY_S;
use crate::{KeyTag, TokenError, VALID_MAX};

/// Keys that are not gone: a token's header is looked up among them, and verifiers fetch all of them.
pub const KEYS_MAX: usize = 16;
/// How long a new key is published before it signs, unless told otherwise: verifiers that ask hourly have it by then.
pub const PUBLISHED_AHEAD: Duration = Duration::from_hours(1);

const PEM_TAG: &str = "PRIVATE KEY";
/// When the key was made. All times are in seconds since 1970 UTC.
const CREATED: &str = "Created";
/// From when on it signs, unless a newer one does; without it, since ever.
const SIGNS_FROM: &str = "Signs-From";
/// When the last token that it may have signed has ended; without it, no newer one was ever made.
const UNTIL: &str = "Until";

/// What a key is used for at a moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// Published, so that verifiers have it by the time that it signs.
    Next,
    /// Signs what is issued.
    Signing,
    /// Checks what it signed.
    Retired,
    /// Worth nothing.
    Gone,
}

/// What may be said of a key; times are in seconds since 1970 UTC.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KnownKey {
    /// Names the key in a token's header.
    pub kid: Box<str>,
    /// What it is used for now.
    pub state: KeyState,
    /// When it was made, if that is known.
    pub created_s: Option<u64>,
    /// From when on it signs; none: since ever.
    pub signs_from_s: Option<u64>,
    /// When it goes; none: it is not known yet.
    pub until_s: Option<u64>,
}

/// One key with its times.
#[derive(Clone)]
pub(crate) struct Key {
    pub(crate) kid: Box<str>,
    pub(crate) tag: KeyTag,
    pub(crate) public: [u8; 32],
    pub(crate) signing: EncodingKey,
    pub(crate) checking: DecodingKey,
    der: Vec<u8>,
    created_s: Option<u64>,
    signs_from_s: Option<u64>,
    until_s: Option<u64>,
}

impl Key {
    fn of(pem: &Pem) -> Result<Self, TokenError> {
        let der = pem.contents().to_vec();
        let pair = Ed25519KeyPair::from_pkcs8(&der).map_err(|_fault| TokenError::Key)?;
        let public: [u8; 32] = pair.public_key().as_ref().try_into().map_err(|_fault| TokenError::Key)?;
        let time = |name: &str| {
            let text = pem.headers().get(name);
            text.map(|text| text.trim().parse::<u64>().map_err(|_fault| TokenError::Key)).transpose()
        };
        let kid = kid(public);
        Ok(Self {
            tag: KeyTag::of(&kid).ok_or(TokenError::Key)?,
            kid,
            public,
            signing: EncodingKey::from_ed_der(&der),
            checking: DecodingKey::from_ed_der(&public),
            der,
            created_s: time(CREATED)?,
            signs_from_s: time(SIGNS_FROM)?,
            until_s: time(UNTIL)?,
        })
    }

    fn pem(&self) -> Result<Pem, TokenError> {
        let mut pem = Pem::new(PEM_TAG, self.der.clone());
        for (name, time) in [(CREATED, self.created_s), (SIGNS_FROM, self.signs_from_s), (UNTIL, self.until_s)] {
            if let Some(time) = time {
                pem.headers_mut().add(name, &time.to_string()).map_err(|_fault| TokenError::Key)?;
            }
        }
        Ok(pem)
    }

    fn begins_s(&self) -> u64 {
        self.signs_from_s.unwrap_or_default()
    }

    fn is_gone(&self, now_s: u64) -> bool {
        self.until_s.is_some_and(|until| until <= now_s)
    }
}

/// The thumbprint of a public key (RFC 7638, RFC 8037 appendix A.3).
fn kid(public: [u8; 32]) -> Box<str> {
    let x = URL_SAFE_NO_PAD.encode(public);
    // RFC 7638 §3.2: the required members alone, in the order of their names.
    let members = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
    URL_SAFE_NO_PAD.encode(digest(&SHA256, members.as_bytes())).into()
}

/// What a rotation makes of a ring.
#[derive(Clone, Debug)]
pub enum Rotation {
    /// This one.
    To(KeyRing),
    /// Nothing: a next key is there already.
    Pending,
    /// Nothing: [`KEYS_MAX`] keys are not gone yet.
    Full,
}

/// The keys that sign and check tokens, as they stand in a file.
#[derive(Clone)]
pub struct KeyRing(Vec<Key>);

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| &key.kid)).finish()
    }
}

impl KeyRing {
    /// One new key, which signs from now on.
    ///
    /// # Errors
    /// [`TokenError::Key`] if the system has no randomness.
    pub fn generate(now_s: u64) -> Result<Self, TokenError> {
        Ok(Self(vec![made(now_s, None)?]))
    }

    /// Reads keys in PEM, one or several. Of those that have no times beside them the first one signs.
    ///
    /// # Errors
    /// [`TokenError::Key`] for anything else.
    pub fn from_pem(text: &str) -> Result<Self, TokenError> {
        let parsed = pem::parse_many(text).map_err(|_fault| TokenError::Key)?;
        let keys: Vec<_> = parsed.iter().map(Key::of).collect::<Result<_, _>>()?;
        if keys.is_empty() { Err(TokenError::Key) } else { Ok(Self(keys)) }
    }

    /// What [`KeyRing::from_pem`] reads: PKCS#8 in PEM, with the times as headers.
    ///
    /// # Errors
    /// [`TokenError::Key`] if it cannot be written so.
    pub fn to_pem(&self) -> Result<String, TokenError> {
        let keys: Vec<_> = self.0.iter().map(Key::pem).collect::<Result<_, _>>()?;
        Ok(pem::encode_many(&keys))
    }

    /// With a new key that signs `ahead` from now, when those before it retire.
    ///
    /// # Errors
    /// [`TokenError::Key`] if the system has no randomness.
    pub fn rotated(&self, now_s: u64, ahead: Duration) -> Result<Rotation, TokenError> {
        let mut kept = self.without_gone(now_s).unwrap_or_else(|| self.clone()).0;
        if kept.iter().any(|key| key.begins_s() > now_s) {
            return Ok(Rotation::Pending);
        }
        if kept.len() >= KEYS_MAX {
            return Ok(Rotation::Full);
        }
        let signs_from_s = now_s + ahead.as_secs();
        for key in &mut kept {
            // Whatever it signs until then has ended by then, on a clock that is late too.
            key.until_s.get_or_insert(signs_from_s + VALID_MAX.as_secs() + LEEWAY_S);
        }
        kept.insert(0, made(now_s, Some(signs_from_s))?);
        Ok(Rotation::To(Self(kept)))
    }

    /// Without the key of this name; where it was the one that signs, the next one or a new one does from now on.
    ///
    /// None: there is no such key.
    ///
    /// # Errors
    /// [`TokenError::Key`] if the system has no randomness.
    pub fn without(&self, kid: &str, now_s: u64) -> Result<Option<Self>, TokenError> {
        let Some(removed) = self.named(kid, now_s) else { return Ok(None) };
        let state = self.state(removed, now_s);
        let mut left: Vec<_> = self.0.iter().filter(|key| *key.kid != *kid && !key.is_gone(now_s)).cloned().collect();
        match state {
            KeyState::Signing => {
                let next = left.iter_mut().filter(|key| key.begins_s() > now_s).min_by_key(|key| key.begins_s());
                match next {
                    Some(next) => next.signs_from_s = Some(now_s),
                    None => left.insert(0, made(now_s, Some(now_s))?),
                }
            }
            // The one before it was to end because of it.
            KeyState::Next => {
                let signing = self.signing(now_s).map(|key| key.kid.clone());
                let signing = left.iter_mut().find(|key| Some(&key.kid) == signing.as_ref());
                signing.into_iter().for_each(|key| key.until_s = None);
            }
            KeyState::Retired | KeyState::Gone => {}
        }
        Ok(Some(Self(left)))
    }

    /// Without the keys that are gone; none: there are none.
    pub fn without_gone(&self, now_s: u64) -> Option<Self> {
        let is_any_gone = self.0.iter().any(|key| key.is_gone(now_s));
        is_any_gone.then(|| Self(self.0.iter().filter(|key| !key.is_gone(now_s)).cloned().collect()))
    }

    /// The keys that are not gone: the one that signs first, then the others as they were made, newest first.
    pub fn known(&self, now_s: u64) -> Vec<KnownKey> {
        let known = |key: &Key| KnownKey {
            kid: key.kid.clone(),
            state: self.state(key, now_s),
            created_s: key.created_s,
            signs_from_s: key.signs_from_s,
            until_s: key.until_s,
        };
        self.usable(now_s).map(known).collect()
    }

    fn state(&self, key: &Key, now_s: u64) -> KeyState {
        if key.is_gone(now_s) {
            KeyState::Gone
        } else if self.signing(now_s).is_some_and(|signing| signing.kid == key.kid) {
            KeyState::Signing
        } else if key.begins_s() > now_s {
            KeyState::Next
        } else {
            KeyState::Retired
        }
    }

    /// The one that began to sign last; where the clock was set back before all of them, the first one that does.
    pub(crate) fn signing(&self, now_s: u64) -> Option<&Key> {
        let usable = || self.0.iter().rev().filter(|key| !key.is_gone(now_s));
        let begun = usable().filter(|key| key.begins_s() <= now_s).max_by_key(|key| key.begins_s());
        begun.or_else(|| usable().min_by_key(|key| key.begins_s()))
    }

    /// The one of this name, unless it is gone.
    pub(crate) fn named(&self, kid: &str, now_s: u64) -> Option<&Key> {
        self.0.iter().find(|key| *key.kid == *kid && !key.is_gone(now_s))
    }

    pub(crate) fn usable(&self, now_s: u64) -> impl Iterator<Item = &Key> {
        let signing = self.signing(now_s);
        let others = self.0.iter().filter(move |key| signing.is_none_or(|signing| signing.kid != key.kid));
        signing.into_iter().chain(others.filter(move |key| !key.is_gone(now_s)))
    }
}

fn made(now_s: u64, signs_from_s: Option<u64>) -> Result<Key, TokenError> {
    let pair = Ed25519KeyPair::generate().map_err(|_fault| TokenError::Key)?;
    let der = pair.to_pkcs8v1().map_err(|_fault| TokenError::Key)?;
    let key = Key::of(&Pem::new(PEM_TAG, der.as_ref()))?;
    Ok(Key { created_s: Some(now_s), signs_from_s, ..key })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600;
    const START: u64 = 1_790_000_000;

    fn states(ring: &KeyRing, now_s: u64) -> Vec<KeyState> {
        // In the order in which they were made.
        ring.0.iter().rev().map(|key| ring.state(key, now_s)).collect()
    }

    fn rotated(ring: &KeyRing, now_s: u64) -> KeyRing {
        let Rotation::To(rotated) = ring.rotated(now_s, PUBLISHED_AHEAD).unwrap() else { panic!("no rotation") };
        KeyRing::from_pem(&rotated.to_pem().unwrap()).unwrap()
    }

    #[test]
    fn a_key_is_published_then_signs_then_checks_then_goes_by_the_clock_alone() {
        use KeyState::{Gone, Next, Retired, Signing};
        let ring = rotated(&KeyRing::generate(START).unwrap(), START + 10);
        let signs = START + 10 + HOUR;
        let ends = signs + VALID_MAX.as_secs() + LEEWAY_S;
        for (now, expected) in [
            (START + 10, [Signing, Next]),
            (signs - 1, [Signing, Next]),
            (signs, [Retired, Signing]),
            (ends - 1, [Retired, Signing]),
            (ends, [Gone, Signing]),
        ] {
            assert_eq!(states(&ring, now), expected, "{now}");
            let usable = ring.known(now);
            assert_eq!(usable.len(), expected.iter().filter(|state| **state != Gone).count());
            assert_eq!(usable[0].state, Signing);
        }
        // The last token of the old one, issued for as long as any may be, ends before its key goes.
        assert!(signs - 1 + VALID_MAX.as_secs() + LEEWAY_S < ends);
        assert!(ring.without_gone(ends - 1).is_none());
        assert_eq!(ring.without_gone(ends).unwrap().0.len(), 1);
    }

    #[test]
    fn a_rotation_that_is_asked_for_twice_is_one() {
        let ring = rotated(&KeyRing::generate(START).unwrap(), START);
        assert!(matches!(ring.rotated(START + HOUR - 1, PUBLISHED_AHEAD).unwrap(), Rotation::Pending));
        assert!(matches!(ring.rotated(START + HOUR, PUBLISHED_AHEAD).unwrap(), Rotation::To(_)));
    }

    #[test]
    fn keys_are_bounded_and_those_that_are_gone_make_room() {
        let mut ring = KeyRing::generate(START).unwrap();
        let mut now = START;
        while ring.0.len() < KEYS_MAX {
            ring = rotated(&ring, now);
            now += HOUR;
        }
        assert!(matches!(ring.rotated(now, PUBLISHED_AHEAD).unwrap(), Rotation::Full));
        let first_ends = START + HOUR + VALID_MAX.as_secs() + LEEWAY_S;
        assert!(rotated(&ring, first_ends).0.len() == KEYS_MAX);
    }

    #[test]
    fn keys_that_were_put_there_by_hand_get_their_end_at_the_next_rotation() {
        let bare = |ring: KeyRing| Key { created_s: None, ..ring.0[0].clone() };
        let by_hand = [KeyRing::generate(START).unwrap(), KeyRing::generate(START).unwrap()].map(bare);
        let ring = KeyRing(by_hand.to_vec());
        assert_eq!(ring.signing(START).unwrap().kid, by_hand[0].kid);
        assert_eq!(states(&ring, u64::MAX), [KeyState::Retired, KeyState::Signing]);
        let after = rotated(&ring, START);
        assert_eq!(states(&after, START + HOUR), [KeyState::Retired, KeyState::Retired, KeyState::Signing]);
        assert_eq!(states(&after, START + 31 * 24 * HOUR), [KeyState::Gone, KeyState::Gone, KeyState::Signing]);
    }

    #[test]
    fn a_key_that_is_taken_out_leaves_one_that_signs_and_that_one_stays() {
        use KeyState::{Next, Retired, Signing};
        let first = KeyRing::generate(START).unwrap();
        let second = rotated(&first, START);
        let third = rotated(&second, START + HOUR);
        // In the order in which they were made.
        let kid = |ring: &KeyRing, n: usize| ring.0[ring.0.len() - 1 - n].kid.clone();
        let without = |ring: &KeyRing, n: usize, now| {
            let left = ring.without(&kid(ring, n), now).unwrap().unwrap();
            assert!(left.named(&kid(ring, n), now).is_none());
            KeyRing::from_pem(&left.to_pem().unwrap()).unwrap()
        };
        // The only one: another signs at once.
        let left = without(&first, 0, START + 5);
        assert_eq!(states(&left, START + 5), [Signing]);
        assert_eq!(left.0[0].signs_from_s, Some(START + 5));
        // The one that signs, while a next one waits: that one signs at once, and no retired one does again.
        let now = START + HOUR + 10;
        assert_eq!(states(&third, now), [Retired, Signing, Next]);
        let left = without(&third, 1, now);
        assert_eq!(states(&left, now), [Retired, Signing]);
        assert_eq!(left.signing(now).unwrap().kid, kid(&third, 2));
        // The one that signs, and only a retired one is left.
        let left = without(&second, 1, START + HOUR);
        assert_eq!(states(&left, START + HOUR), [Retired, Signing]);
        // The next one: the one before it goes on for as long as no other comes.
        let left = without(&second, 1, START + 10);
        assert_eq!(states(&left, START + 400 * 24 * HOUR), [Signing]);
        assert!(matches!(left.rotated(START + 11, PUBLISHED_AHEAD).unwrap(), Rotation::To(_)));
        // A retired one.
        assert_eq!(states(&without(&third, 0, now), now), [Signing, Next]);
        assert!(third.without("another", now).unwrap().is_none());
    }

    #[test]
    fn a_clock_that_was_set_back_leaves_a_key_that_signs() {
        let ring = rotated(&KeyRing::generate(START).unwrap(), START);
        let late = ring.without_gone(START + 31 * 24 * HOUR).unwrap();
        assert!(late.signing(START - HOUR).is_some());
    }

    #[test]
    fn a_time_that_is_none_is_refused() {
        let text = KeyRing::generate(START).unwrap().to_pem().unwrap();
        assert!(KeyRing::from_pem(&text).is_ok() && text.contains("Created: 1790000000"));
        assert_eq!(KeyRing::from_pem(&text.replace("1790000000", "soon")).unwrap_err(), TokenError::Key);
        assert_eq!(KeyRing::from_pem("").unwrap_err(), TokenError::Key);
    }

    #[test]
    fn a_key_is_named_by_its_thumbprint() {
        // RFC 8037, appendix A.1 and A.3.
        let seed = URL_SAFE_NO_PAD.decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").unwrap();
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
        let key = Key::of(&Pem::new(PEM_TAG, pair.to_pkcs8v1().unwrap().as_ref())).unwrap();
        assert_eq!(URL_SAFE_NO_PAD.encode(key.public), "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
        assert_eq!(&*key.kid, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }
}
