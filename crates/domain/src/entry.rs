//! Entries: what happened in a chat, numbered, as it stands in record, row and push.

use bytes::Bytes;
use prost::Message as _;
use proto::v1;
use xxhash_rust::xxh3::Xxh3;

use crate::version::ANY;
use crate::{
    ChatId, Edit, Error, ImportId, Message, Micros, Ordinal, Origin, Policy, PolicyChange, Seq, UserId, Version,
    limits::SCHEMA,
};

/// Where people talk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum ChatKind {
    /// Two members, for ever.
    Direct = 1,
    /// Anyone in it may write.
    Group = 2,
    /// Few write, many read.
    Channel = 3,
}

/// What a member may do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Role {
    /// May do everything; a group always has one.
    Owner = 1,
    /// May add, remove and change members below it.
    Admin = 2,
    /// May write in groups.
    Member = 3,
    /// Reads, never writes.
    Reader = 4,
}

/// A user with a role.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Member {
    /// Who.
    pub user: UserId,
    /// As what.
    pub role: Role,
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Always seq 1, with all first members, the creator among them.
    ChatCreated {
        /// Direct, group or channel.
        kind: ChatKind,
        /// In ascending order of user.
        members: Vec<Member>,
    },
    /// Someone came in.
    MemberAdded {
        /// Who and as what.
        member: Member,
    },
    /// Someone was put out.
    MemberRemoved {
        /// Who.
        user: UserId,
    },
    /// The sender left.
    MemberLeft,
    /// Someone said something.
    MessageSent(Message),
    /// A member has another role.
    RoleSet {
        /// Who and as what.
        member: Member,
    },
    /// The chat has another name.
    ChatRenamed {
        /// Empty: it has none any more.
        name: Box<str>,
    },
    /// A member is an owner in the place of the sender, who is an admin.
    OwnershipTransferred {
        /// Who.
        user: UserId,
    },
    /// The sender said something else than it had.
    MessageEdited(Edit),
    /// What somebody said is taken back.
    MessageDeleted {
        /// The message.
        seq: Seq,
    },
    /// The sender's reaction to a message is another.
    MessageReacted {
        /// The message.
        seq: Seq,
        /// Empty: none any more.
        reaction: Box<str>,
    },
    /// Something else holds in the chat.
    ChatPolicySet {
        /// What holds now.
        policy: Policy,
        /// What was asked for.
        change: PolicyChange,
    },
    /// A message is pinned, or no more.
    MessagePinned {
        /// The message.
        seq: Seq,
        /// It is not pinned any more.
        unpinned: bool,
        /// All that are pinned now, the latest last.
        pins: Vec<Seq>,
    },
    /// Seq 1 of a chat that an operator brings in: nobody is in it yet.
    ImportBegun {
        /// Direct, group or channel.
        kind: ChatKind,
        /// Which import.
        import: ImportId,
    },
    /// Its history is whole: the members come in, and all of it is theirs.
    ImportEnded {
        /// In ascending order of user.
        members: Vec<Member>,
    },
}

/// Which event an entry holds, as one byte: the wire's field number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum EventKind {
    /// [`Event::ChatCreated`].
    ChatCreated = 16,
    /// [`Event::MemberAdded`].
    MemberAdded = 17,
    /// [`Event::MemberRemoved`].
    MemberRemoved = 18,
    /// [`Event::MemberLeft`].
    MemberLeft = 19,
    /// [`Event::MessageSent`].
    MessageSent = 20,
    /// [`Event::RoleSet`].
    RoleSet = 21,
    /// [`Event::ChatRenamed`].
    ChatRenamed = 22,
    /// [`Event::OwnershipTransferred`].
    OwnershipTransferred = 23,
    /// [`Event::MessageEdited`].
    MessageEdited = 24,
    /// [`Event::MessageDeleted`].
    MessageDeleted = 25,
    /// [`Event::MessageReacted`].
    MessageReacted = 26,
    /// [`Event::ChatPolicySet`].
    ChatPolicySet = 27,
    /// [`Event::MessagePinned`].
    MessagePinned = 28,
    /// [`Event::ImportBegun`].
    ImportBegun = 32,
    /// [`Event::ImportEnded`].
    ImportEnded = 33,
}

/// In the place of a kind in the hash of a message that refers to something: no body alone has the same.
const REFERRING: u8 = 0;

