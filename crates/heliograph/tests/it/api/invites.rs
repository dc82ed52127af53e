//! Invite links: who may make them, whom they let in, how often, and by whose right.

use futures_util::future::join_all;
use serde_json::{Value, json};
use store::{InviteRow, Store, UserRow, UserState};
use testkit::wait;

use super::Person;
use super::http::Answer;
use crate::cast::SOON;
use crate::process::Up;

impl Person {
    async fn invite(&self, chat: &str, what: Value) -> Answer {
        self.http.post(&format!("/v1/chats/{chat}/invites"), what).await
    }

    async fn come_in(&self, code: &str) -> Answer {
        self.http.ask("POST", &format!("/v1/invites/{code}"), &[], None).await
    }

    async fn members(&self, chat: &str) -> Vec<Value> {
        self.http.get(&format!("/v1/chats/{chat}")).await.body["members"].as_array().unwrap().clone()
    }

    async fn put_out(&self, chat: &str, other: &Self) -> Answer {
        self.http.delete(&format!("/v1/chats/{chat}/members/{}", other.id)).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invite_lets_in_whoever_has_its_code_until_it_is_revoked() {
    let mut up = Up::new();
    up.start().await;
    let [alice, bob, carol, dave] = [(); 4].map(|()| up.somebody());
    let chat = alice.group(&[]).await;
    let made = alice.invite(&chat, json!({ "max_uses": 3 })).await;
    assert_eq!(made.status, 201, "{made:?}");
    let (id, code) = (made.text("id"), made.text("code"));
    assert_eq!(code.len(), 32, "192 bits");
    let seen = bob.http.get(&format!("/v1/invites/{code}")).await;
    assert_eq!(
        seen.body,
        json!({ "chat": chat, "kind": "group", "members": 1, "invited_by": alice.id, "expires_at": made.text("expires_at") })
    );
    let joined = bob.come_in(&code).await;
    assert_eq!((joined.status, &joined.body["seq"]), (201, &json!(2)), "{joined:?}");
    assert_eq!(bob.come_in(&code).await.body, joined.body, "the same coming in");
    let member = alice.members(&chat).await.into_iter().find(|member| member["user"] == bob.id).unwrap();
    assert_eq!((&member["role"], &member["joined_seq"]), (&json!("member"), &json!(2)));
    let page = alice.read(&chat, "at_least=2").await;
    assert_eq!(page.body["entries"][1]["sender"], alice.id, "by the right of who made it");
    assert_eq!(bob.say(&chat, "hello", "1").await.status, 201);
    let listed = alice.http.get(&format!("/v1/chats/{chat}/invites")).await;
    let mut expected = made.body.clone();
    expected["uses"] = json!(1);
    expected.as_object_mut().unwrap().remove("code");
    assert_eq!(listed.body, json!({ "invites": [expected] }), "its code is told once");
    // Who was in already uses nothing up.
    alice.http.post(&format!("/v1/chats/{chat}/members"), json!({ "user": carol.id })).await;
    let twice = carol.come_in(&code).await;
    assert_eq!((twice.status, twice.problem(), &twice.body["code"]), (409, "rejected", &json!(23)));
    assert_eq!(alice.http.get(&format!("/v1/chats/{chat}/invites")).await.body["invites"][0]["uses"], 1);
    // Who was put out needs another one.
    alice.put_out(&chat, &bob).await;
    let again = bob.come_in(&code).await;
    assert_eq!((again.status, again.problem()), (410, "invite-ended"));
    assert!(alice.members(&chat).await.iter().all(|member| member["user"] != bob.id));
    let other = alice.invite(&chat, json!({})).await.text("code");
    assert_eq!(bob.come_in(&other).await.status, 201);

    let invites = format!("/v1/chats/{chat}/invites");
    assert_eq!(alice.http.delete(&format!("{invites}/{id}")).await.status, 204);
    for answer in [
        dave.come_in(&code).await,
        dave.http.get(&format!("/v1/invites/{code}")).await,
        alice.http.delete(&format!("{invites}/{id}")).await,
        dave.come_in("nonsense").await,
        dave.come_in(&"A".repeat(32)).await,
    ] {
        assert_eq!((answer.status, answer.problem()), (404, "not-found"), "{answer:?}");
    }
    up.stop().await;
    let audit = std::fs::read_to_string(up.folder().join("audit.log")).unwrap();
    let came_in = |line: &Value| {
        line["action"] == "member_add" && [&line["user"], &line["subject"]].iter().all(|user| **user == bob.id)
    };
    let lines: Vec<Value> = audit.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let lines: Vec<_> = lines.iter().filter(|line| came_in(line)).collect();
    assert!(lines.iter().all(|line| line["chat"] == chat) && !audit.contains(&code), "{audit}");
    let of = |outcome: &str| lines.iter().filter(|line| line["outcome"] == outcome).count();
    assert_eq!((of("ok"), of("refused")), (3, 1), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_may_add_makes_lists_and_revokes_invites() {
    let mut up = Up::new();
    up.start().await;
    let [alice, bob, eve] = [(); 3].map(|()| up.somebody());
    let chat = alice.group(&[&bob]).await;
    let made = alice.invite(&chat, json!({})).await;
    let one = format!("/v1/chats/{chat}/invites/{}", made.text("id"));
    let all = format!("/v1/chats/{chat}/invites");
    for answer in [bob.invite(&chat, json!({})).await, bob.http.get(&all).await, bob.http.delete(&one).await] {
        assert_eq!(
            (answer.status, answer.problem(), &answer.body["code"]),
            (409, "rejected", &json!(18)),
            "{answer:?}"
        );
    }
    for answer in [eve.invite(&chat, json!({})).await, eve.http.get(&all).await, eve.http.delete(&one).await] {
        assert_eq!((answer.status, answer.problem()), (404, "not-found"), "{answer:?}");
    }
    let direct = json!({ "kind": "direct", "members": [{ "user": bob.id }] });
    let direct = alice.http.post("/v1/chats", direct).await.text("chat");
    assert_eq!(alice.invite(&direct, json!({})).await.problem(), "rejected", "two people, for ever");
    for bad in [
        json!({ "max_uses": 0 }),
        json!({ "max_uses": 1_001 }),
        json!({ "expires_at": "2020-01-01T00:00:00Z" }),
        json!({ "expires_at": "2999-01-01T00:00:00Z" }),
        json!({ "expires_at": "soon" }),
        json!({ "role": "owner" }),
    ] {
        assert_eq!(alice.invite(&chat, bad.clone()).await.problem(), "bad-request", "{bad}");
    }
    for _ in 1..64 {
        assert_eq!(alice.invite(&chat, json!({})).await.status, 201);
    }
    let beyond = alice.invite(&chat, json!({})).await;
    assert_eq!((beyond.status, beyond.problem()), (409, "too-many"));
    assert_eq!(alice.http.delete(&one).await.status, 204);
    assert_eq!(alice.invite(&chat, json!({})).await.status, 201);
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_twenty_who_come_at_once_an_invite_for_five_lets_five_in() {
    let mut up = Up::new();
    up.start().await;
    let alice = up.somebody();
    let chat = alice.group(&[]).await;
    let code = alice.invite(&chat, json!({ "max_uses": 5 })).await.text("code");
    let crowd: Vec<_> = (0..20).map(|_| up.somebody()).collect();
    let answers = join_all(crowd.iter().map(|one| one.come_in(&code))).await;
    let (let_in, left_out): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 201);
    assert_eq!((let_in.len(), left_out.len()), (5, 15), "{answers:?}");
    assert!(left_out.iter().all(|answer| answer.status == 410 && answer.problem() == "invite-ended"), "{left_out:?}");
    assert_eq!(alice.members(&chat).await.len(), 6);
    assert_eq!(alice.http.get(&format!("/v1/chats/{chat}/invites")).await.body["invites"][0]["uses"], 5);
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inviter_who_lost_the_right_lets_nobody_in_any_more() {
    let mut up = Up::new();
    up.start().await;
    let [alice, bob, carol, dave] = [(); 4].map(|()| up.somebody());
    let chat = alice.group(&[]).await;
    let members = format!("/v1/chats/{chat}/members");
    let admin = json!({ "user": bob.id, "role": "admin" });
    assert_eq!(alice.http.post(&members, admin).await.status, 201);
    let code = bob.invite(&chat, json!({})).await.text("code");
    assert_eq!(carol.come_in(&code).await.status, 201, "the control");
    // Back, but as one who may not add.
    alice.put_out(&chat, &bob).await;
    alice.http.post(&members, json!({ "user": bob.id })).await;
    let asked = [dave.come_in(&code).await, dave.http.get(&format!("/v1/invites/{code}")).await];
    alice.put_out(&chat, &bob).await;
    for answer in asked.into_iter().chain([dave.come_in(&code).await]) {
        assert_eq!((answer.status, answer.problem()), (410, "invite-ended"), "{answer:?}");
    }
    assert_eq!(alice.members(&chat).await.len(), 2);
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_count_and_join_the_same_user_comes_in_without_a_second_use() {
    let mut up = Up::new();
    up.start().await;
    let [alice, bob, carol, dave] = [(); 4].map(|()| up.somebody());
    let chat = alice.group(&[]).await;
    let admin = json!({ "user": dave.id, "role": "admin" });
    alice.http.post(&format!("/v1/chats/{chat}/members"), admin).await;
    let code = alice.invite(&chat, json!({ "max_uses": 1 })).await.text("code");
    let daves = dave.invite(&chat, json!({ "max_uses": 1 })).await.text("code");
    for (person, code) in [(&bob, &code), (&carol, &daves)] {
        up.kill();
        up.start_to_crash("api.invite_counted", 1).await;
        let (person, code) = (up.again(person), code.clone());
        // It never hears an answer.
        let asking = tokio::spawn(async move { person.come_in(&code).await });
        up.crashed().await;
        assert!(asking.await.is_err());
        up.start().await;
    }
    let [alice, bob, carol, dave] = [alice, bob, carol, dave].map(|person| up.again(&person));
    let uses = async || -> Vec<Value> {
        let listed = alice.http.get(&format!("/v1/chats/{chat}/invites")).await.body["invites"].clone();
        listed.as_array().unwrap().iter().map(|invite| invite["uses"].clone()).collect()
    };
    assert_eq!(uses().await, [1, 1], "they were counted");
    assert_eq!(alice.members(&chat).await.len(), 2, "and not let in");
    let late = up.somebody().come_in(&code).await;
    assert_eq!((late.status, late.problem()), (410, "invite-ended"), "its one use is taken");
    assert_eq!(bob.come_in(&code).await.status, 201);
    assert_eq!(uses().await, [1, 1]);
    // The chat decides, also of what was counted before.
    alice.put_out(&chat, &dave).await;
    let refused = carol.come_in(&daves).await;
    assert_eq!((refused.status, refused.problem()), (410, "invite-ended"));
    assert_eq!(alice.members(&chat).await.len(), 2);
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_banned_inviter_lets_nobody_in_and_what_ended_long_ago_is_swept() {
    let mut up = Up::new();
    up.start().await;
    let ((alice, _), bob) = (up.register("alice").await, up.somebody());
    let chat = alice.group(&[]).await;
    let [kept, old] = [alice.invite(&chat, json!({ "max_uses": 7 })).await, alice.invite(&chat, json!({})).await];
    let [kept, old] = [kept, old].map(|invite| invite.text("code"));
    assert_eq!(bob.http.get(&format!("/v1/invites/{kept}")).await.status, 200, "the control");
    up.stop().await;
    {
        let store = Store::open(store::Config::in_folder(up.folder().join("store"))).await.unwrap();
        let account = store.user(alice.id.parse().unwrap()).await.unwrap().unwrap();
        let version = account.version;
        assert!(store.put_user(UserRow { state: UserState::Banned, ..account }, version).await.unwrap());
        let invites = store.invites_of(chat.parse().unwrap()).await.unwrap();
        let row = invites.into_iter().find(|row| row.uses_max != 7).unwrap();
        assert!(store.remove_invite(row.hash).await.unwrap());
        assert!(store.put_invite(InviteRow { expires_us: 1, ..row }).await.unwrap());
    }
    up.start().await;
    let bob = up.again(&bob);
    for answer in [bob.http.get(&format!("/v1/invites/{kept}")).await, bob.come_in(&kept).await] {
        assert_eq!((answer.status, answer.problem()), (410, "invite-ended"), "{answer:?}");
    }
    wait::until(SOON, "the sweep", async || bob.come_in(&old).await.status == 404).await;
    up.stop().await;
}
