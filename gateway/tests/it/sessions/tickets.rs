//! Tickets in the place of tokens.

use std::time::Duration;

use futures_util::future::join_all;
use gateway::socket::{CloseCode, SubProtocol};
use proto::v1::client_frame::Frame as Ask;
use proto::v1::server_frame::Frame;
use proto::v1::{self, ErrorCode};
use store::TicketRow;
use tokens::Ticket;

use super::client::{Client, authenticate_as, message};
use super::revoking::{now_s, revocation, revoke};
use super::setup::{Deployment, chat, user};

over_each_sub_protocol! {
    x2_a_ticket_lets_one_socket_in_once_as_its_token_would,
    x2_of_many_at_once_with_one_ticket_one_gets_in,
    x2_a_ticket_that_is_not_good_here_is_refused,
    x2_a_ticket_stands_alone_and_in_the_first_frame_only,
    x5_a_socket_of_a_ticket_lasts_as_long_as_the_token_that_it_stands_for,
    x6_a_ticket_of_a_sign_in_that_has_ended_lets_nobody_in,
}

const SPENT: u16 = CloseCode::TokenExpired.number();

impl Deployment {
    /// A ticket of user 1 for a device; `change` has the row before it is stored.
    async fn ticket(&self, device: &str, change: impl FnOnce(&mut TicketRow)) -> String {
        let ticket = Ticket::draw();
        let mut row = TicketRow {
            hash: ticket.hash(),
            user: user(1),
            device: device.into(),
            sign_in: "a".into(),
            issued_s: now_s(),
            token_expires_s: now_s() + 600,
            expires_us: (now_s() + 30) * 1_000_000,
        };
        change(&mut row);
        self.store.put_ticket(row).await.unwrap();
        ticket.text()
    }

    /// What a socket gets that comes with this ticket as this device.
    async fn comes_with(&self, ticket: &str, device: &str) -> Result<(Client, v1::Welcome), (Vec<ErrorCode>, u16)> {
        let mut client = self.connect().await;
        client.ask(ticketed(ticket, device)).await;
        match client.next().await {
            Ok(v1::ServerFrame { frame: Some(Frame::Welcome(welcome)), .. }) => Ok((client, welcome)),
            Ok(v1::ServerFrame { frame: Some(Frame::Error(error)), .. }) => {
                let (_, code) = client.closed().await;
                Err((vec![error.code()], code))
            }
            other => panic!("{other:?}"),
        }
    }
}

fn ticketed(ticket: &str, device: &str) -> Ask {
    let (ticket, device) = (ticket.to_owned(), device.to_owned());
    Ask::Authenticate(v1::Authenticate { ticket, device, ..Default::default() })
}

async fn goes_on(client: &mut Client, n: u64) {
    let id = client.ask(message(chat(1), n, "still here")).await;
    assert_eq!(client.reply(id).await, None);
}

async fn x2_a_ticket_lets_one_socket_in_once_as_its_token_would(over: SubProtocol) {
    let deployment = Deployment::start(over).await;
    let expires_s = now_s() + 77;
    let ticket = deployment.ticket("phone", |row| row.token_expires_s = expires_s).await;
    let (mut client, welcome) = deployment.comes_with(&ticket, "phone").await.unwrap();
    assert_eq!((welcome.user, welcome.expires_us), (user(1).to_wire(), expires_s * 1_000_000));
    goes_on(&mut client, 1).await;
    for device in ["phone", "tablet"] {
        let refused = deployment.comes_with(&ticket, device).await.err().unwrap();
        assert_eq!(refused, (vec![ErrorCode::Unauthenticated], SPENT), "taken twice");
    }
    goes_on(&mut client, 2).await;
    // One of a token for any device is for any device.
    let ticket = deployment.ticket("", |_| {}).await;
    deployment.comes_with(&ticket, "another").await.unwrap();
    deployment.stop().await;
}

async fn x2_of_many_at_once_with_one_ticket_one_gets_in(over: SubProtocol) {
    let deployment = Deployment::start(over).await;
    let ticket = deployment.ticket("", |_| {}).await;
    let devices: Vec<_> = (0..12).map(|n| format!("device {n}")).collect();
    let outcomes = join_all(devices.iter().map(|device| deployment.comes_with(&ticket, device))).await;
    let refused = (vec![ErrorCode::Unauthenticated], SPENT);
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert!(outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).all(|outcome| *outcome == refused));
    deployment.stop().await;
}

