//! Ids as the client sees them: 16 opaque bytes, but for the partition of a chat that it draws itself.

use std::fmt;

use bytes::Bytes;
use uuid::Uuid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// Reads the id from a wire field; none if it is not 16 bytes.
            pub fn from_wire(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }

            /// The id as a wire field.
            pub fn to_wire(self) -> Bytes {
                Bytes::copy_from_slice(&self.0)
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

        impl std::str::FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                Uuid::parse_str(text).map(|uuid| Self(uuid.into_bytes()))
            }
        }
    };
}

uuid_id!(
    /// A chat: a `UUIDv7` whose 12 `rand_a` bits name its partition.
    ChatId
);
uuid_id!(
    /// A user: any UUID.
    UserId
);

impl ChatId {
    /// Makes the id of a new chat from a clock (ms since 1970) and 64 random bits.
    ///
    /// The partition is `partition` modulo the 4,096 that the id can name.
    pub fn draw(partition: u16, unix_ms: u64, random: u64) -> Self {
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&unix_ms.to_be_bytes()[2..]);
        bytes[6..8].copy_from_slice(&(0x7000 | (partition & 0x0fff)).to_be_bytes());
        bytes[8..].copy_from_slice(&(random >> 2 | 1 << 63).to_be_bytes());
        Self(bytes)
    }

    /// The partition that this chat belongs to.
    pub const fn partition(self) -> u32 {
        u16::from_be_bytes([self.0[6] & 0x0f, self.0[7]]) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawn_chat_id_is_a_uuid_of_version_7_that_names_its_partition() {
        for partition in [0, 1, 255, 256, 4095] {
            let id = ChatId::draw(partition, 1_790_000_000_000, u64::MAX);
            assert_eq!(id.partition(), u32::from(partition));
            assert_eq!(Uuid::from_bytes(id.0).get_version_num(), 7);
            assert_eq!(Uuid::from_bytes(id.0).get_variant(), uuid::Variant::RFC4122);
            assert_eq!(id.to_string().parse::<ChatId>().unwrap(), id);
        }
    }
}
