//! Why a token signs nobody in.

/// Why a token does not sign in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TokenError {
    /// It was good once.
    #[error("the token has expired")]
    Expired,
    /// Not ours, damaged, for something else, or not valid yet.
    #[error("the token is not valid here")]
    Invalid,
    /// Longer than [`VALID_MAX`](crate::VALID_MAX).
    #[error("a token is valid for at most 30 days")]
    TooLong,
    /// The keys of its issuer are not known at the moment, so nobody can tell.
    #[error("the keys of the token's issuer are not known")]
    NoKeys,
    /// The keys that sign tokens cannot be used.
    #[error("the token keys cannot be used")]
    Key,
}
