//! Tickets: what stands for a token once, for who cannot send one.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Bytes of chance in a ticket: 256 bits.
const TICKET_BYTES: usize = 32;

/// A ticket as its client has it.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket([u8; TICKET_BYTES]);

impl Ticket {
    /// A new one.
    pub fn draw() -> Self {
        Self(rand::random())
    }

    /// Reads what [`Ticket::text`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        Some(Self(URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?))
    }

    /// What its client is told.
    pub fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// What is stored of it.
    pub fn hash(&self) -> [u8; 32] {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, &self.0).as_ref());
        hash
    }
}

impl fmt::Debug for Ticket {
    // Never its secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x12_a_ticket_has_256_bits_of_chance_and_only_its_hash_is_kept() {
        let ticket = Ticket::draw();
        let text = ticket.text();
        assert_eq!((Ticket::parse(&text).unwrap(), text.len()), (ticket.clone(), 43));
        assert_ne!(ticket.hash(), ticket.0);
        assert_ne!(Ticket::draw().hash(), ticket.hash());
        assert!(!format!("{ticket:?}").contains(&text[..8]), "no log may have it");
        for bad in ["", "x", &text[1..], &format!("{text}A"), "ä"] {
            assert!(Ticket::parse(bad).is_none(), "{bad}");
        }
    }
}
