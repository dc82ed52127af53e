//! What the delivery owners know of this gateway's sessions, and what they sent it.
//!
//! A session is ready in a partition once that partition's owner acknowledged an announcement with it (M17). Another
//! owner, a gap in the batch numbers, a lost subscription or an owner that falls silent make a partition unready until
//! its owner acknowledged anew (M15, M16, M19).

use std::collections::{BTreeMap, BTreeSet};

use domain::{Epoch, GatewayId, Micros, Partition, Rules, Seq, SessionId, TenureId, UserId};
use proto::relay::{Announcement, AnnouncementAck, SessionUp};

/// An announcement that a partition did not acknowledge for this long is made again.
const ANNOUNCE_AGAIN_US: Micros = 1_000_000;
/// An owner speaks once a second at least; one that has not for this long may not know this gateway any more.
const SILENT_US: Micros = 4_000_000;
/// Sessions of one part of a snapshot: with their user ids well below what one message takes.
const SESSIONS_PER_PART: usize = 8_192;

/// What the tracker is told.
#[derive(Debug)]
pub enum TrackerInput {
    /// A session signed in.
    Up(SessionId, UserId),
    /// A session ended.
    Down(SessionId),
    /// All that waited was told: announce it.
    Go,
    /// A delivery owner lost track of us.
    Asked,
    /// An owner holds a version.
    Acknowledged(AnnouncementAck),
    /// An owner says how many batches it sent.
    Through {
        /// Of which partition.
        partition: Partition,
        /// By which owner.
        owner: TenureId,
        /// The number of the last one.
        last_batch: u64,
    },
    /// Pushes may have been missed.
    Lagged,
    /// Some time went by.
    Tick,
}

/// What the shell must do.
#[derive(Debug, PartialEq)]
pub enum TrackerAction {
    /// Tell every delivery owner.
    Announce(Announcement),
    /// Tell these sessions that the partition is ready, then send them their heads.
    Ready {
        /// Which.
        partition: Partition,
        /// Of which streams.
        epoch: Epoch,
        /// Events above this are pushed.
        as_of: Seq,
        /// Whom to tell.
        sessions: Vec<(SessionId, UserId)>,
    },
    /// Pushes of this partition were missed; its sessions will be told anew. For counting.
    Resync(Partition),
}

#[derive(Debug, Default)]
struct Lane {
    owner: Option<TenureId>,
    /// The number that the owner's next batch must have.
    next: u64,
    /// Sessions announced at or below this version are ready.
    ready_through: u64,
    /// While unready after a loss: only an ack of this version or a later one, made after the loss, counts.
    unready: bool,
    waits_since: Option<Micros>,
    /// When the owner last spoke to us.
    heard_at: Micros,
    /// Epoch and `as_of` of the last ack.
    stands: Option<(Epoch, Seq)>,
}

impl Lane {
    /// Pushes were missed while this was the last version.
    fn lost(&mut self, now: Micros, version: u64) {
        self.unready = true;
        self.ready_through = version;
        self.waits_since = Some(now);
    }
}

/// All sessions of one gateway.
#[derive(Debug)]
pub struct Tracker {
    gateway: GatewayId,
    rules: Rules,
    version: u64,
    sessions: BTreeMap<SessionId, (UserId, u64)>,
    by_version: BTreeSet<(u64, SessionId)>,
    up: Vec<SessionId>,
    down: Vec<SessionId>,
    lanes: BTreeMap<Partition, Lane>,
    again_at: Micros,
}

impl Tracker {
    /// No sessions; each partition waits for its owner.
    pub fn new(gateway: GatewayId, partitions: impl IntoIterator<Item = Partition>, rules: Rules) -> Self {
        let lanes = partitions.into_iter().map(|partition| (partition, Lane { next: 1, ..Lane::default() })).collect();
        Self {
            gateway,
            rules,
            version: 1,
            sessions: BTreeMap::new(),
            by_version: BTreeSet::new(),
            up: Vec::new(),
            down: Vec::new(),
            lanes,
            again_at: 0,
        }
    }

