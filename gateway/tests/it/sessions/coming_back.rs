//! A client that lost its socket goes on with its session, or begins anew: never with a hole (M24).

use domain::Seq;
use gateway::socket::{CloseCode, SubProtocol};
use proto::relay::push;
use proto::v1::client_frame::Frame as Ask;
use proto::v1::server_frame::Frame;
use proto::v1::{Authenticate, ErrorCode, Resume, Resumed, Watermark};

use super::client::{Client, authenticate_as, message};
use super::owner::Owner;
use super::revoking::{revocation, revoke};
use super::setup::{Chat, Deployment};

over_each_sub_protocol! {
    what_was_pushed_meanwhile_comes_behind_the_welcome_and_nothing_is_announced,
    what_a_lost_socket_took_with_it_comes_again,
    a_socket_that_is_not_known_to_be_lost_is_replaced,
    what_became_ready_without_a_socket_comes_over_the_next,
    too_much_missed_means_a_new_session,
    a_session_that_nobody_comes_back_to_ends,
    only_the_same_user_on_the_same_device_goes_on,
    a_session_that_was_meant_to_end_is_over,
    x6_a_revocation_ends_the_sessions_without_a_socket_too,
    a_signed_in_socket_has_its_session_already,
}

const DEVICE: &str = "phone";
/// The pushes of a client that is settled: one ready, one list that is current at once.
const SETTLED: u64 = 2;

/// One owner, and a client of user 1 that has had [`SETTLED`] pushes.
async fn settled(deployment: &Deployment) -> (Owner, Client) {
    let mut owner = Owner::start(&deployment.log, deployment.epoch, 5).await;
    let mut client = deployment.connect().await;
    client.sign_in_as(&deployment.token(1), DEVICE).await.unwrap();
    owner.mirrors(&[client.session]).await;
    owner.ack(owner.version, 0).await;
    client.until(|_, frame| matches!(frame, Frame::Ready(_)).then_some(())).await;
    client.until(|_, frame| if let Frame::Heads(heads) = frame { heads.current.then_some(()) } else { None }).await;
    (owner, client)
}

async fn entries(owner: &mut Owner, chat: &mut Chat, count: usize, session: u64) {
    for _ in 0..count {
        owner.push(vec![(push::What::Entry(chat.message().bytes), vec![session])]).await;
    }
}

/// The seq of the next push, which is an entry.
async fn pushed(client: &mut Client) -> Seq {
    client
        .until(|id, frame| match frame {
            Frame::Pushed(pushed) if id == 0 => Some(pushed.entry.unwrap().seq),
            other => panic!("{other:?}"),
        })
        .await
}

/// A new socket of this client that asks for the session.
async fn back(deployment: &Deployment, resume: Resume) -> (Client, Option<Resumed>) {
    let mut client = deployment.connect().await;
    let welcome = client.come_back(&deployment.token(1), DEVICE, resume).await;
    assert_eq!(welcome.resumed.is_some(), welcome.session == resume.session);
    (client, welcome.resumed)
}

/// Returns once the gateway has taken everything that the owner sent it.
async fn taken(owner: &mut Owner, witness: &mut Client) {
    let mark = Watermark { seen: rand::random(), ..Watermark::default() };
    owner.push(vec![(push::What::Watermark(mark.clone()), vec![witness.session])]).await;
    witness.until(|_, frame| (frame == Frame::Watermark(mark.clone())).then_some(())).await;
}

async fn what_was_pushed_meanwhile_comes_behind_the_welcome_and_nothing_is_announced(over: SubProtocol) {
    let deployment = Deployment::start(over).await;
    let (mut owner, client) = settled(&deployment).await;
    let mut witness = deployment.client(2).await;
    let (session, mut chat) = (client.session, Chat::new(1));
    owner.mirrors(&[session, witness.session]).await;
    let version = owner.version;
    drop(client);
    entries(&mut owner, &mut chat, 3, session).await;
    taken(&mut owner, &mut witness).await;
    let (mut client, resumed) = back(&deployment, Resume { session, pushes: SETTLED }).await;
    assert_eq!(resumed, Some(Resumed { pushes: SETTLED + 3 }));
    entries(&mut owner, &mut chat, 1, session).await;
    // No `ready` and no list in between: nothing was read to bring it up to date.
    for seq in 1..=4 {
        assert_eq!(pushed(&mut client).await, seq);
    }
    owner.mirrors(&[session, witness.session]).await;
    assert_eq!(owner.version, version);
    deployment.stop().await;
}

