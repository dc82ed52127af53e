//! What can be wrong with bytes that claim to be one of our types.

/// A value that does not hold what its type says.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An id of another length than 16 bytes.
    #[error("an id of {bytes} bytes instead of 16")]
    IdLength {
        /// How many there were.
        bytes: usize,
    },
    /// An id that is no UUID in text.
    #[error("an id that is no uuid")]
    IdText(#[source] uuid::Error),
    /// Bytes that are no such message.
    #[error("undecodable bytes")]
    Decode(#[source] prost::DecodeError),
    /// Written by a newer version.
    #[error("schema version {found} is newer than this build")]
    Schema {
        /// The version found.
        found: u32,
    },
    /// A field without which the message means nothing.
    #[error("field {0} is missing")]
    Missing(&'static str),
    /// An enum's value that this version does not know.
    #[error("field {field} holds {value}")]
    Value {
        /// Its name.
        field: &'static str,
        /// What it holds.
        value: i32,
    },
    /// A snapshot's ring of recent outcomes that does not parse.
    #[error("a malformed ring of outcomes")]
    Ring,
}
