//! Holds a user's commands until each has its final answer, and says when to send them again.
//!
//! A command settles by its outcome, or by its own entry seen in a push or in history; until then it is sent again on
//! every new socket, and after some seconds on a live one. This module never reads frames and never touches a socket.
//!
//! A run of the program numbers its commands under an origin of its own: what was kept may be older than what was sent,
//! and an n that is used for a second command would be answered as a repeat, its command never stored (N1).

mod io;

use std::collections::{BTreeMap, BTreeSet};

use proto::v1::{self, ErrorCode, command};

use super::{Micros, back_off, mixed};
use crate::{ChatId, Rules};
pub use io::{
    Action, Bounds, Draft, Full, Identity, Input, Kept, KeptLane, KeptRejected, KeptSend, SendId, Settlement, Sighting,
};

/// Distance that n keeps to the lowest unsettled n: the server remembers as many outcomes (M11).
const SPAN: u64 = 32;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// To be sent as soon as those below it are.
    Waiting,
    /// Not before the time; holds those above it back, too.
    Held(Micros),
    /// On its way; sent again at the time.
    Flying(Micros),
}

#[derive(Debug)]
struct Item {
    id: SendId,
    // 0 and 0 for the creation of the chat.
    origin: u64,
    n: u64,
    basis: u64,
    action: command::Action,
    bytes: usize,
    stage: Stage,
    attempts: u32,
    // When it was last sent, counted in sends of this outbox.
    sent: u64,
    accepted: bool,
    first_after: Option<u64>,
    keys: Vec<Identity>,
}

#[derive(Debug)]
struct Lane {
    origin: u64,
    next_n: u64,
    next_place: u64,
    // In the order of their making; the creation of the chat stands at 0 and holds all others back.
    items: BTreeMap<u64, Item>,
    // The head to be known before this lane may go on under a new origin.
    recovering: Option<u64>,
    known: u64,
}

/// Commands until they settle.
#[derive(Debug)]
pub struct Outbox {
    rules: Rules,
    bounds: Bounds,
    origin: u64,
    next_id: u64,
    open: bool,
    sends: u64,
    bytes: usize,
    lanes: BTreeMap<ChatId, Lane>,
    unsettled: BTreeMap<SendId, (ChatId, u64)>,
    keys: BTreeMap<Identity, SendId>,
    rejected: BTreeMap<SendId, Vec<Identity>>,
    timers: BTreeSet<(Micros, SendId)>,
}

impl Outbox {
    /// An empty outbox; `origin` are 64 random bits.
    pub fn new(rules: Rules, bounds: Bounds, origin: u64) -> Self {
        Self {
            rules,
            bounds,
            origin: origin.max(1),
            next_id: 1,
            open: false,
            sends: 0,
            bytes: 0,
            lanes: BTreeMap::new(),
            unsettled: BTreeMap::new(),
            keys: BTreeMap::new(),
            rejected: BTreeMap::new(),
            timers: BTreeSet::new(),
        }
    }

    /// The outbox that was kept; everything in it is unsettled still.
    ///
    /// New commands go under `origin`, 64 fresh random bits; what was kept goes first, under its own.
    pub fn restore(rules: Rules, bounds: Bounds, kept: Kept, origin: u64) -> Self {
        let mut outbox = Self::new(rules, bounds, origin);
        outbox.next_id = kept.next_id.max(1);
        for lane in kept.lanes {
            for send in lane.sends {
                outbox.hold(lane.chat, (send.origin, send.n), send.id, send.basis, send.action);
            }
        }
        for KeptRejected { id, keys } in kept.rejected {
            outbox.keys.extend(keys.iter().map(|key| (*key, id)));
            outbox.rejected.insert(id, keys);
        }
        outbox
    }

    /// What must be kept to go on after a restart.
    pub fn kept(&self) -> Kept {
        let send = |item: &Item| KeptSend {
            id: item.id,
            origin: item.origin,
            n: item.n,
            basis: item.basis,
            action: item.action.clone(),
        };
        let lanes = (self.lanes.iter())
            .filter(|(_, lane)| !lane.items.is_empty())
            .map(|(chat, lane)| KeptLane { chat: *chat, sends: lane.items.values().map(send).collect() });
        let rejected = self.rejected.iter().map(|(id, keys)| KeptRejected { id: *id, keys: keys.clone() });
        Kept { next_id: self.next_id, lanes: lanes.collect(), rejected: rejected.collect() }
    }

