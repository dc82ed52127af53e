//! What the event stream ever said, kept apart from it: records may be trimmed or lost, their truth may not.

use std::collections::BTreeMap;

use domain::{ChatId, Event, LoggedEntry, Micros, Seq, UserId};
use prost::Message as _;
use proto::log::EventBatch;

use crate::store::rewrite;

/// Every entry that was ever published, and in which record.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    chats: BTreeMap<ChatId, Vec<(Seq, LoggedEntry)>>,
    /// When each record was published.
    published: BTreeMap<Seq, Micros>,
    /// Records were lost and nothing shows it: a number that was told before names another record now.
    pub(crate) renumbered: bool,
}

/// Where an entry stands whose record is lost, until it is decided again.
const NOWHERE: Seq = Seq::MAX;

impl Truth {
    /// Takes in what was just published at `sequence`.
    pub(crate) fn published(&mut self, now: Micros, sequence: Seq, payload: &bytes::Bytes) {
        self.published.insert(sequence, now);
        let Ok(batch) = EventBatch::decode(payload.clone()) else { return };
        for entry in batch.entries.into_iter().filter_map(|bytes| LoggedEntry::decode(bytes).ok()) {
            let entries = self.chats.entry(entry.entry.chat).or_default();
            // The stream ends below this record: what stood in it or above is lost, and may be decided again.
            let lost = entries.iter_mut().find(|(record, known)| *record >= sequence && known.bytes == entry.bytes);
            match lost {
                Some((record, _)) => *record = sequence,
                None => entries.push((sequence, entry)),
            }
        }
    }

    /// The records above are gone and nothing shows it: what they held is decided again, perhaps into other records.
    pub(crate) fn lost_above(&mut self, last: Seq) {
        self.renumbered = true;
        self.published.retain(|sequence, _| *sequence <= last);
        for (record, _) in self.chats.values_mut().flatten().filter(|(record, _)| *record > last) {
            *record = NOWHERE;
        }
    }

    /// The last record that was published at or before this time.
    pub(crate) fn last_at(&self, time: Micros) -> Seq {
        self.published.iter().filter(|(_, at)| **at <= time).map(|(sequence, _)| *sequence).max().unwrap_or_default()
    }

    pub(crate) fn chats(&self) -> impl Iterator<Item = (ChatId, &[(Seq, LoggedEntry)])> {
        self.chats.iter().map(|(chat, entries)| (*chat, &entries[..]))
    }

    /// Everybody who ever was in the chat.
    pub(crate) fn ever_members(entries: &[(Seq, LoggedEntry)]) -> Vec<UserId> {
        let mut users = Vec::new();
        for (_, logged) in entries {
            match &logged.entry.event {
                Event::ChatCreated { members, .. } | Event::ImportEnded { members } => {
                    users.extend(members.iter().map(|member| member.user));
                }
                Event::MemberAdded { member } => users.push(member.user),
                Event::MemberRemoved { .. }
                | Event::MemberLeft
                | Event::MessageSent { .. }
                | Event::RoleSet { .. }
                | Event::ChatRenamed { .. }
                | Event::OwnershipTransferred { .. }
                | Event::MessageEdited(_)
                | Event::MessageDeleted { .. }
                | Event::MessageReacted { .. }
                | Event::ChatPolicySet { .. }
                | Event::MessagePinned { .. }
                | Event::ImportBegun { .. } => {}
            }
        }
        users.sort_unstable();
        users.dedup();
        users
    }

