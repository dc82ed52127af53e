//! The sessions of this gateway: what each is pushed and what its token grants.
//!
//! A session whose socket was lost stays on the lists for a while, still announced and still pushed to: its client may
//! come back and go on (M24). How many such sessions there are is bounded, and so is what is kept of each (N9).

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use domain::{Code, Micros, SessionId, UserId};
use metrics::{counter, gauge};
use packer::Senders;
use proto::v1::Accepted;
use proto::v1::server_frame::Frame;
use tokens::Grant;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::changes::Changes;
use crate::config::Resume;
use crate::downlink::{Downlink, Pushed};
use crate::frames::{self, ToClients};
use crate::machine::Kept;
use crate::socket::{Class, CloseCode, Outbound, SubProtocol};

/// Between two looks for sessions that nobody came back to.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// The sessions of this gateway.
#[derive(Debug)]
pub(crate) struct Registry {
    sessions: RwLock<HashMap<SessionId, Member>>,
    /// When which session lost its socket, in that order; some have another one by now.
    lost: Mutex<VecDeque<(SessionId, Micros)>>,
    changes: Arc<Changes>,
    resume: Resume,
    /// Seed of the devices' hashes.
    devices: RandomState,
    started: Instant,
}

#[derive(Debug)]
struct Member {
    grant: Grant,
    /// Hash of user and device: who may go on with the session.
    device: u64,
    downlink: Mutex<Downlink>,
}

