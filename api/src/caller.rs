//! Who makes a request: the user of its bearer token.

use std::sync::Arc;

use audit::Event;
use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use domain::UserId;
use tokens::{Grant, TokenError};

use crate::edge::Origin;
use crate::problem::{Kind, Problem};
use crate::state::Shared;

/// Who makes a request.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) user: UserId,
    pub(crate) grant: Grant,
}

impl Caller {
    /// An event with who did it.
    pub(crate) fn did(&self, event: Event) -> Event {
        Event { user: Some(self.user.to_string()), ..event }
    }
}

impl FromRequestParts<Arc<Shared>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Problem> {
        let header = parts.headers.get(AUTHORIZATION).ok_or(Kind::Unauthenticated)?;
        let (scheme, token) =
            header.to_str().ok().and_then(|text| text.split_once(' ')).ok_or(Kind::Unauthenticated)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Kind::Unauthenticated.into());
        }
        let checked = shared.issuers.check(&shared.keys, token.trim()).await;
        let grant = checked.map_err(|fault| match fault {
            TokenError::NoKeys => Kind::Unavailable,
            TokenError::Expired | TokenError::Invalid | TokenError::TooLong | TokenError::Key => Kind::Unauthenticated,
        })?;
        if shared.revocations.cover(&grant) {
            return Err(Kind::Unauthenticated.into());
        }
        let origin = Origin::from_request_parts(parts, shared).await?;
        shared.allowances.of_user(&origin, grant.user)?;
        Ok(Self { user: grant.user, grant })
    }
}
