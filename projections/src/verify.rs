//! Compares the models of a chat with its log, while both go on.
//!
//! A chat is looked at as of the head that its summary names. Other rows may be ahead of it for a moment, and rows of the log
//! may be changed by entries that are not folded yet: what seems to differ is looked at again, and differs only if it stays
//! so while the summary stands still.

use std::fmt::Debug;
use std::time::Duration;

use domain::{ChatId, Seq, UserId};
use store::{Store, SummaryRow};
use tokio::time::sleep;

use crate::machine::{Models, Stay};
use crate::partition::predecessor;
use crate::rebuild::scan;
use crate::{Error, rows};

/// How often a chat is looked at until it stands still.
const LOOKS: u32 = 8;
/// Between two looks: longer than projections rest.
const PAUSE: Duration = Duration::from_millis(300);
/// Reactions of one read.
const REACTIONS: usize = 1_024;

/// The models, as the store names their tables.
pub const MODELS: [&str; 6] =
    ["chat_summaries", "chats_by_user", "chat_names", "chat_facts", "reactions", "watermarks"];

/// A row that is not what the log says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// One of [`MODELS`].
    pub model: &'static str,
    /// As it stands.
    pub stored: String,
    /// As the log comes to; of watermarks, what they may not be below.
    pub folded: String,
}

/// What a comparison comes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The models are what the log says.
    Equal,
    /// The first row that is not.
    Differs(Difference),
    /// The chat went on all the time: nothing can be said.
    Changing,
}

/// Compares all models of a chat, or one of them, with its log.
///
/// # Errors
/// As the store says, or where the rows are no log of a chat.
pub async fn verify(store: &Store, chat: ChatId, model: Option<&str>) -> Result<Verdict, Error> {
    let mut last = Verdict::Changing;
    for look in 0..LOOKS {
        if look > 0 {
            sleep(PAUSE).await;
        }
        let before = summary(store, chat).await?;
        let models = scan(store, chat, before.as_ref().map_or(Seq::MAX, |row| row.head)).await?;
        let difference = compare(store, chat, before.clone(), models, model).await?;
        let Some(difference) = difference else { return Ok(Verdict::Equal) };
        last = if summary(store, chat).await? == before { Verdict::Differs(difference) } else { Verdict::Changing };
    }
    Ok(last)
}

async fn summary(store: &Store, chat: ChatId) -> Result<Option<SummaryRow>, Error> {
    Ok(store.summaries(&[chat]).await?.into_iter().flatten().next())
}

/// The first difference in the models that are asked for.
async fn compare(
    store: &Store,
    chat: ChatId,
    stored: Option<SummaryRow>,
    models: Models,
    only: Option<&str>,
) -> Result<Option<Difference>, Error> {
    let is_asked = |model: &str| only.is_none_or(|only| only == model);
    if is_asked("chat_summaries")
        && let Some(difference) = differs("chat_summaries", &stored.map(rows::summary), &models.summary)
    {
        return Ok(Some(difference));
    }
    if is_asked("chat_names") {
        let name = store.chat_name(chat).await?.map(|row| (row.seq, row.name));
        if let Some(difference) = differs("chat_names", &name, &models.name.map(|name| (name.seq, name.text))) {
            return Ok(Some(difference));
        }
    }
    if is_asked("chat_facts") {
        let facts = store.chat_facts(chat).await?;
        let policy = models.policy.map(|fact| fact.is).unwrap_or_default();
        let pins = models.pins.map(|fact| fact.is).unwrap_or_default();
        if let Some(difference) = differs("chat_facts", &(facts.policy, facts.pins), &(policy, pins)) {
            return Ok(Some(difference));
        }
    }
    if is_asked("reactions") {
        let folded = models.reactions.into_iter().filter(|(_, reaction)| !reaction.text.is_empty());
        let folded: Vec<_> = folded.map(|((seq, user), reaction)| (seq, user, reaction.text)).collect();
        let through = models.summary.as_ref().map_or(0, |summary| summary.head);
        if let Some(difference) = differs("reactions", &reactions(store, chat, through).await?, &folded) {
            return Ok(Some(difference));
        }
    }
    if is_asked("chats_by_user") {
        for (user, folded) in models.stays {
            if let Some(difference) = differs("chats_by_user", &listed(store, chat, user).await?, &Some(folded)) {
                return Ok(Some(Difference { stored: format!("of user {user}: {}", difference.stored), ..difference }));
            }
        }
    }
    if is_asked("watermarks") {
        let users: Vec<_> = models.marks.keys().copied().collect();
        let stored = store.watermarks(chat, &users).await?;
        for ((user, implied), stored) in models.marks.into_iter().zip(stored) {
            if let Some(difference) = differs("watermarks", &stored, &implied.merge(stored)) {
                return Ok(Some(Difference { stored: format!("of user {user}: {}", difference.stored), ..difference }));
            }
        }
    }
    Ok(None)
}

fn differs<T: PartialEq + Debug>(model: &'static str, stored: &T, folded: &T) -> Option<Difference> {
    (stored != folded).then(|| Difference { model, stored: format!("{stored:?}"), folded: format!("{folded:?}") })
}

async fn reactions(store: &Store, chat: ChatId, through: Seq) -> Result<Vec<(Seq, UserId, Box<str>)>, Error> {
    let (mut reactions, mut after) = (Vec::new(), 0);
    while after < through {
        let page = store.reactions(chat, after, through, REACTIONS).await?;
        reactions.extend(page.rows.into_iter().map(|row| (row.seq, row.user, row.reaction)));
        after = page.through;
    }
    Ok(reactions)
}

/// The chat in a user's list.
async fn listed(store: &Store, chat: ChatId, user: UserId) -> Result<Option<Stay>, Error> {
    let line = store.chats_of(user, Some(chat.partition()), predecessor(chat), 1).await?;
    let row = line.into_iter().find(|row| row.chat == chat);
    Ok(row.map(|row| Stay { joined_seq: row.joined_seq, left_seq: row.left_seq }))
}

#[cfg(test)]
mod tests {
    use domain::Watermark;

    use super::*;

    #[test]
    fn a_watermark_may_be_above_what_the_log_implies_and_not_below() {
        let mark = |delivered, seen| Watermark { delivered, seen, seen_ordinal: seen };
        let below = |stored: Watermark, implied: Watermark| differs("watermarks", &stored, &implied.merge(stored));
        assert_eq!(below(mark(9, 9), mark(7, 7)), None);
        assert!(below(mark(9, 6), mark(7, 7)).is_some());
        assert!(below(Watermark::default(), mark(1, 1)).is_some());
    }
}
