//! Judges what stands in a log by the rules of its chat's kind and of its members' roles (N7).
//!
//! Says the rules anew, from what is promised: it shares nothing with the code that decides.

use std::collections::{HashMap, HashSet};

use super::Court;
use crate::{
    Chat, Content, Invariant, Policy, SeenEntry, User,
    truth::{ChatTruth, Placed},
};

// The wire's numbers of kinds: two members for ever; few write. Between them, 2, is the group.
const DIRECT: i32 = 1;
const CHANNEL: i32 = 3;
// The wire's numbers of roles; a lower one stands higher. A reader never writes.
const OWNER: i32 = 1;
const ADMIN: i32 = 2;
const MEMBER: i32 = 3;
const READER: i32 = 4;

/// Most members of a chat.
const MEMBERS_MAX: usize = 1_000;
/// Most pinned messages of a chat.
const PINS_MAX: usize = 50;
/// Slowest slow mode, in seconds.
const SLOW_MODE_S_MAX: u32 = 21_600;

/// The wire's number of a role that there is.
fn is_role(role: i32) -> bool {
    (OWNER..=READER).contains(&role)
}

#[derive(Debug, Default)]
struct Members {
    kind: i32,
    /// Its history is being brought in: nobody is in the chat.
    importing: bool,
    roles: HashMap<User, i32>,
    owners: usize,
    /// Messages that are not deleted, and whose they are.
    said: HashMap<u64, User>,
    deleted: HashSet<u64>,
    policy: Policy,
    pins: Vec<u64>,
    /// The time of each user's last entry.
    last: HashMap<User, u64>,
}

/// N7: each entry was allowed when it was written.
pub(super) fn judge(court: &mut Court<'_>, chat: Chat, log: &ChatTruth<'_>) {
    let mut members = Members::default();
    for Placed { entry, line } in log.entries() {
        let wrong = members.refusal(entry);
        if let Some(wrong) = wrong {
            let what = || format!("{} {wrong} at seq {} of chat {chat}", entry.sender, entry.seq);
            court.report.fault(Invariant::N7, what, [format!("{line}: {entry}")]);
        }
        // What is wrong happened nevertheless.
        members.apply(entry);
    }
}

