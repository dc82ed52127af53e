//! Tickets: what opens a socket once, for who cannot send a token with it (X2).

use axum::extract::State as Extract;
use axum::http::StatusCode;
use metrics::counter;
use serde::Serialize;
use store::TicketRow;
use tokens::Ticket;
use utoipa::ToSchema;

use crate::caller::Caller;
use crate::problem::{Kind, Problem};
use crate::refusals::OfCaller;
use crate::state::{State, now_us};
use crate::wire;

/// What opens one socket.
#[derive(Serialize, ToSchema)]
pub(crate) struct Minted {
    /// For `authenticate`, in the place of a token.
    ticket: String,
    /// When it is worth nothing any more, RFC 3339.
    expires_at: String,
}

/// A ticket for one socket, in the place of the caller's token.
#[utoipa::path(
    post, path = "/v1/tickets", tag = "accounts", security(("bearer" = [])),
    responses(
        (status = 201, description = "good once, for at most 30 s", body = Minted),
        OfCaller
    )
)]
pub(crate) async fn mint(Extract(shared): State, caller: Caller) -> Result<(StatusCode, axum::Json<Minted>), Problem> {
    let (ticket, now_us) = (Ticket::draw(), now_us());
    let grant = caller.grant;
    // Never longer than the token that it stands for.
    let expires_us = (now_us + shared.config.ticket_s * 1_000_000).min(grant.expires_s * 1_000_000);
    if expires_us <= now_us {
        return Err(Kind::Unauthenticated.into());
    }
    let row = TicketRow {
        hash: ticket.hash(),
        user: grant.user,
        device: grant.device,
        sign_in: grant.sign_in,
        issued_s: grant.issued_s,
        token_expires_s: grant.expires_s,
        expires_us,
    };
    shared.store.put_ticket(row).await?;
    counter!("api_tickets_minted_total").increment(1);
    let minted = Minted { ticket: ticket.text(), expires_at: wire::time(expires_us) };
    Ok((StatusCode::CREATED, axum::Json(minted)))
}