    /// Takes in what happened and says what to do.
    pub fn handle(&mut self, now: Micros, input: TrackerInput, actions: &mut Vec<TrackerAction>) {
        match input {
            TrackerInput::Up(session, user) => {
                let version = self.version + 1;
                self.sessions.insert(session, (user, version));
                self.by_version.insert((version, session));
                self.up.push(session);
                // M17: else it is told that it is ready while its owner may not know it yet.
                if !self.rules.m17 {
                    self.ready_at_once(session, user, actions);
                }
            }
            TrackerInput::Down(session) => {
                if let Some((_, version)) = self.sessions.remove(&session) {
                    self.by_version.remove(&(version, session));
                    self.down.push(session);
                }
            }
            TrackerInput::Go => self.announce_changes(now, actions),
            TrackerInput::Asked => self.announce_all(now, actions),
            TrackerInput::Acknowledged(ack) => self.acknowledged(now, &ack, actions),
            TrackerInput::Through { partition, owner, last_batch } => {
                // M16: without the number the loss of the last batch goes unseen.
                if self.follows(now, partition, owner, actions) && self.rules.m16 {
                    let missed = self.lanes.get(&partition).is_some_and(|lane| last_batch + 1 > lane.next);
                    if missed {
                        self.resync(now, partition, last_batch + 1, actions);
                    }
                }
            }
            TrackerInput::Lagged => self.resync_all(now, |_| true, actions),
            TrackerInput::Tick => self.tick(now, actions),
        }
    }

    /// A batch of pushes came; whether its pushes go to the sessions.
    pub fn batch(
        &mut self,
        now: Micros,
        partition: Partition,
        owner: TenureId,
        number: u64,
        actions: &mut Vec<TrackerAction>,
    ) -> bool {
        if !self.follows(now, partition, owner, actions) {
            return false;
        }
        let Some(lane) = self.lanes.get_mut(&partition) else { return false };
        if number < lane.next {
            return false;
        }
        let gap = number > lane.next;
        lane.next = number + 1;
        if gap {
            self.resync(now, partition, number + 1, actions);
        }
        true
    }

    /// Whether what this owner says counts; a new owner makes the partition unready (M15).
    fn follows(
        &mut self,
        now: Micros,
        partition: Partition,
        owner: TenureId,
        actions: &mut Vec<TrackerAction>,
    ) -> bool {
        let Some(lane) = self.lanes.get_mut(&partition) else { return false };
        match lane.owner {
            Some(known) if known == owner => {
                lane.heard_at = now;
                true
            }
            // Revisions grow: this one was replaced.
            Some(known) if owner < known && self.rules.m15 => false,
            Some(_) if !self.rules.m15 => true,
            None | Some(_) => {
                lane.owner = Some(owner);
                lane.heard_at = now;
                lane.next = 1;
                self.resync(now, partition, 1, actions);
                true
            }
        }
    }

    fn resync(&mut self, now: Micros, partition: Partition, next: u64, actions: &mut Vec<TrackerAction>) {
        let Some(lane) = self.lanes.get_mut(&partition) else { return };
        lane.next = lane.next.max(next);
        // M19: ready again only on an ack that answers an announcement made from now on.
        if self.rules.m19 && !lane.unready {
            lane.lost(now, self.version);
            actions.push(TrackerAction::Resync(partition));
            self.version += 1;
            actions.push(TrackerAction::Announce(self.changes()));
        }
    }

    /// As [`Tracker::resync`], for these partitions with one announcement.
    fn resync_all(&mut self, now: Micros, missed: impl Fn(&Lane) -> bool, actions: &mut Vec<TrackerAction>) {
        if !self.rules.m19 || !self.lanes.values().any(&missed) {
            return;
        }
        // A partition that waits already waits for the newer version: the ack it waits for may be among what was lost.
        for (partition, lane) in self.lanes.iter_mut().filter(|(_, lane)| missed(lane)) {
            if !lane.unready {
                actions.push(TrackerAction::Resync(*partition));
            }
            lane.lost(now, self.version);
        }
        self.version += 1;
        actions.push(TrackerAction::Announce(self.changes()));
    }