async fn what_a_lost_socket_took_with_it_comes_again(over: SubProtocol) {
    let deployment = Deployment::start(over).await;
    let (mut owner, mut client) = settled(&deployment).await;
    let (session, mut chat) = (client.session, Chat::new(1));
    entries(&mut owner, &mut chat, 5, session).await;
    for seq in 1..=5 {
        assert_eq!(pushed(&mut client).await, seq);
    }
    drop(client);
    // Of the five it has kept two, say; and again, for it loses that socket too.
    for received in [SETTLED + 2, SETTLED + 3, SETTLED + 5] {
        let (mut client, resumed) = back(&deployment, Resume { session, pushes: received }).await;
        assert_eq!(resumed, Some(Resumed { pushes: SETTLED + 5 }));
        for seq in received + 1 - SETTLED..=5 {
            assert_eq!(pushed(&mut client).await, seq);
        }
    }
    deployment.stop().await;
}

async fn a_socket_that_is_not_known_to_be_lost_is_replaced(over: SubProtocol) {
    let deployment = Deployment::start(over).await;
    let (mut owner, mut before) = settled(&deployment).await;
    let (session, mut chat) = (before.session, Chat::new(1));
    let (mut client, resumed) = back(&deployment, Resume { session, pushes: SETTLED }).await;
    assert_eq!(resumed, Some(Resumed { pushes: SETTLED }));
    assert_eq!(before.closed().await, (vec![], CloseCode::Replaced.number()));
    // The end of the older socket is not the end of the session.
    drop(before);
    let mut witness = deployment.client(2).await;
    owner.mirrors(&[session, witness.session]).await;
    entries(&mut owner, &mut chat, 1, session).await;
    assert_eq!(pushed(&mut client).await, 1);
    taken(&mut owner, &mut witness).await;
    deployment.stop().await;
}

async fn what_became_ready_without_a_socket_comes_over_the_next(over: SubProtocol) {
    let deployment = Deployment::start(over).await;
    let mut owner = Owner::start(&deployment.log, deployment.epoch, 5).await;
    let mut client = deployment.connect().await;
    client.sign_in_as(&deployment.token(1), DEVICE).await.unwrap();
    let session = client.session;
    owner.mirrors(&[session]).await;
    drop(client);
    owner.ack(owner.version, 0).await;
    let (mut client, resumed) = back(&deployment, Resume { session, pushes: 0 }).await;
    assert!(resumed.is_some());
    client.until(|_, frame| matches!(frame, Frame::Ready(_)).then_some(())).await;
    client.until(|_, frame| if let Frame::Heads(heads) = frame { heads.current.then_some(()) } else { None }).await;
    deployment.stop().await;
}

async fn too_much_missed_means_a_new_session(over: SubProtocol) {
    let deployment = Deployment::start_with(over, |config, _| {
        config.resume.pushes_max = 8;
        config.resume.pushes_bytes_max = 4_096;
    })
    .await;
    let (mut owner, client) = settled(&deployment).await;
    let mut witness = deployment.client(2).await;
    let (session, mut chat) = (client.session, Chat::new(1));
    owner.mirrors(&[session, witness.session]).await;
    drop(client);
    entries(&mut owner, &mut chat, 9, session).await;
    taken(&mut owner, &mut witness).await;
    for (pushes, goes_on) in [(SETTLED, false), (SETTLED + 10, false), (u64::MAX, false), (SETTLED + 1, true)] {
        let (_, resumed) = back(&deployment, Resume { session, pushes }).await;
        assert_eq!(resumed.is_some(), goes_on, "after {pushes}");
    }
    // One that is larger than all that is kept is missed, whatever else there is.
    let large = chat.entry(domain::Event::MessageSent(domain::Message::plain(vec![b'x'; 5_000])));
    owner.push(vec![(push::What::Entry(large.bytes), vec![session])]).await;
    taken(&mut owner, &mut witness).await;
    assert_eq!(back(&deployment, Resume { session, pushes: SETTLED + 9 }).await.1, None);
    assert_eq!(back(&deployment, Resume { session: session + 1, pushes: 0 }).await.1, None, "no such session");
    deployment.stop().await;
}

