//! Which path leads where, and the description of it all.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State as Extract};
use axum::http::header::CACHE_CONTROL;
use axum::response::IntoResponse;
use axum::routing::get;
use serde::Serialize;
use tokens::PublicKey;
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::accounts::{blocks, deletion, devices, profile, register, sign_ins, tickets};
use crate::docs_page::Page;
use crate::invites::{join, manage};
use crate::messages::{changes, flight, pins, reactions, receipts, sends};
use crate::problem::{Body, Kind, Problem};
use crate::state::{Shared, State};
use crate::{chat_list, chats, governance, members, messages, policy, settings};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Heliograph",
        version = "1",
        description = "Accounts, chats and history over HTTP. Errors are problems (RFC 9457); ids are strings; times are RFC 3339 in UTC."
    ),
    tags(
        (name = "accounts", description = "who there is, and how one signs in"),
        (name = "chats", description = "where people talk"),
        (name = "messages", description = "what is said")
    ),
    components(schemas(Body)),
    modifiers(&Bearer)
)]
struct Description;

/// What is the same for everybody and changes with the server alone.
pub(crate) const PUBLIC: &str = "public, max-age=60";

/// How callers prove who they are.
struct Bearer;

impl utoipa::Modify for Bearer {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
        let components = openapi.components.get_or_insert_with(Default::default);
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    }
}

fn routes() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(register::register))
        .routes(routes!(sign_ins::sign_in, sign_ins::sign_out_everywhere))
        .routes(routes!(sign_ins::refresh))
        .routes(routes!(sign_ins::sign_out))
        .routes(routes!(tickets::mint))
        .routes(routes!(devices::list))
        .routes(routes!(devices::name, devices::remove))
        .routes(routes!(blocks::list))
        .routes(routes!(blocks::put, blocks::remove))
        .routes(routes!(profile::me, profile::change, deletion::delete))
        .routes(routes!(profile::change_password))
        .routes(routes!(profile::users))
        .routes(routes!(profile::user))
        .routes(routes!(chats::create, chat_list::list))
        .routes(routes!(chats::get, governance::rename))
        .routes(routes!(governance::transfer))
        .routes(routes!(policy::change))
        .routes(routes!(settings::change))
        .routes(routes!(manage::create, manage::list))
        .routes(routes!(manage::revoke))
        .routes(routes!(join::look, join::join))
        .routes(routes!(members::add))
        .routes(routes!(members::remove, governance::set_role))
        .routes(routes!(messages::send, messages::read))
        .routes(routes!(changes::edit, changes::delete))
        .routes(routes!(reactions::put, reactions::remove))
        .routes(routes!(reactions::who))
        .routes(routes!(reactions::counts))
        .routes(routes!(pins::list))
        .routes(routes!(pins::put, pins::remove))
        .routes(routes!(receipts::receipts))
        .routes(routes!(flight::flight))
        .routes(routes!(sends::status))
}

/// The description of the API: `OpenAPI` 3.1 as JSON.
///
/// # Errors
/// None that a type of ours gives rise to.
pub fn openapi() -> Result<String, serde_json::Error> {
    let (_, description) = routes().split_for_parts();
    Ok(description.to_pretty_json()? + "\n")
}

/// Everything that there is.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    let (router, description) = routes().split_for_parts();
    let description = serde_json::to_value(&description).unwrap_or_default();
    let page = Page::of(&description);
    let description = ([(CACHE_CONTROL, PUBLIC)], axum::Json(description));
    router
        .route("/v1/openapi.json", get(move || std::future::ready(description.clone())))
        .route("/docs", get(move || std::future::ready(page.clone())))
        .route("/.well-known/jwks.json", get(jwks))
        .fallback(async || Problem::from(Kind::NotFound))
        .method_not_allowed_fallback(async || Problem::from(Kind::MethodNotAllowed))
        .layer(DefaultBodyLimit::max(shared.config.body_bytes_max))
        .with_state(shared)
}

/// A JWK set (RFC 7517 §5).
#[derive(Serialize)]
struct Jwks {
    keys: Vec<PublicKey>,
}

async fn jwks(Extract(shared): State) -> impl IntoResponse {
    ([(CACHE_CONTROL, PUBLIC)], axum::Json(Jwks { keys: shared.keys.public() }))
}
