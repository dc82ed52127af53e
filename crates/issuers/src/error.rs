//! What stands in the way of taking tokens of other issuers.

/// What stands in the way of taking tokens of other issuers.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is not what it has to be.
    #[error("the list of issuers cannot be read")]
    Toml(#[source] Box<toml::de::Error>),
    /// There is none in the file, or more than [`ISSUERS_MAX`](crate::ISSUERS_MAX).
    #[error("the list must have 1 to 16 issuers")]
    Count,
    /// One of them cannot work.
    #[error("issuer `{issuer}`: {reason}")]
    Issuer {
        /// As it names itself.
        issuer: String,
        /// What cannot work.
        reason: &'static str,
    },
    /// TLS cannot be used.
    #[error("TLS cannot be used to fetch keys")]
    Tls(#[source] rustls::Error),
    /// This machine trusts no authority, so nobody could show whom it is.
    #[error("this machine has no authorities that vouch for an issuer's server")]
    NoAuthorities,
}