impl Event {
    /// Which event this is.
    pub const fn kind(&self) -> EventKind {
        match self {
            Self::ChatCreated { .. } => EventKind::ChatCreated,
            Self::MemberAdded { .. } => EventKind::MemberAdded,
            Self::MemberRemoved { .. } => EventKind::MemberRemoved,
            Self::MemberLeft => EventKind::MemberLeft,
            Self::MessageSent { .. } => EventKind::MessageSent,
            Self::RoleSet { .. } => EventKind::RoleSet,
            Self::ChatRenamed { .. } => EventKind::ChatRenamed,
            Self::OwnershipTransferred { .. } => EventKind::OwnershipTransferred,
            Self::MessageEdited(_) => EventKind::MessageEdited,
            Self::MessageDeleted { .. } => EventKind::MessageDeleted,
            Self::MessageReacted { .. } => EventKind::MessageReacted,
            Self::ChatPolicySet { .. } => EventKind::ChatPolicySet,
            Self::MessagePinned { .. } => EventKind::MessagePinned,
            Self::ImportBegun { .. } => EventKind::ImportBegun,
            Self::ImportEnded { .. } => EventKind::ImportEnded,
        }
    }

    /// Whether this entry counts as a message: takes an ordinal.
    pub const fn is_message(&self) -> bool {
        matches!(self, Self::MessageSent { .. })
    }

    /// xxh3-128 over the kind's byte and the content: what a repeat is compared by.
    ///
    /// Chats remember hashes, so that of an event never changes, but for one with fields that it could not have before.
    /// A changed message keeps the hash of what was said first; of what is deleted it is 0, which equals any.
    pub fn content_hash(&self) -> u128 {
        if let Self::MessageSent(message) = self {
            match message.version {
                Version::Original => {}
                Version::Edited { first_hash, .. } => return first_hash,
                Version::Deleted { .. } => return ANY,
            }
        }
        if let Self::MessageEdited(edit) = self {
            return edit.content_hash();
        }
        let mut hash = Xxh3::new();
        let refers = matches!(self, Self::MessageSent(message) if message.refers());
        hash.update(&[if refers { REFERRING } else { self.kind() as u8 }]);
        let mut member = |member: &Member| {
            hash.update(member.user.as_bytes());
            hash.update(&[member.role as u8]);
        };
        match self {
            Self::ChatCreated { kind, members } => {
                members.iter().for_each(&mut member);
                hash.update(&[*kind as u8]);
            }
            Self::MemberAdded { member: it } | Self::RoleSet { member: it } => member(it),
            Self::MemberRemoved { user } | Self::OwnershipTransferred { user } => hash.update(user.as_bytes()),
            Self::ChatRenamed { name } => hash.update(name.as_bytes()),
            Self::MemberLeft => {}
            Self::MessageSent(message) => message.add_to(&mut hash),
            Self::MessageEdited(edit) => hash.update(&edit.body),
            Self::MessageDeleted { seq } => hash.update(&seq.to_be_bytes()),
            Self::MessageReacted { seq, reaction } => {
                hash.update(&seq.to_be_bytes());
                hash.update(reaction.as_bytes());
            }
            Self::ChatPolicySet { change, .. } => hash.update(&change.hashed()),
            Self::MessagePinned { seq, unpinned, .. } => {
                hash.update(&seq.to_be_bytes());
                hash.update(&[u8::from(*unpinned)]);
            }
            Self::ImportBegun { kind, import } => {
                hash.update(import.as_bytes());
                hash.update(&[*kind as u8]);
            }
            Self::ImportEnded { members } => members.iter().for_each(&mut member),
        }
        hash.digest128()
    }
}

/// One numbered entry of a chat's log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Whose log.
    pub chat: ChatId,
    /// Dense: 1, 2, 3 …
    pub seq: Seq,
    /// How many messages the chat had up to and including this entry.
    pub ordinal: Ordinal,
    /// Whose command it was.
    pub sender: UserId,
    /// With `n` the command's identity; 0 for `ChatCreated` and for what was imported.
    pub origin: Origin,
    /// The origin's counter in this chat; 0 for `ChatCreated`, the seq for what was imported.
    pub n: u64,
    /// Strictly growing within the chat.
    pub time: Micros,
    /// What happened.
    pub event: Event,
}

impl Entry {
    /// Whether this is a message that an import brought in: said elsewhere and before, new to nobody.
    pub fn is_imported_message(&self) -> bool {
        self.origin == Origin(0) && self.event.is_message()
    }

