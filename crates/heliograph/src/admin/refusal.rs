//! Why an operator's request is not carried out, in words.

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use metrics::counter;
use serde::{Deserialize, Serialize};

/// Why an operator's request is not carried out.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// The request makes no sense.
    #[error("{0}")]
    Bad(String),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// What is there does not allow it.
    #[error("{0}")]
    Conflict(String),
    /// Something that is needed is away: the same again later.
    #[error("{0}")]
    Unavailable(String),
    /// A fault of the server.
    #[error("{0}")]
    Fault(String),
}

/// What stands in the answer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Said {
    pub(crate) error: String,
}

impl Refusal {
    const fn status(&self) -> StatusCode {
        match self {
            Self::Bad(_) => StatusCode::BAD_REQUEST,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Fault(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Whether what was begun may be done.
    pub(super) const fn is_broken_off(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Fault(_))
    }

    /// As it stands in metrics and in the log of actions.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Bad(_) => "bad",
            Self::NotFound(_) => "not_found",
            Self::Conflict(_) => "conflict",
            Self::Unavailable(_) => "unavailable",
            Self::Fault(_) => "fault",
        }
    }
}

impl From<store::Error> for Refusal {
    fn from(error: store::Error) -> Self {
        if matches!(error, store::Error::Length { .. }) {
            return Self::Bad(error.to_string());
        }
        tracing::info!(error = &error as &dyn std::error::Error, "the store refused an operator's request");
        let text = format!("the store: {error}");
        if error.is_retryable() { Self::Unavailable(text) } else { Self::Fault(text) }
    }
}

impl From<projections::Error> for Refusal {
    fn from(error: projections::Error) -> Self {
        if let projections::Error::Store(error) = error {
            return error.into();
        }
        tracing::error!(error = &error as &dyn std::error::Error, "a chat's models cannot be folded");
        Self::Fault(error.to_string())
    }
}

impl From<event_log::Error> for Refusal {
    fn from(error: event_log::Error) -> Self {
        Self::Unavailable(format!("the log: {error}"))
    }
}

impl From<event_log::PublishError> for Refusal {
    fn from(error: event_log::PublishError) -> Self {
        Self::Unavailable(format!("the revocation is perhaps not stored ({error}): ask again"))
    }
}

impl From<api::EndError> for Refusal {
    fn from(error: api::EndError) -> Self {
        match error {
            api::EndError::Store(error) => error.into(),
            api::EndError::Revocation(error) => error.into(),
        }
    }
}

impl From<JsonRejection> for Refusal {
    fn from(rejection: JsonRejection) -> Self {
        Self::Bad(rejection.body_text())
    }
}

impl From<QueryRejection> for Refusal {
    fn from(rejection: QueryRejection) -> Self {
        Self::Bad(rejection.body_text())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        counter!("admin_requests_refused_total", "reason" => self.name()).increment(1);
        (self.status(), Json(Said { error: self.to_string() })).into_response()
    }
}
