//! All models of one chat, folded from its log alone: what a rebuild writes and what a check compares with.

use std::collections::BTreeMap;

use domain::{ChatId, Entry, Policy, Seq, UserId, Watermark};

use super::fold::fold_chat;
use super::rows::{Fact, Name, Projected, Reaction, Stay, Summary};
use crate::error::FoldError;

/// The models of one chat as its log says them; of watermarks what the log implies.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Models {
    /// Latest stays of all who ever were in it.
    pub stays: BTreeMap<UserId, Stay>,
    /// None: nothing is folded yet.
    pub summary: Option<Summary>,
    /// None: nobody ever named it.
    pub name: Option<Name>,
    /// None: nobody ever set it.
    pub policy: Option<Fact<Policy>>,
    /// None: nothing was ever pinned.
    pub pins: Option<Fact<Vec<Seq>>>,
    /// By message and user, those that were taken away too.
    pub reactions: BTreeMap<(Seq, UserId), Reaction>,
    /// What joins and own sends come to: the table is never below.
    pub marks: BTreeMap<UserId, Watermark>,
}

impl Models {
    /// Its highest seq; 0: nothing is folded yet.
    pub fn head(&self) -> Seq {
        self.summary.as_ref().map_or(0, |summary| summary.head)
    }

    /// Folds the chat's next rows in.
    ///
    /// # Errors
    /// [`FoldError::Hole`] if they do not follow what is folded.
    pub fn fold(&mut self, chat: ChatId, rows: Vec<Entry>) -> Result<(), FoldError> {
        let stays = self.stays.iter().map(|(user, stay)| ((*user, chat), *stay)).collect();
        let Projected { stays, summaries, names, policies, pins, reactions, deleted, watermarks, .. } =
            fold_chat(chat, self.summary.take(), &stays, rows)?;
        self.stays.extend(stays.into_iter().map(|(user, _, stay)| (user, stay)));
        self.summary = summaries.into_iter().next().map(|(_, summary)| summary);
        self.name = names.into_iter().next().map(|(_, name)| name).or_else(|| self.name.take());
        self.policy = policies.into_iter().next().map(|(_, policy)| policy).or_else(|| self.policy.take());
        self.pins = pins.into_iter().next().map(|(_, pins)| pins).or_else(|| self.pins.take());
        self.reactions.extend(reactions.into_iter().map(|((_, seq, user), reaction)| ((seq, user), reaction)));
        for (_, gone, _) in deleted {
            self.reactions.retain(|(seq, _), _| *seq != gone);
        }
        for (_, user, mark) in watermarks {
            let known = self.marks.entry(user).or_default();
            *known = known.merge(mark);
        }
        Ok(())
    }

    /// All of it as one write.
    pub fn projected(self, chat: ChatId) -> Projected {
        let Self { stays, summary, name, policy, pins, reactions, marks } = self;
        Projected {
            stays: stays.into_iter().map(|(user, stay)| (user, chat, stay)).collect(),
            summaries: summary.into_iter().map(|summary| (chat, summary)).collect(),
            names: name.into_iter().map(|name| (chat, name)).collect(),
            policies: policy.into_iter().map(|policy| (chat, policy)).collect(),
            pins: pins.into_iter().map(|pins| (chat, pins)).collect(),
            reactions: reactions.into_iter().map(|((seq, user), it)| ((chat, seq, user), it)).collect(),
            watermarks: marks.into_iter().map(|(user, mark)| (chat, user, mark)).collect(),
            ..Projected::default()
        }
    }
}