    /// The seqs that this user's membership shows, both ends inclusive.
    pub(crate) fn shown_to(entries: &[(Seq, LoggedEntry)], user: UserId) -> impl Iterator<Item = &(Seq, LoggedEntry)> {
        // Who comes in with the end of an import has all that is before.
        let mut inside = entries.iter().any(|(_, logged)| {
            matches!(&logged.entry.event, Event::ImportEnded { members } if members.iter().any(|one| one.user == user))
        });
        entries.iter().filter(move |(_, logged)| {
            let before = inside;
            match &logged.entry.event {
                Event::ChatCreated { members, .. } => inside = members.iter().any(|member| member.user == user),
                Event::MemberAdded { member } if member.user == user => inside = true,
                Event::MemberRemoved { user: gone } if *gone == user => inside = false,
                Event::MemberLeft if logged.entry.sender == user => inside = false,
                Event::MemberAdded { .. }
                | Event::MemberRemoved { .. }
                | Event::MemberLeft
                | Event::MessageSent { .. }
                | Event::RoleSet { .. }
                | Event::ChatRenamed { .. }
                | Event::OwnershipTransferred { .. }
                | Event::MessageEdited(_)
                | Event::MessageDeleted { .. }
                | Event::MessageReacted { .. }
                | Event::ChatPolicySet { .. }
                | Event::MessagePinned { .. }
                | Event::ImportBegun { .. }
                | Event::ImportEnded { .. } => {}
            }
            before || inside
        })
    }

    /// What of it stands in records through this one, as that record leaves the chat.
    pub(crate) fn shown_by(
        entries: &[(Seq, LoggedEntry)],
        user: UserId,
        record: Seq,
    ) -> impl Iterator<Item = &(Seq, LoggedEntry)> {
        let is_end = |logged: &LoggedEntry| matches!(logged.entry.event, Event::ImportEnded { .. });
        let importing = entries.iter().any(|(at, logged)| *at > record && is_end(logged));
        Self::shown_to(entries, user).filter(move |(at, _)| *at <= record && !importing)
    }

    /// The row of each entry as the entries end: each changed by all that is about it, in order.
    pub(crate) fn rows(entries: &[(Seq, LoggedEntry)]) -> Vec<LoggedEntry> {
        let mut rows: Vec<LoggedEntry> = Vec::with_capacity(entries.len());
        for (_, logged) in entries {
            rewrite(&mut rows, &logged.entry);
            rows.push(logged.clone());
        }
        rows
    }

    /// What the chat is called as the entries end, and since which seq; none: nobody ever said.
    pub(crate) fn name(entries: &[(Seq, LoggedEntry)]) -> Option<(Seq, &str)> {
        entries.iter().rev().find_map(|(_, logged)| {
            let Event::ChatRenamed { name } = &logged.entry.event else { return None };
            Some((logged.entry.seq, &**name))
        })
    }

    /// What users think of messages that are not deleted, as the entries end.
    pub(crate) fn reactions(entries: &[(Seq, LoggedEntry)]) -> BTreeMap<(Seq, UserId), &str> {
        let mut reactions = BTreeMap::new();
        for (_, logged) in entries {
            let by = &logged.entry;
            if let Event::MessageReacted { seq, reaction } = &by.event {
                reactions.insert((*seq, by.sender), &**reaction);
            } else if let Event::MessageDeleted { seq } = &by.event {
                reactions.retain(|(at, _), _| at != seq);
            }
        }
        reactions.retain(|_, reaction| !reaction.is_empty());
        reactions
    }

    /// Whether this user is in the chat as the entries end.
    pub(crate) fn is_member(entries: &[(Seq, LoggedEntry)], user: UserId) -> bool {
        let last = entries.last().map(|(_, logged)| logged.entry.seq);
        let shown = Self::shown_to(entries, user).last();
        let left = |logged: &LoggedEntry| match &logged.entry.event {
            Event::MemberRemoved { user: gone } => *gone == user,
            Event::MemberLeft => logged.entry.sender == user,
            Event::ChatCreated { .. }
            | Event::MemberAdded { .. }
            | Event::MessageSent { .. }
            | Event::RoleSet { .. }
            | Event::ChatRenamed { .. }
            | Event::OwnershipTransferred { .. }
            | Event::MessageEdited(_)
            | Event::MessageDeleted { .. }
            | Event::MessageReacted { .. }
            | Event::ChatPolicySet { .. }
            | Event::MessagePinned { .. }
            | Event::ImportBegun { .. }
            | Event::ImportEnded { .. } => false,
        };
        shown.is_some_and(|(_, logged)| Some(logged.entry.seq) == last && !left(logged))
    }
}