    /// Encodes as a `heliograph.v1.Entry`: done once, by the owner that publishes it.
    pub fn encode(&self) -> Bytes {
        self.to_wire().encode_to_vec().into()
    }

    /// Decodes a `heliograph.v1.Entry`; a message's body is a slice of `bytes`.
    ///
    /// # Errors
    /// [`Error::Decode`] for what is no such message, [`Error::Schema`] for a newer one, and the fault of any field
    /// that does not hold what this version writes.
    pub fn decode(bytes: &Bytes) -> Result<Self, Error> {
        Self::from_wire(v1::Entry::decode(bytes.clone()).map_err(Error::Decode)?)
    }

    fn to_wire(&self) -> v1::Entry {
        use v1::entry::Event as Wire;
        let event = match &self.event {
            Event::ChatCreated { kind, members } => Wire::ChatCreated(v1::ChatCreated {
                kind: kind.to_wire().into(),
                members: members.iter().map(|member| member.to_wire()).collect(),
            }),
            Event::MemberAdded { member } => Wire::MemberAdded(v1::MemberAdded { member: Some(member.to_wire()) }),
            Event::MemberRemoved { user } => Wire::MemberRemoved(v1::MemberRemoved { user: user.to_wire() }),
            Event::MemberLeft => Wire::MemberLeft(v1::MemberLeft {}),
            Event::MessageSent(message) => Wire::MessageSent(message.to_entry()),
            Event::RoleSet { member } => {
                Wire::RoleSet(v1::RoleSet { user: member.user.to_wire(), role: member.role.to_wire().into() })
            }
            Event::ChatRenamed { name } => Wire::ChatRenamed(v1::ChatRenamed { name: name.to_string() }),
            Event::OwnershipTransferred { user } => {
                Wire::OwnershipTransferred(v1::OwnershipTransferred { user: user.to_wire() })
            }
            Event::MessageEdited(edit) => Wire::MessageEdited(edit.to_wire()),
            Event::MessageDeleted { seq } => Wire::MessageDeleted(v1::MessageDeleted { seq: *seq }),
            Event::MessageReacted { seq, reaction } => {
                Wire::MessageReacted(v1::MessageReacted { seq: *seq, reaction: reaction.to_string() })
            }
            Event::ChatPolicySet { policy, change } => Wire::ChatPolicySet(v1::ChatPolicySet {
                policy: Some(policy.to_wire()),
                change: Some(change.to_wire()),
            }),
            Event::MessagePinned { seq, unpinned, pins } => {
                Wire::MessagePinned(v1::MessagePinned { seq: *seq, unpinned: *unpinned, pins: pins.clone() })
            }
            Event::ImportBegun { kind, import } => {
                Wire::ImportBegun(v1::ImportBegun { kind: kind.to_wire().into(), import: import.to_wire() })
            }
            Event::ImportEnded { members } => {
                Wire::ImportEnded(v1::ImportEnded { members: members.iter().map(|member| member.to_wire()).collect() })
            }
        };
        v1::Entry {
            chat: self.chat.to_wire(),
            seq: self.seq,
            ordinal: self.ordinal,
            sender: self.sender.to_wire(),
            origin: self.origin.0,
            n: self.n,
            time_us: self.time,
            schema: SCHEMA,
            event: Some(event),
        }
    }

