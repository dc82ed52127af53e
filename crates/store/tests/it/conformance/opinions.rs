//! What holds in chats, and what people think of messages.

use domain::{ChatId, Policy, Seq, UserId};
use store::{ChatFacts, Fact, FactRow, Projection, REACTION_SEQS_MAX, ReactionRow, Store};

use crate::rows::{new_chat, new_partition, new_user, projection};

/// Past one bucket of a CQL engine.
const FAR: Seq = 4_096;

fn reaction(chat: ChatId, seq: Seq, user: UserId, reaction: &str, by: Seq) -> ReactionRow {
    ReactionRow { chat, seq, user, reaction: reaction.into(), by }
}

async fn think(store: &Store, chat: ChatId, reactions: Vec<ReactionRow>, deleted: Vec<(ChatId, Seq, Seq)>) {
    let bare = projection(chat.partition().0, 1, 1, 1);
    store.project(Projection { reactions, deleted, ..bare }).await.unwrap();
}

pub(crate) async fn a_fact_is_what_the_latest_entry_says(store: &Store) {
    let partition = new_partition();
    let (chat, other) = (new_chat(partition), new_chat(partition));
    assert_eq!(store.chat_facts(chat).await.unwrap(), ChatFacts::default());
    let say = async |seq, fact| {
        let facts = vec![FactRow { chat, seq, fact }];
        store.project(Projection { facts, ..projection(partition, 1, seq, 1) }).await.unwrap();
    };
    let policy = Policy { members_add: true, slow_mode_s: 30 };
    say(5, Fact::Policy(policy)).await;
    say(6, Fact::Pins(vec![9, 2])).await;
    // What comes late says what was.
    say(4, Fact::Policy(Policy::default())).await;
    say(3, Fact::Pins(vec![2])).await;
    assert_eq!(store.chat_facts(chat).await.unwrap(), ChatFacts { policy, pins: vec![9, 2] });
    say(7, Fact::Pins(Vec::new())).await;
    assert_eq!(store.chat_facts(chat).await.unwrap(), ChatFacts { policy, pins: Vec::new() });
    assert_eq!(store.chat_facts(other).await.unwrap(), ChatFacts::default());
}

pub(crate) async fn of_each_user_a_message_has_the_latest_reaction(store: &Store) {
    let partition = new_partition();
    let (chat, other) = (new_chat(partition), new_chat(partition));
    let mut users = [new_user(), new_user(), new_user()];
    users.sort_unstable();
    let [one, two, three] = users;
    let first = vec![
        reaction(chat, 2, two, "+", 5),
        reaction(chat, 2, one, "👍🏽", 6),
        reaction(chat, 3, one, "-", 7),
        reaction(other, 2, three, "?", 5),
    ];
    think(store, chat, first, Vec::new()).await;
    let late = vec![reaction(chat, 2, two, "before", 4), reaction(chat, 2, one, "+", 9), reaction(chat, 3, one, "", 8)];
    think(store, chat, late, Vec::new()).await;
    let expected = [reaction(chat, 2, one, "+", 9), reaction(chat, 2, two, "+", 5)];
    for (after, through) in [(0, Seq::MAX), (1, 2), (1, 3)] {
        let page = store.reactions(chat, after, through, 10).await.unwrap();
        assert_eq!((&page.rows[..], page.through), (&expected[..], through.min(after + REACTION_SEQS_MAX)));
    }
    assert_eq!(store.reactions(chat, 2, 9, 10).await.unwrap().rows, [], "taken away");
    for nothing in [(2, 2), (3, 2), (Seq::MAX, Seq::MAX)] {
        let page = store.reactions(chat, nothing.0, nothing.1, 10).await.unwrap();
        assert_eq!((page.rows, page.through), (Vec::new(), nothing.1));
    }
}

pub(crate) async fn a_deleted_message_has_no_reactions_and_gets_none(store: &Store) {
    let (partition, user) = (new_partition(), new_user());
    let chat = new_chat(partition);
    let before = || vec![reaction(chat, 2, user, "+", 5), reaction(chat, 3, user, "+", 6)];
    think(store, chat, before(), Vec::new()).await;
    think(store, chat, Vec::new(), vec![(chat, 2, 8)]).await;
    assert_eq!(store.reactions(chat, 0, 9, 10).await.unwrap().rows, [reaction(chat, 3, user, "+", 6)]);
    // Both in one write, as a fold that goes on from an earlier checkpoint has them.
    think(store, chat, before(), vec![(chat, 2, 8)]).await;
    assert_eq!(store.reactions(chat, 0, 9, 10).await.unwrap().rows, [reaction(chat, 3, user, "+", 6)]);
}

pub(crate) async fn a_page_of_reactions_ends_with_a_whole_message(store: &Store) {
    let partition = new_partition();
    let chat = new_chat(partition);
    // Across the end of a bucket: three, five, one, and one far away.
    let counts = [(FAR - 2, 3), (FAR - 1, 5), (FAR, 1), (FAR + 1_500, 2)];
    let mut all = Vec::new();
    for (seq, count) in counts {
        let mut users: Vec<_> = (0..count).map(|_| new_user()).collect();
        users.sort_unstable();
        all.extend(users.into_iter().map(|user| reaction(chat, seq, user, "+", FAR + 9)));
    }
    think(store, chat, all.clone(), Vec::new()).await;
    for limit in 1..=12 {
        let (mut rows, mut after) = (Vec::new(), 0);
        while after < FAR + 2_000 {
            let page = store.reactions(chat, after, FAR + 2_000, limit).await.unwrap();
            assert!(page.through > after && page.through <= after + REACTION_SEQS_MAX, "{limit}: {page:?}");
            assert!(page.rows.iter().all(|row| (after + 1..=page.through).contains(&row.seq)), "{limit}: {page:?}");
            let messages = page.rows.chunk_by(|one, other| one.seq == other.seq).count();
            assert!(page.rows.len() <= limit + 5 || messages <= 1, "{limit}: {page:?}");
            rows.extend(page.rows);
            after = page.through;
        }
        assert_eq!(rows, all, "{limit}");
    }
}
