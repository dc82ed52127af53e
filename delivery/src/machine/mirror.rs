//! The sessions of every gateway, mirrored from versioned snapshots and deltas.
//!
//! A gap in the versions is answered by a request for a snapshot; until it comes the gateway's sessions stay as they
//! were and nothing of it is acknowledged (M17). What was lost, repeated or reordered on the way thus changes nothing
//! in the end. One mirror serves all partitions of a worker.

use std::collections::{BTreeMap, BTreeSet};

use domain::{GatewayId, Micros, SessionId, UserId};
use proto::relay::Announcement;

/// Most gateways of one deployment that a worker mirrors; one more is refused and counted.
const GATEWAYS_MAX: usize = 1_024;
/// Most sessions of one gateway: more than the sockets that one process serves here, about 10 MB.
const SESSIONS_PER_GATEWAY_MAX: usize = 100_000;
/// A request for a snapshot is repeated after this long.
const ASK_AGAIN_US: Micros = 1_000_000;
/// A gateway that said nothing for this long is asked whether it lives.
const SILENT_US: Micros = 30_000_000;
/// A gateway that said nothing for this long is forgotten; if it lives it misses `through` and announces again.
const FORGET_US: Micros = 90_000_000;

/// What the mirror is told.
#[derive(Debug)]
pub enum Input {
    /// A gateway announced its sessions.
    Announced(Announcement),
    /// Announcements may have been missed: at the start, and after a lost subscription.
    Missed,
    /// About once a second.
    Tick,
}

/// What the mirror wants done.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask one gateway, or all, for a snapshot.
    Ask(Option<GatewayId>),
    /// The mirror holds this version: each partition acknowledges it to the gateway.
    Held {
        /// Who announced.
        gateway: GatewayId,
        /// What it announced.
        version: u64,
    },
    /// The gateway's sessions are gone; each partition marks a gap in its batch numbers.
    Forgotten(GatewayId),
    /// An announcement that could not be taken: undecodable, or above a bound.
    Refused,
}

#[derive(Debug, Default)]
struct Gateway {
    version: u64,
    // False until a snapshot came and while a version is missing.
    whole: bool,
    sessions: BTreeMap<SessionId, UserId>,
    heard_at: Micros,
    asked_at: Option<Micros>,
    // Parts of a snapshot that has not come whole yet.
    gathered: Option<Gathered>,
}

#[derive(Debug)]
struct Gathered {
    version: u64,
    parts: u32,
    up: Vec<(SessionId, UserId)>,
}

/// Which sessions each user has, over all gateways.
#[derive(Debug, Default)]
pub struct Mirror {
    gateways: BTreeMap<GatewayId, Gateway>,
    by_user: ByUser,
}

// Sets: a user may have many sockets, and all of them may go at once.
type ByUser = BTreeMap<UserId, BTreeSet<(GatewayId, SessionId)>>;

impl Mirror {
    /// An empty mirror; feed it [`Input::Missed`] first, so that all gateways are asked.
    pub fn new() -> Self {
        Self::default()
    }

