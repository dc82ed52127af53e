//! The sessions of this gateway: session → socket.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use domain::{SessionId, UserId};
use metrics::{counter, gauge};

use crate::frames::ToClients;
use crate::socket::{Class, CloseCode, Outbound};

/// The sessions of this gateway.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    sessions: RwLock<HashMap<SessionId, (UserId, Outbound)>>,
}

impl Registry {
    pub(crate) fn add(&self, session: SessionId, user: UserId, outbound: Outbound) {
        let mut sessions = self.sessions.write().unwrap_or_else(PoisonError::into_inner);
        sessions.insert(session, (user, outbound));
        gauge!("gateway_sessions").set(sessions.len() as f64);
    }

    pub(crate) fn remove(&self, session: SessionId) {
        let mut sessions = self.sessions.write().unwrap_or_else(PoisonError::into_inner);
        sessions.remove(&session);
        gauge!("gateway_sessions").set(sessions.len() as f64);
    }

    /// Queues one frame for these sessions. One that cannot take it is closed by its own queue, as resumable.
    pub(crate) fn push(&self, to: impl IntoIterator<Item = SessionId>, frame: &ToClients, class: Class) {
        let sessions = self.sessions.read().unwrap_or_else(PoisonError::into_inner);
        for session in to {
            if let Some((_, outbound)) = sessions.get(&session) {
                // Why it was not taken is counted where it was refused.
                let _ = frame.push(outbound, class);
            }
        }
    }

    pub(crate) fn holds(&self, session: SessionId) -> bool {
        self.sessions.read().unwrap_or_else(PoisonError::into_inner).contains_key(&session)
    }

    pub(crate) fn outbound(&self, session: SessionId) -> Option<Outbound> {
        let sessions = self.sessions.read().unwrap_or_else(PoisonError::into_inner);
        sessions.get(&session).map(|(_, outbound)| outbound.clone())
    }

    /// Closes a session that may have missed something, so that its client comes back and catches up.
    pub(crate) fn close(&self, session: SessionId, code: CloseCode) {
        if let Some(outbound) = self.outbound(session) {
            counter!("gateway_sessions_given_up_total").increment(1);
            outbound.close(code);
        }
    }
}