    fn acknowledged(&mut self, now: Micros, ack: &AnnouncementAck, actions: &mut Vec<TrackerAction>) {
        let Some(partition) = u16::try_from(ack.partition).ok().map(Partition) else { return };
        let owner = TenureId(ack.owner);
        let Some(lane) = self.lanes.get_mut(&partition) else { return };
        let known = lane.owner;
        if known.is_some_and(|known| owner < known) && self.rules.m15 {
            return;
        }
        if known.is_none() || (known != Some(owner) && self.rules.m15) {
            // M15: a new owner's ack says where it stands, so it is the resync itself.
            lane.owner = Some(owner);
            lane.next = ack.last_batch + 1;
            lane.unready = true;
            lane.ready_through = 0;
        } else if lane.unready && ack.version > lane.ready_through {
            // What was missed up to this ack lies at or below its `as_of`, and so in the heads. Lower numbers than ours
            // come from an owner that had forgotten us and counts anew.
            lane.next = ack.last_batch + 1;
        } else if ack.last_batch + 1 > lane.next {
            self.resync(now, partition, ack.last_batch + 1, actions);
            return;
        }
        let Some(lane) = self.lanes.get_mut(&partition) else { return };
        lane.heard_at = now;
        if ack.version <= lane.ready_through {
            return;
        }
        let from = match lane.unready {
            true => 0,
            false if self.rules.m17 => lane.ready_through,
            // They were told at once.
            false => ack.version,
        };
        lane.stands = Some((Epoch(ack.epoch), ack.as_of));
        lane.unready = false;
        lane.ready_through = ack.version;
        lane.waits_since = (ack.version < self.version).then_some(now);
        let sessions: Vec<_> = self
            .by_version
            .range((from + 1, SessionId(0))..)
            .take_while(|(version, _)| *version <= ack.version)
            .filter_map(|(_, session)| Some((*session, self.sessions.get(session)?.0)))
            .collect();
        if !sessions.is_empty() {
            actions.push(TrackerAction::Ready { partition, epoch: Epoch(ack.epoch), as_of: ack.as_of, sessions });
        }
    }

    fn ready_at_once(&self, session: SessionId, user: UserId, actions: &mut Vec<TrackerAction>) {
        for (partition, lane) in self.lanes.iter().filter(|(_, lane)| !lane.unready) {
            if let Some((epoch, as_of)) = lane.stands {
                let sessions = vec![(session, user)];
                actions.push(TrackerAction::Ready { partition: *partition, epoch, as_of, sessions });
            }
        }
    }

    fn announce_changes(&mut self, now: Micros, actions: &mut Vec<TrackerAction>) {
        if self.up.is_empty() && self.down.is_empty() {
            return;
        }
        self.version += 1;
        for lane in self.lanes.values_mut() {
            lane.waits_since.get_or_insert(now);
        }
        actions.push(TrackerAction::Announce(self.changes()));
    }

    /// What changed since the version before.
    fn changes(&mut self) -> Announcement {
        let up = std::mem::take(&mut self.up);
        let up = up.into_iter().filter_map(|session| Some(wire(session, self.sessions.get(&session)?.0)));
        let up = up.collect();
        Announcement {
            gateway: self.gateway.0,
            version: self.version,
            up,
            down: std::mem::take(&mut self.down).into_iter().map(|session| session.0).collect(),
            ..Announcement::default()
        }
    }

    /// Everything, in as many parts as it takes; what was not announced yet goes with it.
    fn announce_all(&mut self, now: Micros, actions: &mut Vec<TrackerAction>) {
        if !self.up.is_empty() || !self.down.is_empty() {
            self.version += 1;
            for lane in self.lanes.values_mut() {
                lane.waits_since.get_or_insert(now);
            }
            self.up.clear();
            self.down.clear();
        }
        let all: Vec<_> = self.sessions.iter().map(|(session, (user, _))| wire(*session, *user)).collect();
        let parts = all.len().div_ceil(SESSIONS_PER_PART).max(1);
        for part in 0..parts {
            let from = part * SESSIONS_PER_PART;
            actions.push(TrackerAction::Announce(Announcement {
                gateway: self.gateway.0,
                version: self.version,
                snapshot: true,
                up: all[from..all.len().min(from + SESSIONS_PER_PART)].to_vec(),
                part: u32::try_from(part + 1).unwrap_or(u32::MAX),
                parts: u32::try_from(parts).unwrap_or(u32::MAX),
                ..Announcement::default()
            }));
        }
    }

    /// An owner that does not answer is told a further version: it acknowledges, or asks for everything.
    ///
    /// Never the same version again: in the place of a lost one that had changes, it would pass for it.
    fn tick(&mut self, now: Micros, actions: &mut Vec<TrackerAction>) {
        // An owner that lost its sessions, and the request for ours with them, pushes nothing and numbers nothing.
        let silent =
            |lane: &Lane| lane.owner.is_some() && !lane.unready && now.saturating_sub(lane.heard_at) >= SILENT_US;
        self.resync_all(now, silent, actions);
        let late = |lane: &Lane| lane.waits_since.is_some_and(|since| now.saturating_sub(since) >= ANNOUNCE_AGAIN_US);
        if self.lanes.values().any(late) && now.saturating_sub(self.again_at) >= ANNOUNCE_AGAIN_US {
            self.again_at = now;
            self.version += 1;
            actions.push(TrackerAction::Announce(self.changes()));
        }
    }
}

fn wire(session: SessionId, user: UserId) -> SessionUp {
    SessionUp { session: session.0, user: user.to_wire() }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