    /// The sessions of a user, by gateway.
    pub fn sessions_of(&self, user: UserId) -> impl Iterator<Item = (GatewayId, SessionId)> + '_ {
        self.by_user.get(&user).into_iter().flatten().copied()
    }

    /// All gateways that are mirrored.
    pub fn gateways(&self) -> impl Iterator<Item = GatewayId> + '_ {
        self.gateways.keys().copied()
    }

    /// How many sessions are mirrored.
    pub fn session_count(&self) -> usize {
        self.gateways.values().map(|gateway| gateway.sessions.len()).sum()
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Micros, input: Input, actions: &mut Vec<Action>) {
        match input {
            Input::Announced(announcement) => self.announced(now, &announcement, actions),
            Input::Missed => {
                for gateway in self.gateways.values_mut() {
                    gateway.asked_at = Some(now);
                }
                actions.push(Action::Ask(None));
            }
            Input::Tick => self.tick(now, actions),
        }
    }

    fn announced(&mut self, now: Micros, announcement: &Announcement, actions: &mut Vec<Action>) {
        let id = GatewayId(announcement.gateway);
        if announcement.leaving {
            self.forget(id, actions);
            return;
        }
        let Some(up) = sessions_up(announcement) else {
            actions.push(Action::Refused);
            return;
        };
        if !self.gateways.contains_key(&id) && self.gateways.len() >= GATEWAYS_MAX {
            actions.push(Action::Refused);
            return;
        }
        let gateway = self.gateways.entry(id).or_default();
        gateway.heard_at = now;
        let version = announcement.version;
        let follows = gateway.whole && version == gateway.version + 1;
        if announcement.snapshot {
            // An older one was overtaken on the way: what is held is newer.
            if gateway.whole && version < gateway.version {
                return;
            }
            let up = match gateway.gather(announcement, up) {
                Ok(Some(up)) => up,
                Ok(None) => return,
                Err(PartMissing) => {
                    gateway.whole = false;
                    ask(now, id, gateway, actions);
                    return;
                }
            };
            if up.len() > SESSIONS_PER_GATEWAY_MAX {
                actions.push(Action::Refused);
                return;
            }
            let wanted: BTreeMap<SessionId, UserId> = up.into_iter().collect();
            let gone: Vec<SessionId> =
                gateway.sessions.keys().filter(|session| !wanted.contains_key(session)).copied().collect();
            for session in gone {
                take_down(&mut gateway.sessions, &mut self.by_user, id, session);
            }
            for (session, user) in wanted {
                put_up(&mut gateway.sessions, &mut self.by_user, id, session, user);
            }
            gateway.version = version;
            gateway.whole = true;
            gateway.asked_at = None;
        } else if follows {
            if gateway.sessions.len() + up.len() > SESSIONS_PER_GATEWAY_MAX {
                // Not acknowledged, so no session of it becomes ready; the gateway sees the missing ack.
                gateway.whole = false;
                actions.push(Action::Refused);
                return;
            }
            for session in &announcement.down {
                take_down(&mut gateway.sessions, &mut self.by_user, id, SessionId(*session));
            }
            for (session, user) in up {
                put_up(&mut gateway.sessions, &mut self.by_user, id, session, user);
            }
            gateway.version = version;
        } else if gateway.whole && version <= gateway.version {
            // Repeated or late. Acknowledged again: its gateway may have missed the ack.
        } else {
            gateway.whole = false;
            ask(now, id, gateway, actions);
            return;
        }
        actions.push(Action::Held { gateway: id, version: gateway.version });
    }

    fn tick(&mut self, now: Micros, actions: &mut Vec<Action>) {
        let dead: Vec<GatewayId> = self
            .gateways
            .iter()
            .filter(|(_, gateway)| now.saturating_sub(gateway.heard_at) >= FORGET_US)
            .map(|(id, _)| *id)
            .collect();
        for id in dead {
            self.forget(id, actions);
        }
        for (id, gateway) in &mut self.gateways {
            if !gateway.whole || now.saturating_sub(gateway.heard_at) >= SILENT_US {
                ask(now, *id, gateway, actions);
            }
        }
    }

    fn forget(&mut self, id: GatewayId, actions: &mut Vec<Action>) {
        let Some(gateway) = self.gateways.remove(&id) else { return };
        let users: BTreeSet<UserId> = gateway.sessions.into_values().collect();
        for user in users {
            if let Some(sessions) = self.by_user.get_mut(&user) {
                sessions.retain(|(gateway, _)| *gateway != id);
                if sessions.is_empty() {
                    self.by_user.remove(&user);
                }
            }
        }
        actions.push(Action::Forgotten(id));
    }
}

struct PartMissing;

impl Gateway {
    /// The snapshot once its last part is there.
    fn gather(
        &mut self,
        announcement: &Announcement,
        up: Vec<(SessionId, UserId)>,
    ) -> Result<Option<Vec<(SessionId, UserId)>>, PartMissing> {
        let gathered = self.gathered.take();
        if announcement.parts <= 1 {
            return Ok(Some(up));
        }
        let mut gathered = match gathered {
            _ if announcement.part == 1 => Gathered { version: announcement.version, parts: 0, up: Vec::new() },
            Some(gathered) if gathered.version == announcement.version && gathered.parts + 1 == announcement.part => {
                gathered
            }
            _ => return Err(PartMissing),
        };
        gathered.parts += 1;
        gathered.up.extend(up);
        if gathered.parts == announcement.parts {
            return Ok(Some(gathered.up));
        }
        if gathered.up.len() <= SESSIONS_PER_GATEWAY_MAX {
            self.gathered = Some(gathered);
        }
        Ok(None)
    }
}

fn ask(now: Micros, id: GatewayId, gateway: &mut Gateway, actions: &mut Vec<Action>) {
    if gateway.asked_at.is_none_or(|at| now.saturating_sub(at) >= ASK_AGAIN_US) {
        gateway.asked_at = Some(now);
        actions.push(Action::Ask(Some(id)));
    }
}

fn sessions_up(announcement: &Announcement) -> Option<Vec<(SessionId, UserId)>> {
    let session = |up: &proto::relay::SessionUp| {
        UserId::try_from(up.user.as_ref()).ok().map(|user| (SessionId(up.session), user))
    };
    announcement.up.iter().map(session).collect()
}

fn put_up(
    sessions: &mut BTreeMap<SessionId, UserId>,
    by_user: &mut ByUser,
    gateway: GatewayId,
    session: SessionId,
    user: UserId,
) {
    if sessions.get(&session) == Some(&user) {
        return;
    }
    take_down(sessions, by_user, gateway, session);
    sessions.insert(session, user);
    by_user.entry(user).or_default().insert((gateway, session));
}

fn take_down(sessions: &mut BTreeMap<SessionId, UserId>, by_user: &mut ByUser, gateway: GatewayId, session: SessionId) {
    let Some(user) = sessions.remove(&session) else { return };
    if let Some(held) = by_user.get_mut(&user) {
        held.remove(&(gateway, session));
        if held.is_empty() {
            by_user.remove(&user);
        }
    }
}

#[cfg(test)]
mod tests;
