//! What somebody says: the body, and what it refers to.

use bytes::Bytes;
use proto::v1;
use xxhash_rust::xxh3::Xxh3;

use crate::{
    Code, Error, Seq, UserId, Version,
    limits::{BODY_BYTES_MAX, MENTIONS_MAX},
};

/// What somebody says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Message {
    /// Opaque bytes.
    pub body: Bytes,
    /// The entry of the same chat that this answers.
    pub reply_to: Option<Seq>,
    /// Whom it is meant for, members or not; each once.
    pub mentions: Vec<UserId>,
    /// It is meant for everybody in the chat.
    pub mention_all: bool,
    /// Which version of it this is.
    pub version: Version,
}

impl Message {
    /// A message that refers to nothing.
    pub fn plain(body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..Self::default() }
    }

    /// Checks what a client sends for shape and limits.
    pub(crate) fn from_client(wire: v1::SendMessage) -> Result<Self, Code> {
        let v1::SendMessage { body, reply_to, mentions, mention_all } = wire;
        if body.len() > BODY_BYTES_MAX {
            return Err(Code::BodyTooLarge);
        }
        if mentions.len() > MENTIONS_MAX {
            return Err(Code::BadRequest);
        }
        let mentions = users(&mentions).map_err(|_fault| Code::BadRequest)?;
        let mut distinct = mentions.clone();
        distinct.sort_unstable();
        distinct.dedup();
        if distinct.len() < mentions.len() {
            return Err(Code::BadRequest);
        }
        Ok(Self { body, reply_to: place(reply_to), mentions, mention_all, version: Version::Original })
    }

    pub(crate) fn to_client(&self) -> v1::SendMessage {
        let v1::MessageSent { body, reply_to, mentions, mention_all, .. } = self.to_entry();
        v1::SendMessage { body, reply_to, mentions, mention_all }
    }

    pub(crate) fn from_entry(wire: v1::MessageSent) -> Result<Self, Error> {
        let v1::MessageSent { body, reply_to, mentions, mention_all, edited_seq, first_hash, deleted_seq } = wire;
        let version = Version::from_wire(edited_seq, &first_hash, deleted_seq)?;
        Ok(Self { body, reply_to: place(reply_to), mentions: users(&mentions)?, mention_all, version })
    }

    pub(crate) fn to_entry(&self) -> v1::MessageSent {
        let (edited_seq, first_hash, deleted_seq) = match self.version {
            Version::Original => (0, Bytes::new(), 0),
            Version::Edited { seq, first_hash } => (seq, Bytes::copy_from_slice(&first_hash.to_be_bytes()), 0),
            Version::Deleted { seq } => (0, Bytes::new(), seq),
        };
        v1::MessageSent {
            body: self.body.clone(),
            reply_to: self.reply_to.unwrap_or_default(),
            mentions: self.mentions.iter().map(|user| user.to_wire()).collect(),
            mention_all: self.mention_all,
            edited_seq,
            first_hash,
            deleted_seq,
        }
    }

    /// Whether it refers to anything.
    pub(crate) fn refers(&self) -> bool {
        self.reply_to.is_some() || !self.mentions.is_empty() || self.mention_all
    }

    /// Adds what a repeat is compared by; of one that refers to nothing only its body.
    pub(crate) fn add_to(&self, hash: &mut Xxh3) {
        if self.refers() {
            hash.update(&(self.mentions.len() as u64).to_be_bytes());
            hash.update(&self.reply_to.unwrap_or_default().to_be_bytes());
            hash.update(&[self.mention_all.into()]);
            self.mentions.iter().for_each(|user| hash.update(user.as_bytes()));
        }
        hash.update(&self.body);
    }
}

/// 0 names no entry.
fn place(seq: u64) -> Option<Seq> {
    (seq > 0).then_some(seq)
}

fn users(wire: &[Bytes]) -> Result<Vec<UserId>, Error> {
    wire.iter().map(|user| UserId::try_from(&user[..])).collect()
}