    /// Takes a command: its id, and the identity that it travels under for now.
    pub fn submit(&mut self, now: Micros, draft: Draft, actions: &mut Vec<Action>) -> Result<(SendId, Identity), Full> {
        let size = size_of_action(&draft.action);
        if self.unsettled.len() >= self.bounds.count || self.bytes.saturating_add(size) > self.bounds.bytes {
            return Err(Full { count: self.unsettled.len(), bytes: self.bytes });
        }
        let id = SendId(self.next_id);
        self.next_id += 1;
        let lane = self.lane(draft.chat);
        let create = matches!(draft.action, command::Action::CreateChat(_));
        let (origin, n) = if create { (0, 0) } else { (lane.origin, lane.next_n) };
        if !create {
            lane.next_n += 1;
        }
        lane.known = lane.known.max(draft.basis);
        self.hold(draft.chat, (origin, n), id, draft.basis, draft.action);
        self.pump(now, draft.chat, actions);
        Ok((id, Identity { chat: draft.chat, origin, n }))
    }

    /// How many commands are unsettled.
    pub fn len(&self) -> usize {
        self.unsettled.len()
    }

    /// Whether nothing is unsettled.
    pub fn is_empty(&self) -> bool {
        self.unsettled.is_empty()
    }

    /// When [`Input::Tick`] is due at the latest.
    pub fn deadline(&self) -> Option<Micros> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Takes one input; appends what is to be done.
    pub fn handle(&mut self, now: Micros, input: Input, actions: &mut Vec<Action>) {
        match input {
            Input::Opened => self.opened(now, actions),
            Input::Closed => {
                self.open = false;
                self.timers.clear();
            }
            Input::Tick => self.tick(now, actions),
            Input::Accepted(id) => {
                if let Some(item) = self.item(id)
                    && !item.accepted
                {
                    item.accepted = true;
                    actions.push(Action::Accepted(id));
                }
            }
            Input::Outcome(id, outcome) => self.outcome(now, id, &outcome, actions),
            Input::Refused { id, code, retryable, retry_after_us } => {
                if self.unsettled.contains_key(&id) {
                    self.refused(now, id, code, 0, retryable, retry_after_us, actions);
                }
            }
            Input::Seen(seen) => {
                let key = Identity { chat: seen.chat, origin: seen.origin, n: seen.n };
                if let Some(id) = self.keys.get(&key).copied() {
                    let stored = Settlement::Stored { chat: seen.chat, seq: seen.seq, time_us: seen.time_us };
                    self.settle(now, id, stored, actions);
                }
            }
            Input::Read { chat, through, fresh } => self.read(now, chat, through, fresh, actions),
            Input::Unreadable { chat, code } => {
                let Some(lane) = self.lanes.get_mut(&chat) else { return };
                if lane.recovering.take().is_some() {
                    let ids: Vec<_> = lane.items.values().map(|item| item.id).collect();
                    for id in ids {
                        self.settle(now, id, Settlement::Rejected { code, head: 0 }, actions);
                    }
                }
            }
        }
    }

    fn lane(&mut self, chat: ChatId) -> &mut Lane {
        // One origin a chat, so that commands keep theirs when they follow a creation to another chat.
        let bits = chat.0.chunks(8).fold(self.origin, |bits, part| {
            part.iter().fold(mixed(bits), |bits, byte| bits.rotate_left(8) ^ u64::from(*byte))
        });
        self.lanes.entry(chat).or_insert_with(|| Lane {
            origin: mixed(bits).max(1),
            next_n: 1,
            next_place: 1,
            items: BTreeMap::new(),
            recovering: None,
            known: 0,
        })
    }

    fn item(&mut self, id: SendId) -> Option<&mut Item> {
        let (chat, place) = self.unsettled.get(&id)?;
        self.lanes.get_mut(chat)?.items.get_mut(place)
    }