async fn a_session_that_nobody_comes_back_to_ends(over: SubProtocol) {
    let deployment = Deployment::start_with(over, |config, _| {
        config.resume.within_ms = 1_000;
        config.resume.sessions_max = 2;
    })
    .await;
    let mut owner = Owner::start(&deployment.log, deployment.epoch, 5).await;
    let mut sessions = Vec::new();
    for n in 1..=3 {
        let client = deployment.client(n).await;
        owner.until("it to be announced", |owner| owner.sessions.contains_key(&client.session)).await;
        sessions.push(client.session);
    }
    // The first to lose its socket makes room for the third, well before its time; then time ends them all.
    owner.until("the first to end", |owner| !owner.sessions.contains_key(&sessions[0])).await;
    owner.mirrors(&[]).await;
    let (_, resumed) = back(&deployment, Resume { session: sessions[2], pushes: 0 }).await;
    assert_eq!(resumed, None);
    deployment.stop().await;
}

async fn only_the_same_user_on_the_same_device_goes_on(over: SubProtocol) {
    let deployment = Deployment::start(over).await;
    let (_owner, client) = settled(&deployment).await;
    let resume = Resume { session: client.session, pushes: SETTLED };
    drop(client);
    for (n, device) in [(2, DEVICE), (1, "tablet"), (1, "")] {
        let mut client = deployment.connect().await;
        let welcome = client.come_back(&deployment.token(n), device, resume).await;
        assert_eq!((welcome.resumed, welcome.session == resume.session), (None, false), "{n} on {device}");
    }
    assert!(back(&deployment, resume).await.1.is_some());
    deployment.stop().await;
}

async fn a_session_that_was_meant_to_end_is_over(over: SubProtocol) {
    let deployment = Deployment::start(over).await;
    let (mut owner, mut client) = settled(&deployment).await;
    let session = client.session;
    client.leave().await;
    owner.mirrors(&[]).await;
    assert_eq!(back(&deployment, Resume { session, pushes: SETTLED }).await.1, None);

    // By a fault of its client.
    let mut client = deployment.client(1).await;
    client.send_bytes(b"x".as_slice().into()).await;
    assert_eq!(client.closed().await.1, CloseCode::BadFrame.number());
    let session = client.session;
    drop(client);
    assert_eq!(back(&deployment, Resume { session, pushes: 0 }).await.1, None);
    deployment.stop().await;
}

async fn x6_a_revocation_ends_the_sessions_without_a_socket_too(over: SubProtocol) {
    let deployment = Deployment::start(over).await;
    let (mut owner, client) = settled(&deployment).await;
    let other = deployment.client(2).await;
    let (session, unnamed) = (client.session, other.session);
    drop((client, other));
    revoke(&deployment, "1", revocation(1, "", "")).await;
    owner.mirrors(&[unnamed]).await;
    assert!(!owner.sessions.contains_key(&session));
    deployment.stop().await;
}

async fn a_signed_in_socket_has_its_session_already(over: SubProtocol) {
    let deployment = Deployment::start(over).await;
    let (_owner, mut client) = settled(&deployment).await;
    let resume = Some(Resume { session: client.session, pushes: SETTLED });
    let Ask::Authenticate(renewal) = authenticate_as(&deployment.token(1), DEVICE) else { panic!("it is one") };
    let id = client.ask(Ask::Authenticate(Authenticate { resume, ..renewal })).await;
    assert_eq!(client.reply(id).await, Some(ErrorCode::BadRequest));
    let id = client.ask(message(super::setup::chat(1), 1, "still here")).await;
    assert_eq!(client.reply(id).await, None);
    deployment.stop().await;
}
