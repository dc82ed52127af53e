//! Where the token of a new connection comes from.

use std::fmt;
use std::sync::Arc;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Gives a token for each connection: always the same, or a new one.
#[derive(Clone)]
pub struct Token(Arc<dyn Fn() -> Result<String, Failure> + Send + Sync>);

impl Token {
    /// A token made anew for each connection. Must be quick: the client's task waits for it.
    ///
    /// Where it fails, the client tries again later, as if nobody could be reached.
    pub fn made_by(make: impl Fn() -> Result<String, Failure> + Send + Sync + 'static) -> Self {
        Self(Arc::new(make))
    }

    pub(crate) fn next(&self) -> Result<String, crate::Error> {
        (self.0)().map_err(|error| crate::Error::Token(error.to_string()))
    }
}

impl From<String> for Token {
    fn from(token: String) -> Self {
        Self::made_by(move || Ok(token.clone()))
    }
}

impl From<&str> for Token {
    fn from(token: &str) -> Self {
        Self::from(token.to_owned())
    }
}

impl fmt::Debug for Token {
    // Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").finish_non_exhaustive()
    }
}