    /// Checks a decoded wire entry.
    ///
    /// # Errors
    /// As [`Entry::decode`].
    pub fn from_wire(wire: v1::Entry) -> Result<Self, Error> {
        use v1::entry::Event as Wire;
        if wire.schema > SCHEMA {
            return Err(Error::Schema { found: wire.schema });
        }
        let event = match wire.event.ok_or(Error::Missing("event"))? {
            Wire::ChatCreated(created) => Event::ChatCreated {
                kind: ChatKind::from_wire(created.kind)?,
                members: created.members.iter().map(Member::from_wire).collect::<Result<_, _>>()?,
            },
            Wire::MemberAdded(added) => {
                Event::MemberAdded { member: Member::from_wire(&added.member.ok_or(Error::Missing("member"))?)? }
            }
            Wire::MemberRemoved(removed) => Event::MemberRemoved { user: UserId::try_from(&removed.user[..])? },
            Wire::MemberLeft(v1::MemberLeft {}) => Event::MemberLeft,
            Wire::RoleSet(set) => Event::RoleSet {
                member: Member { user: UserId::try_from(&set.user[..])?, role: Role::from_wire(set.role)? },
            },
            Wire::ChatRenamed(renamed) => Event::ChatRenamed { name: renamed.name.into() },
            Wire::OwnershipTransferred(transferred) => {
                Event::OwnershipTransferred { user: UserId::try_from(&transferred.user[..])? }
            }
            Wire::MessageSent(sent) => Event::MessageSent(Message::from_entry(sent)?),
            Wire::MessageEdited(edited) => Event::MessageEdited(Edit::from_wire(edited)?),
            Wire::MessageDeleted(v1::MessageDeleted { seq: 0 })
            | Wire::MessageReacted(v1::MessageReacted { seq: 0, .. })
            | Wire::MessagePinned(v1::MessagePinned { seq: 0, .. }) => return Err(Error::Missing("seq")),
            Wire::MessageDeleted(v1::MessageDeleted { seq }) => Event::MessageDeleted { seq },
            Wire::MessageReacted(v1::MessageReacted { seq, reaction }) => {
                Event::MessageReacted { seq, reaction: reaction.into() }
            }
            Wire::ChatPolicySet(set) => Event::ChatPolicySet {
                policy: Policy::from_wire(set.policy.ok_or(Error::Missing("policy"))?),
                change: PolicyChange::from_wire(set.change.unwrap_or_default()),
            },
            Wire::MessagePinned(v1::MessagePinned { seq, unpinned, pins }) => {
                Event::MessagePinned { seq, unpinned, pins }
            }
            Wire::ImportBegun(begun) => Event::ImportBegun {
                kind: ChatKind::from_wire(begun.kind)?,
                import: ImportId::try_from(&begun.import[..])?,
            },
            Wire::ImportEnded(ended) => {
                Event::ImportEnded { members: ended.members.iter().map(Member::from_wire).collect::<Result<_, _>>()? }
            }
        };
        if wire.seq == 0 {
            return Err(Error::Missing("seq"));
        }
        Ok(Self {
            chat: ChatId::try_from(&wire.chat[..])?,
            seq: wire.seq,
            ordinal: wire.ordinal,
            sender: UserId::try_from(&wire.sender[..])?,
            origin: Origin(wire.origin),
            n: wire.n,
            time: wire.time_us,
            event,
        })
    }
}

/// An entry beside its encoded bytes: what record, row and push share.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LoggedEntry {
    /// The decoded form.
    pub entry: Entry,
    /// The bytes of a `heliograph.v1.Entry`.
    pub bytes: Bytes,
}

impl LoggedEntry {
    /// Encodes a new entry.
    pub fn encode(entry: Entry) -> Self {
        Self { bytes: entry.encode(), entry }
    }

    /// Decodes an entry that someone encoded.
    ///
    /// # Errors
    /// As [`Entry::decode`].
    pub fn decode(bytes: Bytes) -> Result<Self, Error> {
        Ok(Self { entry: Entry::decode(&bytes)?, bytes })
    }
}

impl Member {
    pub(crate) fn to_wire(self) -> v1::Member {
        v1::Member { user: self.user.to_wire(), role: self.role.to_wire().into() }
    }

    pub(crate) fn from_wire(wire: &v1::Member) -> Result<Self, Error> {
        Ok(Self { user: UserId::try_from(&wire.user[..])?, role: Role::from_wire(wire.role)? })
    }
}

impl ChatKind {
    /// The wire's value.
    pub const fn to_wire(self) -> v1::ChatKind {
        match self {
            Self::Direct => v1::ChatKind::Direct,
            Self::Group => v1::ChatKind::Group,
            Self::Channel => v1::ChatKind::Channel,
        }
    }

    /// Checks the wire's value.
    ///
    /// # Errors
    /// [`Error::Value`] for 0 and for values of newer versions.
    pub fn from_wire(value: i32) -> Result<Self, Error> {
        match v1::ChatKind::try_from(value) {
            Ok(v1::ChatKind::Direct) => Ok(Self::Direct),
            Ok(v1::ChatKind::Group) => Ok(Self::Group),
            Ok(v1::ChatKind::Channel) => Ok(Self::Channel),
            Ok(v1::ChatKind::Unspecified) | Err(_) => Err(Error::Value { field: "kind", value }),
        }
    }
}

impl Role {
    /// The wire's value.
    pub const fn to_wire(self) -> v1::Role {
        match self {
            Self::Owner => v1::Role::Owner,
            Self::Admin => v1::Role::Admin,
            Self::Member => v1::Role::Member,
            Self::Reader => v1::Role::Reader,
        }
    }

