//! What holds in chats and what people think of messages, as some records say it: of each the latest.

use std::collections::BTreeMap;

use domain::{ChatId, Entry, Policy, Seq, UserId};

use super::rows::{Fact, Reaction};

/// Policies and pins by chat.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) policies: BTreeMap<ChatId, Fact<Policy>>,
    pub(super) pins: BTreeMap<ChatId, Fact<Vec<Seq>>>,
}

impl Facts {
    pub(super) fn set_policy(&mut self, by: &Entry, policy: Policy) {
        self.policies.insert(by.chat, Fact { seq: by.seq, is: policy });
    }

    pub(super) fn set_pins(&mut self, by: &Entry, pins: &[Seq]) {
        self.pins.insert(by.chat, Fact { seq: by.seq, is: pins.to_vec() });
    }
}

/// Reactions by chat, message and user, and the messages that have none any more.
#[derive(Debug, Default)]
pub(super) struct Reactions {
    pub(super) latest: BTreeMap<(ChatId, Seq, UserId), Reaction>,
    /// Message and deletion.
    pub(super) deleted: Vec<(ChatId, Seq, Seq)>,
}

impl Reactions {
    pub(super) fn set(&mut self, by: &Entry, message: Seq, reaction: &str) {
        self.latest.insert((by.chat, message, by.sender), Reaction { text: reaction.into(), by: by.seq });
    }

    /// There is no reaction to what is deleted: none of them is decided after this.
    pub(super) fn delete(&mut self, by: &Entry, message: Seq) {
        self.latest.retain(|(chat, seq, _), _| (*chat, *seq) != (by.chat, message));
        self.deleted.push((by.chat, message, by.seq));
    }
}
