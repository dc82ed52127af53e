//! Judges what stands in a log by the rules of its chat's kind and of its members' roles (N7).
//!
//! Says the rules anew, from what is promised: it shares nothing with the code that decides.

use std::collections::{HashMap, HashSet};

use super::Court;
use crate::{
    Chat, Content, Invariant, SeenEntry, User,
    truth::{ChatTruth, Placed},
};

// The wire's numbers of kinds: two members for ever; few write. Between them, 2, is the group.
const DIRECT: i32 = 1;
const CHANNEL: i32 = 3;
// The wire's numbers of roles; a lower one stands higher. A reader never writes.
const OWNER: i32 = 1;
const ADMIN: i32 = 2;
const READER: i32 = 4;

/// Most members of a chat.
const MEMBERS_MAX: usize = 1_000;

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
            Content::Message => None,
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
            Content::MemberAdded { .. } | Content::MemberRemoved { .. } if sender > ADMIN => {
                Some("changes the members although its role may not")
            }
            Content::MemberAdded { user, .. } if self.roles.contains_key(user) => Some("adds who is a member already"),
            Content::MemberAdded { role, .. } if !is_role(*role) => Some("gives a role that there is not"),
            // An owner may make others owners; an admin gives only what is below its own.
            Content::MemberAdded { role, .. } if sender != OWNER && *role <= sender => {
                Some("gives a role that is not below its own")
            }
            Content::MemberAdded { .. } if self.roles.len() >= MEMBERS_MAX => {
                Some("adds more members than there may be")
            }
            Content::MemberAdded { .. } => None,
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
            Content::RoleSet { .. } | Content::ChatRenamed | Content::OwnershipTransferred { .. } if fixed => {
                Some("governs a direct chat")
            }
            Content::RoleSet { user, role } => self.wrong_role(entry.sender, sender, *user, *role),
            Content::ChatRenamed if sender > ADMIN => Some("renames the chat although its role may not"),
            Content::ChatRenamed => None,
            Content::OwnershipTransferred { .. } if sender != OWNER => Some("hands on what it does not own"),
            Content::OwnershipTransferred { user } => match self.roles.get(user) {
                None => Some("makes an owner of who is no member"),
                Some(&OWNER) => Some("changes nothing"),
                Some(_) => None,
            },
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
            | Content::Deleted { .. } => Some("imports what is no message"),
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
            }
            Content::Edited { .. } | Content::ChatRenamed => {}
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