    fn hold(&mut self, chat: ChatId, (origin, n): (u64, u64), id: SendId, basis: u64, action: command::Action) {
        let bytes = size_of_action(&action);
        self.bytes += bytes;
        let key = Identity { chat, origin, n };
        let item = Item {
            id,
            origin,
            n,
            basis,
            action,
            bytes,
            stage: Stage::Waiting,
            attempts: 0,
            sent: 0,
            accepted: false,
            first_after: None,
            keys: vec![key],
        };
        let lane = self.lane(chat);
        let place = if n == 0 { 0 } else { lane.next_place };
        lane.next_place += u64::from(n != 0);
        lane.items.insert(place, item);
        self.unsettled.insert(id, (chat, place));
        self.keys.insert(key, id);
    }

    fn opened(&mut self, now: Micros, actions: &mut Vec<Action>) {
        self.open = true;
        self.timers.clear();
        let chats: BTreeSet<_> = self.unsettled.values().map(|(chat, _)| *chat).collect();
        for chat in chats {
            let lane = self.lane(chat);
            let mut held = Vec::new();
            for item in lane.items.values_mut() {
                match item.stage {
                    Stage::Held(until) if until > now => held.push((until, item.id)),
                    Stage::Held(_) | Stage::Waiting | Stage::Flying(_) => item.stage = Stage::Waiting,
                }
            }
            if let Some(head) = lane.recovering {
                actions.push(Action::Read { chat, head });
            }
            self.timers.extend(held);
            self.pump(now, chat, actions);
        }
    }

    fn tick(&mut self, now: Micros, actions: &mut Vec<Action>) {
        let mut chats = BTreeSet::new();
        while let Some((at, id)) = self.timers.first().copied()
            && at <= now
        {
            self.timers.pop_first();
            let chat = self.unsettled.get(&id).map(|(chat, _)| *chat);
            if let Some(item) = self.item(id)
                && matches!(item.stage, Stage::Held(due) | Stage::Flying(due) if due == at)
            {
                item.stage = Stage::Waiting;
                chats.extend(chat);
            }
        }
        for chat in chats {
            self.pump(now, chat, actions);
        }
    }

    /// Sends what may be sent now, in order.
    fn pump(&mut self, now: Micros, chat: ChatId, actions: &mut Vec<Action>) {
        let (rules, bounds) = (self.rules, self.bounds);
        let Some(lane) = self.lanes.get_mut(&chat) else { return };
        if !self.open || lane.recovering.is_some() {
            return;
        }
        let Some((origin, lowest)) = lane.items.values().next().map(|item| (item.origin, item.n)) else { return };
        let mut below = 0;
        for item in lane.items.values_mut() {
            // What an earlier run left goes first, so that the order stays; nothing overtakes the chat's creation.
            if item.origin != origin {
                break;
            }
            // M11: what is beyond the span waits, unsent.
            if rules.m11 && item.n.saturating_sub(lowest) >= SPAN {
                break;
            }
            match item.stage {
                Stage::Flying(_) => {}
                Stage::Held(_) => break,
                Stage::Waiting => {
                    // M12: computed anew, for a predecessor may have been rejected meanwhile.
                    let first_after = *item.first_after.get_or_insert(below);
                    let after = if rules.m12 { below } else { first_after };
                    // M14: the head at making, not at sending: a copy of this command may lie between the two.
                    let basis = if rules.m14 { item.basis } else { lane.known };
                    let due = now + back_off(bounds.resend_us * 2, item.attempts, bounds.longest_us, item.id.0 ^ now);
                    item.stage = Stage::Flying(due);
                    item.attempts += 1;
                    self.sends += 1;
                    item.sent = self.sends;
                    self.timers.insert((due, item.id));
                    let command = v1::Command {
                        chat: chat.to_wire(),
                        origin,
                        n: item.n,
                        after,
                        basis,
                        action: Some(item.action.clone()),
                    };
                    actions.push(Action::Send(item.id, command));
                }
            }
            below = item.n;
        }
    }