impl Members {
    /// What is wrong with this entry, if anything is.
    fn refusal(&self, entry: &SeenEntry) -> Option<&'static str> {
        if let Content::ChatCreated { kind, members } = &entry.event {
            return creation(entry, *kind, members);
        }
        if self.importing || entry.origin == 0 {
            return self.wrong_import(entry);
        }
        let Some(sender) = self.roles.get(&entry.sender).copied() else { return Some("writes without being a member") };
        let fixed = self.kind == DIRECT;
        match &entry.event {
            Content::ChatCreated { .. } | Content::ImportBegun { .. } | Content::ImportEnded { .. } => None,
            Content::Message | Content::Edited { .. } if sender == READER => {
                Some("writes although its role only reads")
            }
            Content::Message | Content::Edited { .. } if self.kind == CHANNEL && sender > ADMIN => {
                Some("writes in a channel that others run")
            }
            Content::Reacted { .. } if sender == READER => Some("reacts although its role only reads"),
            Content::Message | Content::Edited { .. } | Content::Reacted { .. } if self.is_hasty(entry, sender) => {
                Some("writes again before slow mode lets it")
            }
            Content::Message => None,
            Content::Reacted { seq } if !self.said.contains_key(seq) => {
                Some("reacts to what is no message, or no more")
            }
            Content::Reacted { .. } => None,
            Content::Pinned { .. } if !fixed && sender > ADMIN => Some("pins although its role may not"),
            Content::Pinned { seq, .. } if !self.said.contains_key(seq) => Some("pins what is no message, or no more"),
            Content::Pinned { seq, unpinned, .. } if self.pins.contains(seq) != *unpinned => Some("changes nothing"),
            Content::Pinned { seq, unpinned, pins } => self.wrong_pins(*seq, *unpinned, pins),
            Content::Edited { seq } => match self.said.get(seq) {
                None => Some("edits what is no message, or no more"),
                Some(by) if *by != entry.sender => Some("edits what it has not said"),
                Some(_) => None,
            },
            Content::Deleted { seq } => match self.said.get(seq) {
                None if self.deleted.contains(seq) => Some("deletes what is deleted"),
                None => Some("deletes what is no message"),
                Some(by) if *by != entry.sender && (fixed || sender > ADMIN) => {
                    Some("deletes what it has not said, without running the chat")
                }
                Some(_) => None,
            },
            Content::MemberAdded { .. } | Content::MemberRemoved { .. } | Content::MemberLeft if fixed => {
                Some("changes the members of a direct chat")
            }
            Content::MemberAdded { role, .. } if self.is_trusted(sender, *role) => self.wrong_addition(entry),
            Content::MemberAdded { .. } | Content::MemberRemoved { .. } if sender > ADMIN => {
                Some("changes the members although its role may not")
            }
            // An owner may make others owners; an admin gives only what is below its own.
            Content::MemberAdded { role, .. } if sender != OWNER && *role <= sender => {
                Some("gives a role that is not below its own")
            }
            Content::MemberAdded { .. } => self.wrong_addition(entry),
            Content::MemberRemoved { user } => match self.roles.get(user) {
                None => Some("removes who is no member"),
                Some(role) if *role <= sender => Some("removes whose role is not below its own"),
                Some(_) => None,
            },
            // With nobody left, nobody misses an owner.
            Content::MemberLeft if sender == OWNER && self.owners == 1 && self.roles.len() > 1 => {
                Some("leaves as the last owner")
            }
            Content::MemberLeft => None,
            Content::RoleSet { .. }
            | Content::ChatRenamed
            | Content::OwnershipTransferred { .. }
            | Content::PolicySet { .. }
                if fixed =>
            {
                Some("governs a direct chat")
            }
            Content::RoleSet { user, role } => self.wrong_role(entry.sender, sender, *user, *role),
            Content::ChatRenamed if sender > ADMIN => Some("renames the chat although its role may not"),
            Content::ChatRenamed => None,
            Content::PolicySet { .. } if sender > ADMIN => Some("sets the policy although its role may not"),
            Content::PolicySet { policy, change } => self.wrong_policy(*policy, *change),
            Content::OwnershipTransferred { .. } if sender != OWNER => Some("hands on what it does not own"),
            Content::OwnershipTransferred { user } => match self.roles.get(user) {
                None => Some("makes an owner of who is no member"),
                Some(&OWNER) => Some("changes nothing"),
                Some(_) => None,
            },
        }
    }

    /// Whether members may add, and this one gives no role above its own.
    fn is_trusted(&self, sender: i32, role: i32) -> bool {
        self.policy.members_add == Some(true) && sender == MEMBER && role >= MEMBER
    }

    /// What is wrong with letting somebody in, whoever does it.
    fn wrong_addition(&self, entry: &SeenEntry) -> Option<&'static str> {
        let Content::MemberAdded { user, role } = &entry.event else { return None };
        if self.roles.contains_key(user) {
            Some("adds who is a member already")
        } else if !is_role(*role) {
            Some("gives a role that there is not")
        } else {
            (self.roles.len() >= MEMBERS_MAX).then_some("adds more members than there may be")
        }
    }

    /// Whether slow mode should have kept this from being written.
    fn is_hasty(&self, entry: &SeenEntry, sender: i32) -> bool {
        let rest = u64::from(self.policy.slow_mode_s.unwrap_or_default()) * 1_000_000;
        let last = self.last.get(&entry.sender).copied();
        rest > 0 && sender > ADMIN && last.is_some_and(|last| entry.time < last + rest)
    }

    fn wrong_policy(&self, policy: Policy, change: Policy) -> Option<&'static str> {
        let unset = Policy { members_add: Some(false), slow_mode_s: Some(0) };
        let before = unset.with(self.policy);
        if policy != before.with(change) {
            Some("sets a policy that is not what it asked for")
        } else if policy == before {
            Some("changes nothing")
        } else {
            policy.slow_mode_s.is_some_and(|rest| rest > SLOW_MODE_S_MAX).then_some("slows the chat down too much")
        }
    }

    fn wrong_pins(&self, seq: u64, unpinned: bool, pins: &[u64]) -> Option<&'static str> {
        let others = self.pins.iter().filter(|pin| **pin != seq);
        if !others.chain((!unpinned).then_some(&seq)).eq(pins) {
            Some("says other pins than there are")
        } else {
            (pins.len() > PINS_MAX).then_some("pins more messages than there may be")
        }
    }

    /// What is wrong with giving a member this role.
    fn wrong_role(&self, by: User, sender: i32, user: User, role: i32) -> Option<&'static str> {
        let before = self.roles.get(&user).copied();
        match before {
            _ if sender > ADMIN => Some("changes roles although its own may not"),
            None => Some("changes the role of who is no member"),
            _ if !is_role(role) => Some("gives a role that there is not"),
            Some(before) if before == role => Some("changes nothing"),
            Some(before) if user != by && before <= sender => Some("changes a role that is not below its own"),
            _ if sender == ADMIN && role <= ADMIN => Some("gives a role that is not below its own"),
            Some(OWNER) if self.owners == 1 => Some("steps down as the last owner"),
            Some(_) => None,
        }
    }

    /// What is wrong with a step of an import, or with what comes between them.
    fn wrong_import(&self, entry: &SeenEntry) -> Option<&'static str> {
        match &entry.event {
            _ if entry.origin != 0 => Some("does something in a chat that is being imported"),
            Content::ImportBegun { .. } if entry.seq != 1 => Some("imports into a chat that exists"),
            Content::ImportBegun { kind } if !(DIRECT..=CHANNEL).contains(kind) => Some("imports a chat of no kind"),
            Content::ImportBegun { .. } => None,
            _ if !self.importing => Some("imports into a chat whose import is over"),
            Content::Message => None,
            Content::ImportEnded { members } => {
                let distinct: HashSet<User> = members.iter().map(|(user, _)| *user).collect();
                let owned = self.kind == DIRECT || members.iter().any(|(_, role)| *role == OWNER);
                let sized = (1..=MEMBERS_MAX).contains(&members.len()) && (self.kind != DIRECT || members.len() == 2);
                let ranked = members.iter().all(|(_, role)| is_role(*role));
                let right = owned && sized && ranked && distinct.len() == members.len();
                (!right).then_some("imports a chat with members that it cannot have")
            }
            Content::ChatCreated { .. }
            | Content::MemberAdded { .. }
            | Content::MemberRemoved { .. }
            | Content::MemberLeft
            | Content::RoleSet { .. }
            | Content::ChatRenamed
            | Content::OwnershipTransferred { .. }
            | Content::Edited { .. }
            | Content::Deleted { .. }
            | Content::Reacted { .. }
            | Content::PolicySet { .. }
            | Content::Pinned { .. } => Some("imports what is no message"),
        }
    }

    fn apply(&mut self, entry: &SeenEntry) {
        match &entry.event {
            Content::ImportBegun { kind } => {
                self.kind = *kind;
                self.importing = true;
            }
            Content::ImportEnded { members } => {
                self.importing = false;
                members.iter().for_each(|(user, role)| self.put(*user, Some(*role)));
            }
            Content::ChatCreated { kind, members } => {
                self.kind = *kind;
                members.iter().for_each(|(user, role)| self.put(*user, Some(*role)));
            }
            Content::MemberAdded { user, role } => self.put(*user, Some(*role)),
            Content::MemberRemoved { user } => self.put(*user, None),
            Content::MemberLeft => self.put(entry.sender, None),
            Content::RoleSet { user, role } => self.put(*user, Some(*role)),
            Content::OwnershipTransferred { user } => {
                self.put(entry.sender, Some(ADMIN));
                self.put(*user, Some(OWNER));
            }
            Content::Message => {
                self.said.insert(entry.seq, entry.sender);
            }
            Content::Deleted { seq } => {
                self.said.remove(seq);
                self.deleted.insert(*seq);
                self.pins.retain(|pin| pin != seq);
            }
            Content::PolicySet { policy, .. } => self.policy = *policy,
            Content::Pinned { pins, .. } => self.pins.clone_from(pins),
            Content::Edited { .. } | Content::Reacted { .. } | Content::ChatRenamed => {}
        }
        // Creations and imports make nobody wait.
        if entry.origin != 0 {
            self.last.insert(entry.sender, entry.time);
        }
    }

    fn put(&mut self, user: User, role: Option<i32>) {
        let before = match role {
            Some(role) => self.roles.insert(user, role),
            None => self.roles.remove(&user),
        };
        self.owners += usize::from(role == Some(OWNER));
        self.owners -= usize::from(before == Some(OWNER));
    }
}

/// A chat begins once, with its creator in it. Of a group or channel the creator is the one owner.
fn creation(entry: &SeenEntry, kind: i32, members: &[(User, i32)]) -> Option<&'static str> {
    let distinct: HashSet<User> = members.iter().map(|(user, _)| *user).collect();
    let creator = members.iter().find(|(user, _)| *user == entry.sender);
    let owners = members.iter().filter(|(_, role)| *role == OWNER).count();
    match creator {
        _ if entry.seq != 1 => Some("creates a chat that exists"),
        None => Some("creates a chat that it is not in"),
        _ if !(DIRECT..=CHANNEL).contains(&kind) => Some("creates a chat of no kind"),
        _ if distinct.len() != members.len() => Some("creates a chat that somebody is in twice"),
        _ if members.len() > MEMBERS_MAX => Some("creates a chat with more members than there may be"),
        _ if members.iter().any(|(_, role)| !is_role(*role)) => Some("gives a role that there is not"),
        _ if kind == DIRECT && members.len() != 2 => Some("creates a direct chat of other than two"),
        Some((_, role)) if kind != DIRECT && (*role != OWNER || owners != 1) => {
            Some("creates a chat of which it is not the one owner")
        }
        Some(_) => None,
    }
}
