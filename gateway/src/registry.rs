//! The sessions of this gateway: session → socket, and what its token grants.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use domain::SessionId;
use metrics::{counter, gauge};

use crate::frames::ToClients;
use crate::socket::{Class, CloseCode, Outbound};
use crate::token::Grant;

/// The sessions of this gateway.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    sessions: RwLock<HashMap<SessionId, (Grant, Outbound)>>,
}

impl Registry {
    pub(crate) fn add(&self, session: SessionId, grant: Grant, outbound: Outbound) {
        let mut sessions = self.sessions.write().unwrap_or_else(PoisonError::into_inner);
        sessions.insert(session, (grant, outbound));
        gauge!("gateway_sessions").set(sessions.len() as f64);
    }

    /// Whether the session is on this device, as far as its token and this name say.
    pub(crate) fn is_on_device(&self, session: SessionId, device: &str) -> bool {
        let sessions = self.sessions.read().unwrap_or_else(PoisonError::into_inner);
        let own = sessions.get(&session).map_or("", |(grant, _)| &*grant.device);
        own.is_empty() || own == device
    }

    /// The session goes on with another token.
    pub(crate) fn renew(&self, session: SessionId, grant: Grant) {
        let mut sessions = self.sessions.write().unwrap_or_else(PoisonError::into_inner);
        if let Some((held, _)) = sessions.get_mut(&session) {
            *held = grant;
        }
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

    /// Closes the sessions whose token is one of those; how many they are.
    pub(crate) fn close_those(&self, covered: impl Fn(&Grant) -> bool, code: CloseCode) -> usize {
        let sessions = self.sessions.read().unwrap_or_else(PoisonError::into_inner);
        let covered = sessions.values().filter(|(grant, _)| covered(grant));
        let covered: Vec<Outbound> = covered.map(|(_, outbound)| outbound.clone()).collect();
        drop(sessions);
        covered.iter().for_each(|outbound| outbound.close(code));
        covered.len()
    }

    /// Closes a session that may have missed something, so that its client comes back and catches up.
    pub(crate) fn close(&self, session: SessionId, code: CloseCode) {
        if let Some(outbound) = self.outbound(session) {
            counter!("gateway_sessions_given_up_total").increment(1);
            outbound.close(code);
        }
    }
}
