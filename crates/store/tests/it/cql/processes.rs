//! Several engines over one keyspace, as processes of roles are.

use domain::UserId;
use store::{Store, UserRow};

use super::open;
use crate::rows::{append, at, later, new_chat, new_partition, new_text, new_user, rows, stay, user_row};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Cassandra: `cargo xtask test cql`"]
async fn who_waits_for_a_row_gets_it_from_another_process() {
    let ((reader, ()), (writer, ())) = (open().await, open().await);
    let (user, chat) = (new_user(), new_chat(new_partition()));
    let waiting = tokio::spawn(async move { reader.members(chat, 2, later()).await });
    let mut write = append(chat, at(1, 2), rows(chat, user, 1..=2));
    write.chats[0].members.push(stay(chat, user, 1, None));
    writer.append(write).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), [stay(chat, user, 1, None)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Cassandra: `cargo xtask test cql`"]
async fn of_claims_in_two_processes_exactly_one_wins() {
    let stores = [open().await.0, open().await.0];
    for _ in 0..5 {
        let handle = new_text("race");
        let claims: Vec<_> = (0..12)
            .map(|turn| {
                let (store, user, handle) = (stores[turn % 2].clone(), new_user(), handle.clone());
                tokio::spawn(async move { (user, store.claim_handle(&handle, user).await.unwrap()) })
            })
            .collect();
        let mut answers: Vec<(UserId, UserId)> = Vec::new();
        for claim in claims {
            answers.push(claim.await.unwrap());
        }
        assert!(answers.iter().all(|(_, told)| *told == answers[0].1), "{answers:?}");
        assert_eq!(answers.iter().filter(|(user, told)| user == told).count(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Cassandra: `cargo xtask test cql`"]
async fn a_counter_in_two_processes_loses_no_step() {
    let stores = [open().await.0, open().await.0];
    let user = new_user();
    assert!(stores[0].put_user(UserRow { created_us: 0, ..user_row(user, "0") }, 0).await.unwrap());
    let count = async |store: Store| {
        let mut steps = 0;
        while steps < 10 {
            let row = store.user(user).await.unwrap().unwrap();
            let expected = row.version;
            let next = UserRow { created_us: row.created_us + 1, ..row };
            steps += u64::from(store.put_user(next, expected).await.unwrap());
        }
    };
    tokio::join!(count(stores[0].clone()), count(stores[1].clone()));
    let row = stores[0].user(user).await.unwrap().unwrap();
    assert_eq!((row.created_us, row.version), (20, 21));
}
