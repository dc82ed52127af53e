//! Identities as newtypes, so that no two kinds can be mixed up.
//!
//! Ids are 16 bytes or 64 bits; text forms are those of `uuid` and of lower-case hexadecimal.

use std::fmt;

use uuid::Uuid;

use crate::Error;

/// Dense per-chat number of an entry: 1, 2, 3 … 0 stands for "before the first".
pub type Seq = u64;
/// How many messages a chat had up to a seq.
pub type Ordinal = u64;
/// µs since 1970 UTC.
pub type Micros = u64;

/// How many partitions a chat id can name: the 12 `rand_a` bits of a `UUIDv7`.
pub const PARTITIONS_MAX: u16 = 1 << 12;

/// Unit of order and of ownership in the log; each chat belongs to one for ever.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Partition(pub u16);

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// The id of these 16 bytes.
            pub const fn new(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The 16 bytes that go on the wire and into keys.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }

            /// The bytes as a wire field.
            pub fn to_wire(self) -> bytes::Bytes {
                bytes::Bytes::copy_from_slice(&self.0)
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = Error;

            fn try_from(bytes: &[u8]) -> Result<Self, Error> {
                bytes.try_into().map(Self).map_err(|_fault| Error::IdLength { bytes: bytes.len() })
            }
        }

        impl std::str::FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                Uuid::parse_str(text).map(|uuid| Self(uuid.into_bytes())).map_err(Error::IdText)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                Uuid::from_bytes(self.0).fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

uuid_id!(
    /// A chat: a `UUIDv7` (RFC 9562) whose 12 `rand_a` bits are its partition. Opaque to clients.
    ChatId
);
uuid_id!(
    /// A user: any UUID.
    UserId
);
uuid_id!(
    /// One import of old history: the beginning of the SHA-256 of what is imported.
    ImportId
);

impl ChatId {
    /// Makes the id of a new chat in `partition` from a clock (ms since 1970) and 64 random bits.
    ///
    /// # Panics
    /// If `partition` is not below [`PARTITIONS_MAX`]: the caller takes it from a checked configuration.
    pub fn draw(partition: Partition, unix_ms: u64, random: u64) -> Self {
        assert!(partition.0 < PARTITIONS_MAX, "a partition fits 12 bits");
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&unix_ms.to_be_bytes()[2..]);
        bytes[6..8].copy_from_slice(&(0x7000 | partition.0).to_be_bytes());
        bytes[8..].copy_from_slice(&(random >> 2 | 1 << 63).to_be_bytes());
        Self(bytes)
    }

    /// The partition that this chat belongs to.
    pub const fn partition(self) -> Partition {
        Partition(u16::from_be_bytes([self.0[6] & 0x0f, self.0[7]]))
    }

    /// Whether version and variant are those of a `UUIDv7`.
    pub const fn is_well_formed(self) -> bool {
        self.0[6] >> 4 == 7 && self.0[8] >> 6 == 0b10
    }
}

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:016x}", self.0)
            }
        }
    };
}

number_id!(
    /// One outbox of one sender: 64 random bits, kept with it.
    Origin
);
number_id!(
    /// One signed-in socket of one gateway.
    SessionId
);
number_id!(
    /// One gateway process, drawn at its start.
    GatewayId
);
number_id!(
    /// One tenure of an ingest owner as a writer of events: drawn anew at each takeover.
    WriterId
);
number_id!(
    /// One acquisition of a partition by a role: the revision of the put that took it. Later ones are higher.
    TenureId
);
number_id!(
    /// Identity of a partition's streams: µs since 1970 at which they were opened. Later ones are higher.
    Epoch
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawn_chat_id_names_its_partition() {
        for partition in [0, 1, 7, 0x0ff, 0x100, PARTITIONS_MAX - 1] {
            for random in [0, 1, u64::MAX, 0x5555_5555_5555_5555] {
                let id = ChatId::draw(Partition(partition), 1_790_000_000_000, random);
                assert_eq!(id.partition(), Partition(partition));
                assert!(id.is_well_formed());
                assert_eq!(Uuid::from_bytes(*id.as_bytes()).get_version_num(), 7);
                assert_eq!(id.to_string().parse::<ChatId>().unwrap(), id);
            }
        }
    }

    #[test]
    fn an_id_of_another_length_is_refused() {
        assert!(UserId::try_from(&[0u8; 15][..]).is_err());
        assert!(UserId::try_from(&[0u8; 16][..]).is_ok());
    }
}