async fn x2_a_ticket_that_is_not_good_here_is_refused(over: SubProtocol) {
    let deployment = Deployment::start(over).await;
    let late = deployment.ticket("phone", |row| row.expires_us = (now_s() - 1) * 1_000_000).await;
    let foreign = deployment.ticket("tablet", |_| {}).await;
    let cases = [
        (late.clone(), CloseCode::TokenExpired),
        (Ticket::draw().text(), CloseCode::TokenExpired),
        ("nonsense".to_owned(), CloseCode::TokenExpired),
        (deployment.token(1), CloseCode::TokenExpired),
        (foreign.clone(), CloseCode::Unauthenticated),
    ];
    for (ticket, code) in cases {
        let refused = deployment.comes_with(&ticket, "phone").await.err().unwrap();
        assert_eq!(refused, (vec![ErrorCode::Unauthenticated], code.number()));
    }
    // Who tried it as another device has used it up.
    assert_eq!(deployment.comes_with(&foreign, "tablet").await.err().unwrap().1, SPENT);
    // The other way round no better: a ticket is no token.
    let mut client = deployment.connect().await;
    let ticket = deployment.ticket("phone", |_| {}).await;
    client.ask(authenticate_as(&ticket, "phone")).await;
    let refused = (vec![ErrorCode::Unauthenticated], CloseCode::Unauthenticated.number());
    assert_eq!(client.closed().await, refused);
    deployment.comes_with(&ticket, "phone").await.expect("the control: it is good, and was not used up");
    deployment.stop().await;
}

async fn x2_a_ticket_stands_alone_and_in_the_first_frame_only(over: SubProtocol) {
    let deployment = Deployment::start(over).await;
    let ticket = deployment.ticket("phone", |_| {}).await;
    let mut client = deployment.connect().await;
    let both = v1::Authenticate {
        token: deployment.token(1),
        ticket: ticket.clone(),
        device: "phone".to_owned(),
        ..Default::default()
    };
    client.ask(Ask::Authenticate(both)).await;
    assert_eq!(client.closed().await, (vec![ErrorCode::BadRequest], CloseCode::BadFrame.number()));
    let mut client = deployment.connect().await;
    client.sign_in_as(&deployment.token(1), "phone").await.unwrap();
    let id = client.ask(ticketed(&ticket, "phone")).await;
    assert_eq!(client.reply(id).await, Some(ErrorCode::BadRequest));
    goes_on(&mut client, 1).await;
    deployment.comes_with(&ticket, "phone").await.expect("neither of them used it up");
    deployment.stop().await;
}

async fn x5_a_socket_of_a_ticket_lasts_as_long_as_the_token_that_it_stands_for(over: SubProtocol) {
    let deployment = Deployment::start_with(over, |config, _| config.renewal_grace_ms = 500).await;
    let short = |row: &mut TicketRow| row.token_expires_s = now_s() + 2;
    let (one, two) = (deployment.ticket("phone", short).await, deployment.ticket("tablet", short).await);
    let (mut left, _) = deployment.comes_with(&one, "phone").await.unwrap();
    let (mut renewed, _) = deployment.comes_with(&two, "tablet").await.unwrap();
    let token = deployment.keys.mint_for(user(1), "tablet", "a", Duration::from_secs(600)).unwrap();
    let id = renewed.ask(authenticate_as(&token, "tablet")).await;
    renewed.until(|replied, frame| (replied == id && matches!(frame, Frame::Renewed(_))).then_some(())).await;
    assert_eq!(left.closed().await, (vec![], CloseCode::TokenExpired.number()));
    goes_on(&mut renewed, 1).await;
    // Nor does a token of another device renew it.
    let foreign = deployment.keys.mint_for(user(1), "phone", "a", Duration::from_secs(600)).unwrap();
    renewed.ask(authenticate_as(&foreign, "tablet")).await;
    assert_eq!(renewed.closed().await.1, CloseCode::Unauthenticated.number());
    deployment.stop().await;
}

async fn x6_a_ticket_of_a_sign_in_that_has_ended_lets_nobody_in(over: SubProtocol) {
    let deployment = Deployment::start(over).await;
    let before = deployment.ticket("phone", |_| {}).await;
    let other = deployment.ticket("tablet", |row| row.sign_in = "b".into()).await;
    let open = deployment.ticket("laptop", |_| {}).await;
    let (mut open, _) = deployment.comes_with(&open, "laptop").await.unwrap();
    revoke(&deployment, "1", revocation(1, "", "a")).await;
    assert_eq!(open.closed().await, (vec![], CloseCode::Revoked.number()), "its socket is closed as a token's is");
    let refused = deployment.comes_with(&before, "phone").await.err().unwrap();
    assert_eq!(refused, (vec![ErrorCode::Unauthenticated], CloseCode::Revoked.number()));
    let (mut other, _) = deployment.comes_with(&other, "tablet").await.expect("the control: another sign-in");
    goes_on(&mut other, 1).await;
    deployment.stop().await;
}