impl Member {
    fn downlink(&self) -> MutexGuard<'_, Downlink> {
        self.downlink.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry {
    pub(crate) fn new(resume: Resume, changes: Arc<Changes>) -> Self {
        Self {
            sessions: RwLock::default(),
            lost: Mutex::default(),
            changes,
            resume,
            devices: RandomState::new(),
            started: Instant::now(),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<SessionId, Member>> {
        self.sessions.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<SessionId, Member>> {
        self.sessions.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Micros {
        Micros::try_from(self.started.elapsed().as_micros()).unwrap_or(Micros::MAX)
    }

    const fn kept(&self) -> Kept {
        match self.resume.within_ms {
            0 => Kept { frames: 0, bytes: 0 },
            _ => Kept { frames: self.resume.pushes_max, bytes: self.resume.pushes_bytes_max },
        }
    }

    fn hash(&self, user: UserId, device: &str) -> u64 {
        self.devices.hash_one((user, device))
    }

    /// A session begins; nobody is told yet.
    pub(crate) fn add(&self, session: SessionId, (grant, device): (&Grant, &str), outbound: Outbound) {
        let device = self.hash(grant.user, device);
        let member = Member { grant: grant.clone(), device, downlink: Mutex::new(Downlink::new(outbound)) };
        let mut sessions = self.write();
        sessions.insert(session, member);
        gauge!("gateway_sessions").set(sessions.len() as f64);
    }

    /// Whether the session is on this device, as far as its token and this name say.
    pub(crate) fn is_on_device(&self, session: SessionId, device: &str) -> bool {
        let sessions = self.read();
        let own = sessions.get(&session).map_or("", |member| &*member.grant.device);
        own.is_empty() || own == device
    }

    /// The session goes on with another token.
    pub(crate) fn renew(&self, session: SessionId, grant: Grant) {
        if let Some(member) = self.write().get_mut(&session) {
            member.grant = grant;
        }
    }

    /// The session goes on over another socket, which is welcomed and gets what its client missed; the one before, if
    /// there still is one, is closed. False, and nothing is said: it cannot.
    pub(crate) fn go_on(
        &self,
        session: SessionId,
        received: u64,
        (grant, device): (&Grant, &str),
        outbound: &Outbound,
        welcome: impl FnOnce(u64) -> ToClients,
    ) -> bool {
        let device = self.hash(grant.user, device);
        let went_on = self.write().get_mut(&session).filter(|member| member.device == device).and_then(|member| {
            let before = member.downlink().go_on(outbound, received, welcome)?;
            member.grant = grant.clone();
            Some(before)
        });
        counter!("gateway_resumes_total", "resumed" => if went_on.is_some() { "yes" } else { "no" }).increment(1);
        if let Some(Some(before)) = &went_on {
            before.close(CloseCode::Replaced);
        }
        went_on.is_some()
    }

    /// The session's socket with this number is gone: the session stays for a while if its client may come back.
    pub(crate) fn leave(&self, session: SessionId, socket: u64, may_come_back: bool) {
        let stays = may_come_back && self.resume.within_ms > 0 && self.resume.sessions_max > 0;
        let now = self.now();
        {
            let sessions = self.read();
            let Some(member) = sessions.get(&session) else { return };
            let mut downlink = member.downlink();
            if downlink.outbound().is_none_or(|own| own.id() != socket) {
                // It has gone on over another one.
                return;
            }
            if stays {
                downlink.lose(now);
            }
        }
        if stays {
            let mut lost = self.lost();
            lost.push_back((session, now));
            let first = (lost.len() > self.resume.sessions_max).then(|| lost.pop_front()).flatten();
            drop(lost);
            if let Some((first, at)) = first {
                self.end_if(first, |downlink| downlink.lost_at() == Some(at));
            }
        } else {
            self.end_if(session, |downlink| downlink.outbound().is_some_and(|own| own.id() == socket));
        }
    }

    fn lost(&self) -> MutexGuard<'_, VecDeque<(SessionId, Micros)>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end_if(&self, session: SessionId, ends: impl FnOnce(&Downlink) -> bool) {
        let mut sessions = self.write();
        if !sessions.get(&session).is_some_and(|member| ends(&member.downlink())) {
            return;
        }
        sessions.remove(&session);
        gauge!("gateway_sessions").set(sessions.len() as f64);
        // Under the lock: a session is announced as gone after it was announced, never before.
        self.changes.down(session);
    }

    /// Queues one frame for these sessions and counts it among their pushes.
    ///
    /// A socket that cannot take it is closed by its own queue, as resumable.
    pub(crate) fn push(&self, to: impl IntoIterator<Item = SessionId>, frame: &ToClients, class: Class) {
        let (now, sessions) = (self.now(), self.read());
        for session in to {
            if let Some(member) = sessions.get(&session) {
                // Why it was not taken is counted where it was refused.
                member.downlink().push(now, frame, class, self.kept());
            }
        }
    }

    /// As [`Registry::push`], for one session; none if there is no such session.
    pub(crate) fn push_one(&self, session: SessionId, frame: &ToClients, class: Class) -> Option<Pushed> {
        let now = self.now();
        Some(self.read().get(&session)?.downlink().push(now, frame, class, self.kept()))
    }

    /// Queues a reply, which is no push: its client asks again if it does not come.
    pub(crate) fn reply(&self, session: SessionId, frame: &ToClients, class: Class) {
        if let Some(outbound) = self.outbound(session) {
            let _ = frame.push(&outbound, class);
        }
    }

    pub(crate) fn holds(&self, session: SessionId) -> bool {
        self.read().contains_key(&session)
    }

    /// The encoding that the session's frames must have.
    pub(crate) fn sub_protocol(&self, session: SessionId) -> Option<SubProtocol> {
        Some(self.read().get(&session)?.downlink().sub_protocol())
    }

    fn outbound(&self, session: SessionId) -> Option<Outbound> {
        self.read().get(&session)?.downlink().outbound().cloned()
    }

    /// Ends the sessions whose token is one of those, and closes their sockets; how many they are.
    pub(crate) fn close_those(&self, covered: impl Fn(&Grant) -> bool, code: CloseCode) -> usize {
        let sessions = self.read();
        let covered = sessions.iter().filter(|(_, member)| covered(&member.grant));
        let covered: Vec<_> = covered.map(|(id, member)| (*id, member.downlink().outbound().cloned())).collect();
        drop(sessions);
        for (session, outbound) in &covered {
            match outbound {
                Some(outbound) => outbound.close(code),
                None => self.end_if(*session, |downlink| downlink.outbound().is_none()),
            }
        }
        covered.len()
    }

    /// Closes a session that may have missed something, so that its client comes back and catches up.
    pub(crate) fn give_up(&self, session: SessionId, code: CloseCode) {
        if let Some(member) = self.read().get(&session) {
            counter!("gateway_sessions_given_up_total").increment(1);
            member.downlink().give_up(code);
        }
    }

    /// Ends sessions that nobody came back to, and forgets old pushes, until stopped.
    pub(crate) async fn sweep(self: Arc<Self>, stop: CancellationToken) {
        let within = self.resume.within_ms.saturating_mul(1_000);
        let mut ticks = interval(SWEEP_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut forgot_at = 0;
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let now = self.now();
            self.end_lost(now.saturating_sub(within));
            // All sessions are looked at, so not often: a push lives half as long again at most.
            if now.saturating_sub(forgot_at) >= within / 2 {
                forgot_at = now;
                let then = now.saturating_sub(within);
                self.read().values().for_each(|member| member.downlink().forget_before(then));
            }
        }
    }

    /// Ends those that lost their socket at that time or before.
    fn end_lost(&self, until: Micros) {
        loop {
            let mut lost = self.lost();
            gauge!("gateway_sessions_lost").set(lost.len() as f64);
            let Some((session, at)) = lost.front().copied().filter(|(_, at)| *at <= until) else { return };
            lost.pop_front();
            drop(lost);
            self.end_if(session, |downlink| downlink.lost_at() == Some(at));
        }
    }
}

impl Senders for Registry {
    fn accepted(&self, session: SessionId, request: u64) {
        self.reply(session, &frames::frame(request, Frame::Accepted(Accepted {})), Class::Unhurried);
    }

    fn busy(&self, session: SessionId, request: u64) {
        self.reply(session, &frames::error(request, Code::Busy), Class::Ordinary);
    }
}