    fn outcome(&mut self, now: Micros, id: SendId, outcome: &v1::Outcome, actions: &mut Vec<Action>) {
        let Some(chat) = ChatId::from_wire(&outcome.chat) else { return };
        // An answer without a known id is found by the command's identity.
        let id = if self.unsettled.contains_key(&id) || self.rejected.contains_key(&id) {
            id
        } else if let Some(id) = self.keys.get(&Identity { chat, origin: outcome.origin, n: outcome.n }) {
            *id
        } else {
            return;
        };
        match &outcome.result {
            Some(v1::outcome::Result::Stored(stored)) => {
                let stored = Settlement::Stored { chat, seq: stored.seq, time_us: stored.time_us };
                self.settle(now, id, stored, actions);
            }
            Some(v1::outcome::Result::Rejected(rejected)) => {
                let Some(item) = self.item(id) else { return };
                // A late answer to a copy under an origin that was given up says nothing about this one.
                if item.n != 0 && (item.origin, item.n) != (outcome.origin, outcome.n) {
                    return;
                }
                let retryable = is_retryable(rejected.code());
                self.refused(now, id, rejected.code(), rejected.head, retryable, 0, actions);
            }
            None => {}
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one refusal")]
    fn refused(
        &mut self,
        now: Micros,
        id: SendId,
        code: ErrorCode,
        head: u64,
        retryable: bool,
        retry_after_us: Micros,
        actions: &mut Vec<Action>,
    ) {
        let Some((chat, place)) = self.unsettled.get(&id).copied() else { return };
        if code == ErrorCode::PredecessorMissing {
            self.resend_through(now, chat, place, actions);
        // Without a head there is nothing to read up to: the user is not in the chat. Should the command stand in what
        // the user may still read, that corrects this (M13).
        } else if code == ErrorCode::OriginUnknown && place != 0 && head != 0 {
            let lane = self.lane(chat);
            if lane.recovering.replace(head).is_none_or(|before| before < head) {
                actions.push(Action::Read { chat, head });
            }
        } else if retryable || matches!(code, ErrorCode::Unauthenticated | ErrorCode::NotAuthenticatedYet) {
            self.hold_back(now, id, retry_after_us);
        } else {
            self.settle(now, id, Settlement::Rejected { code, head }, actions);
        }
    }

    fn hold_back(&mut self, now: Micros, id: SendId, at_least_us: Micros) {
        let bounds = self.bounds;
        let Some(item) = self.item(id) else { return };
        let times = item.attempts.saturating_sub(1);
        let until = now + at_least_us.max(back_off(bounds.busy_us * 2, times, bounds.longest_us, id.0 ^ now));
        item.stage = Stage::Held(until);
        self.timers.insert((until, id));
    }

    /// Sends a command again, and first what stands before it and was sent before it: that was lost or refused.
    fn resend_through(&mut self, now: Micros, chat: ChatId, place: u64, actions: &mut Vec<Action>) {
        let lane = self.lane(chat);
        let Some(sent) = lane.items.get(&place).map(|item| item.sent) else { return };
        let mut tired = Vec::new();
        for (_, item) in lane.items.range_mut(..=place) {
            if matches!(item.stage, Stage::Flying(_)) && item.sent <= sent {
                item.stage = Stage::Waiting;
                // At once the first time; a server that keeps saying so is asked ever more slowly.
                if item.attempts > 2 {
                    tired.push(item.id);
                }
            }
        }
        for id in tired {
            self.hold_back(now, id, 0);
        }
        self.pump(now, chat, actions);
    }

    fn settle(&mut self, now: Micros, id: SendId, settlement: Settlement, actions: &mut Vec<Action>) {
        let stored = matches!(settlement, Settlement::Stored { .. });
        let Some((chat, place)) = self.unsettled.remove(&id) else {
            // M13: it was rejected, and turns up stored after all: an earlier or later copy was taken.
            if stored
                && self.rules.m13
                && let Some(keys) = self.rejected.remove(&id)
            {
                self.forget(&keys);
                actions.extend(keys.last().map(|identity| Action::Corrected(id, *identity, settlement)));
            }
            return;
        };
        let Some(item) = self.lanes.get_mut(&chat).and_then(|lane| lane.items.remove(&place)) else { return };
        self.bytes -= item.bytes;
        if let Stage::Held(at) | Stage::Flying(at) = item.stage {
            self.timers.remove(&(at, id));
        }
        let identity = item.keys.last().copied().unwrap_or(Identity { chat, origin: item.origin, n: item.n });
        if stored {
            self.forget(&item.keys);
        } else {
            self.rejected.insert(id, item.keys);
            while self.rejected.len() > self.bounds.rejected
                && let Some((_, keys)) = self.rejected.pop_first()
            {
                self.forget(&keys);
            }
        }
        actions.push(Action::Settled(id, identity, settlement));
        if place == 0 {
            self.created(now, chat, settlement, actions);
        }
        self.pump(now, chat, actions);
    }

    /// The chat exists, under another id perhaps, or never will: what waited for it follows.
    fn created(&mut self, now: Micros, asked: ChatId, settlement: Settlement, actions: &mut Vec<Action>) {
        let waiting = |lane: &Lane| lane.items.values().map(|item| item.id).collect::<Vec<_>>();
        match settlement {
            Settlement::Stored { chat, .. } if chat != asked => {
                for id in self.lanes.get(&asked).map(waiting).unwrap_or_default() {
                    self.move_to(asked, id, chat);
                }
                self.pump(now, chat, actions);
            }
            Settlement::Stored { .. } => {}
            Settlement::Rejected { .. } => {
                let gone = Settlement::Rejected { code: ErrorCode::UnknownChat, head: 0 };
                for id in self.lanes.get(&asked).map(waiting).unwrap_or_default() {
                    self.settle(now, id, gone, actions);
                }
            }
        }
    }

    /// Moves a command that was never sent to another chat. It keeps its origin and n: an older kept state, gone on from
    /// after a crash, moves it there under the same.
    fn move_to(&mut self, from: ChatId, id: SendId, to: ChatId) {
        let Some((_, place)) = self.unsettled.remove(&id) else { return };
        let Some(item) = self.lane(from).items.remove(&place) else { return };
        self.bytes -= item.bytes;
        self.forget(&item.keys);
        self.hold(to, (item.origin, item.n), id, 0, item.action);
    }

    fn read(&mut self, now: Micros, chat: ChatId, through: u64, fresh: u64, actions: &mut Vec<Action>) {
        let Some(lane) = self.lanes.get_mut(&chat) else { return };
        lane.known = lane.known.max(through);
        if lane.recovering.is_none_or(|head| through < head) {
            return;
        }
        // All own entries up to `head` were seen, so what is left is not stored, and its copies never can be: each
        // has a basis below what the server has forgotten. It goes on under a new origin.
        lane.recovering = None;
        lane.origin = fresh.max(1);
        lane.next_n = 1;
        for item in lane.items.values_mut().filter(|item| item.n != 0) {
            (item.origin, item.n) = (lane.origin, lane.next_n);
            lane.next_n += 1;
            let key = Identity { chat, origin: item.origin, n: item.n };
            item.basis = through;
            item.stage = Stage::Waiting;
            item.attempts = 0;
            item.first_after = None;
            item.keys.push(key);
            self.keys.insert(key, item.id);
        }
        self.pump(now, chat, actions);
    }

    fn forget(&mut self, keys: &[Identity]) {
        for key in keys {
            self.keys.remove(key);
        }
    }
}

/// Codes after which the same command may be sent again unchanged.
const fn is_retryable(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::Busy | ErrorCode::Unavailable | ErrorCode::NotYet | ErrorCode::RateLimited | ErrorCode::Internal
    )
}

/// A command's weight against the bound in bytes: its variable part and its share of the maps.
fn size_of_action(action: &command::Action) -> usize {
    256 + match action {
        command::Action::SendMessage(send) => send.body.len() + send.mentions.len() * 48,
        command::Action::CreateChat(create) => create.members.len() * 48,
        command::Action::RenameChat(rename) => rename.name.len(),
        command::Action::EditMessage(edit) => edit.body.len(),
        command::Action::React(react) => react.reaction.len(),
        command::Action::AddMember(_)
        | command::Action::RemoveMember(_)
        | command::Action::LeaveChat(_)
        | command::Action::SetRole(_)
        | command::Action::TransferOwnership(_)
        | command::Action::DeleteMessage(_)
        | command::Action::SetChatPolicy(_)
        | command::Action::PinMessage(_) => 48,
    }
}

#[cfg(test)]
mod tests;
