//! The machine's rows as the store has them, and back.

use domain::{ChatId, Epoch, Partition, Seq, UserId};
use store::{Checkpoint, FactRow, NameRow, Projection, ReactionRow, Reader, SummaryRow, UserChatRow};

use crate::machine::{Fact, Name, Preview, Projected, Reaction, Stay, Summary};

/// One write of the models.
pub(crate) fn projection(projected: Projected, partition: Partition, epoch: Epoch) -> Projection {
    let policies = projected.policies.into_iter().map(|(chat, fact)| fact_row(chat, fact, store::Fact::Policy));
    let pins = projected.pins.into_iter().map(|(chat, fact)| fact_row(chat, fact, store::Fact::Pins));
    Projection {
        reader: Reader::Projections,
        partition,
        user_chats: projected.stays.into_iter().map(user_chat).collect(),
        summaries: projected.summaries.into_iter().map(|(chat, summary)| row(chat, summary)).collect(),
        names: projected.names.into_iter().map(name).collect(),
        facts: policies.chain(pins).collect(),
        reactions: projected.reactions.into_iter().map(reaction).collect(),
        deleted: projected.deleted,
        watermarks: projected.watermarks,
        checkpoint: Checkpoint { epoch, events: projected.events, statuses: projected.statuses },
    }
}

fn user_chat((user, chat, stay): (UserId, ChatId, Stay)) -> UserChatRow {
    UserChatRow { user, chat, joined_seq: stay.joined_seq, left_seq: stay.left_seq }
}

pub(crate) fn summary(row: SummaryRow) -> Summary {
    Summary {
        head: row.head,
        ordinal: row.ordinal,
        first_seq: row.first_seq,
        preview: row.preview.map(|store::Preview { seq, sender, time, length, body, deleted }| Preview {
            seq,
            sender,
            time,
            length,
            body,
            deleted,
        }),
        activity: row.activity,
        kind: row.kind,
    }
}

fn name((chat, Name { seq, text }): (ChatId, Name)) -> NameRow {
    NameRow { chat, seq, name: text }
}

fn fact_row<T>(chat: ChatId, Fact { seq, is }: Fact<T>, kind: fn(T) -> store::Fact) -> FactRow {
    FactRow { chat, seq, fact: kind(is) }
}

fn reaction(((chat, seq, user), Reaction { text, by }): ((ChatId, Seq, UserId), Reaction)) -> ReactionRow {
    ReactionRow { chat, seq, user, reaction: text, by }
}

fn row(chat: ChatId, summary: Summary) -> SummaryRow {
    SummaryRow {
        chat,
        head: summary.head,
        ordinal: summary.ordinal,
        first_seq: summary.first_seq,
        preview: summary.preview.map(|Preview { seq, sender, time, length, body, deleted }| store::Preview {
            seq,
            sender,
            time,
            length,
            body,
            deleted,
        }),
        activity: summary.activity,
        kind: summary.kind,
    }
}
