//! Tickets: what the first frame brings in the place of a token, good once.

use domain::{Code, Micros};
use metrics::counter;
use store::{Store, TicketRow};
use tokens::{Grant, SignedBy, Ticket};

use crate::clock::since_1970;
use crate::socket::CloseCode;

/// Takes the ticket: what the token grants that it stands for.
///
/// It is gone from the disk before this says so, so that no crash lets it in twice.
pub(crate) async fn take(store: &Store, text: &str) -> Result<Grant, (Code, CloseCode)> {
    let now_us = Micros::try_from(since_1970().as_micros()).unwrap_or(Micros::MAX);
    let taken = match Ticket::parse(text) {
        Some(ticket) => store.take_ticket(ticket.hash(), now_us).await,
        None => Ok(None),
    };
    match taken {
        Ok(Some(TicketRow { user, device, sign_in, issued_s, token_expires_s, expires_us, .. })) => {
            let signed_by = SignedBy::Ticket(expires_us / 1_000_000);
            Ok(Grant { user, device, sign_in, issued_s, expires_s: token_expires_s, signed_by })
        }
        // Used, too old or never there: nobody can tell which, and each asks for a fresh one.
        Ok(None) => {
            counter!("gateway_tickets_refused_total").increment(1);
            Err((Code::Unauthenticated, CloseCode::TokenExpired))
        }
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "a ticket cannot be taken");
            Err((Code::Unavailable, CloseCode::InternalError))
        }
    }
}