    /// Checks the wire's value.
    ///
    /// # Errors
    /// [`Error::Value`] for 0 and for values of newer versions.
    pub fn from_wire(value: i32) -> Result<Self, Error> {
        match v1::Role::try_from(value) {
            Ok(v1::Role::Owner) => Ok(Self::Owner),
            Ok(v1::Role::Admin) => Ok(Self::Admin),
            Ok(v1::Role::Member) => Ok(Self::Member),
            Ok(v1::Role::Reader) => Ok(Self::Reader),
            Ok(v1::Role::Unspecified) | Err(_) => Err(Error::Value { field: "role", value }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(byte: u8) -> UserId {
        UserId::new([byte; 16])
    }

    #[test]
    fn every_event_survives_the_wire() {
        let member = Member { user: user(2), role: Role::Member };
        for event in [
            Event::ChatCreated { kind: ChatKind::Group, members: vec![member] },
            Event::MemberAdded { member },
            Event::MemberRemoved { user: user(2) },
            Event::MemberLeft,
            Event::MessageSent(Message::plain("hello")),
            Event::MessageSent(Message::default()),
            Event::MessageSent(Message {
                body: Bytes::from_static(b"hello"),
                reply_to: Some(2),
                mentions: vec![user(3), user(2)],
                mention_all: true,
                version: Version::Edited { seq: 9, first_hash: 1 << 100 | 7 },
            }),
            Event::MessageSent(Message { version: Version::Deleted { seq: 9 }, ..Message::default() }),
            Event::MessageEdited(Edit { seq: 2, body: Bytes::from_static(b"hi"), previous: 0, erased: false }),
            Event::MessageEdited(Edit { seq: 2, body: Bytes::new(), previous: 5, erased: true }),
            Event::MessageDeleted { seq: 2 },
            Event::RoleSet { member },
            Event::ChatRenamed { name: "the café".into() },
            Event::ChatRenamed { name: "".into() },
            Event::OwnershipTransferred { user: user(2) },
            Event::ImportBegun { kind: ChatKind::Channel, import: ImportId::new([8; 16]) },
            Event::ImportEnded { members: vec![member] },
        ] {
            let entry = Entry {
                chat: ChatId::new([7; 16]),
                seq: 3,
                ordinal: 1,
                sender: user(1),
                origin: Origin(9),
                n: 2,
                time: 1_790_000_000_000_000,
                event,
            };
            assert_eq!(Entry::decode(&entry.encode()).unwrap(), entry);
        }
    }

    #[test]
    fn an_entry_of_a_kind_that_is_not_known_is_refused_and_never_passed_over() {
        let wire = v1::Entry {
            chat: vec![7; 16].into(),
            seq: 1,
            sender: vec![1; 16].into(),
            schema: SCHEMA,
            ..v1::Entry::default()
        };
        // Field 31, which no event has yet, with an empty message.
        let newer = Bytes::from([&wire.encode_to_vec()[..], &[0xfa, 0x01, 0x00]].concat());
        assert!(matches!(Entry::decode(&newer), Err(Error::Missing("event"))));
        let known = v1::Entry { event: Some(v1::entry::Event::MemberLeft(v1::MemberLeft {})), ..wire };
        let known = Bytes::from([&known.encode_to_vec()[..], &[0xfa, 0x01, 0x00]].concat());
        assert!(Entry::decode(&known).is_ok(), "a further field of a known one is passed over");
    }

    #[test]
    fn a_newer_schema_and_missing_fields_are_refused() {
        let good = v1::Entry {
            chat: vec![7; 16].into(),
            seq: 1,
            sender: vec![1; 16].into(),
            schema: SCHEMA,
            event: Some(v1::entry::Event::MemberLeft(v1::MemberLeft {})),
            ..v1::Entry::default()
        };
        assert!(Entry::from_wire(good.clone()).is_ok());
        for bad in [
            v1::Entry { schema: SCHEMA + 1, ..good.clone() },
            v1::Entry { event: None, ..good.clone() },
            v1::Entry { seq: 0, ..good.clone() },
            v1::Entry { chat: Bytes::new(), ..good.clone() },
            v1::Entry { sender: vec![1; 17].into(), ..good },
        ] {
            assert!(Entry::from_wire(bad).is_err());
        }
    }
}
