//! What one address may take: connects, half-open and open sockets, and who is whom behind a proxy.

use std::net::Ipv4Addr;

use gateway::limits::{ClientLimits, Rate};
use tokio::task::JoinSet;

use super::{address, is_about_once, limited, once};
use crate::socket::peer::{Behaviour, Gateway, RawClient, within};

/// The answers to so many connects of one address, each kept open.
async fn connects(gateway: &Gateway, source: Ipv4Addr, count: usize, change: &str) -> Vec<(String, RawClient)> {
    let mut answers = Vec::new();
    for _ in 0..count {
        let mut client = RawClient::connect_from(source, gateway.address).await;
        answers.push((client.asks(change).await, client));
    }
    answers
}

fn opened(answers: &[(String, RawClient)]) -> usize {
    answers.iter().filter(|(head, _)| head.starts_with("http/1.1 101 ")).count()
}

/// How many of ten connects of one address are answered with a socket. The others must be told why.
async fn of_ten(behaviour: Behaviour, code: &str, change: impl FnOnce(&mut ClientLimits)) -> usize {
    let gateway = Gateway::start(limited(change), behaviour);
    let answers = connects(&gateway, address(1), 10, "").await;
    for (head, _) in answers.iter().filter(|(head, _)| !head.starts_with("http/1.1 101 ")) {
        // A peer that is refused before it has asked may see the end only.
        assert!(head.is_empty() || head.starts_with("http/1.1 429 "), "{head}");
        assert!(head.is_empty() || head.contains(&format!("heliograph-error: {code}\r\n")), "{head}");
        let retry_after = head.lines().find_map(|line| line.strip_prefix("retry-after: ")?.parse::<u32>().ok());
        assert!(head.is_empty() || retry_after.is_some_and(|after_s| (1..=60).contains(&after_s)), "{head}");
    }
    assert_eq!(opened(&connects(&gateway, address(2), 1, "").await), 1, "another address is served");
    opened(&answers)
}

#[tokio::test]
async fn x13_connects_of_an_address_are_bounded() {
    let code = "too_many_connects";
    assert!(is_about_once(of_ten(Behaviour::Trust, code, |limits| limits.address_connects = once(4)).await, 4));
    assert_eq!(of_ten(Behaviour::Trust, code, |limits| limits.address_connects = Rate::MAX).await, 10, "control");
}

#[tokio::test]
async fn x13_sockets_of_an_address_that_are_not_signed_in_are_bounded() {
    let code = "too_many_connects";
    let bound = |limits: &mut ClientLimits| limits.address_unauthenticated_max = 4;
    assert_eq!(of_ten(Behaviour::Authenticate, code, bound).await, 4);
    assert_eq!(of_ten(Behaviour::Authenticate, code, |_| {}).await, 10, "control: with the usual bound");
}

#[tokio::test]
async fn x13_open_sockets_of_an_address_are_bounded() {
    let code = "too_many_sockets";
    assert_eq!(of_ten(Behaviour::Trust, code, |limits| limits.address_sockets_max = 4).await, 4);
    assert_eq!(of_ten(Behaviour::Trust, code, |_| {}).await, 10, "control: with the usual bound");
}

#[tokio::test]
async fn x13_a_refused_connect_is_told_before_and_behind_a_proxy() {
    let gateway = Gateway::start(limited(|limits| limits.address_connects = once(1)), Behaviour::Trust);
    let mut waiting = JoinSet::new();
    for _ in 0..5 {
        // They ask for nothing, so that no byte of theirs is unread when they are refused.
        let mut client = RawClient::connect_from(address(1), gateway.address).await;
        waiting.spawn(async move { client.response_head().await });
    }
    // The first one is let in, and hears nothing.
    let head = within(waiting.join_next()).await.unwrap().unwrap().to_lowercase();
    assert!(head.starts_with("http/1.1 429 "), "{head}");
    assert!(head.contains("heliograph-error: too_many_connects\r\nretry-after: 1\r\n"), "{head}");

    let gateway = Gateway::start(
        limited(|limits| {
            limits.address_connects = once(1);
            limits.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        }),
        Behaviour::Trust,
    );
    let answers = connects(&gateway, address(1), 5, "X-Forwarded-For: 203.0.113.7").await;
    let (head, _) = answers.iter().find(|(head, _)| head.starts_with("http/1.1 429 ")).expect("one that is refused");
    assert!(head.contains("heliograph-error: too_many_connects\r\n"), "{head}");
    assert!(head.contains("retry-after: 1\r\n"), "{head}");
}

/// How many sockets a client gets that names another address each time, where an address gets one.
async fn with_invented_addresses(trusted_proxies: &[&str], sent: fn(usize) -> String) -> usize {
    let gateway = Gateway::start(
        limited(|limits| {
            limits.address_sockets_max = 1;
            limits.trusted_proxies = trusted_proxies.iter().map(|network| network.parse().unwrap()).collect();
        }),
        Behaviour::Trust,
    );
    let (mut count, mut kept) = (0, Vec::new());
    for number in 0..10 {
        let answers = connects(&gateway, address(1), 1, &format!("X-Forwarded-For: {}", sent(number))).await;
        count += opened(&answers);
        kept.push(answers);
    }
    count
}

#[tokio::test]
async fn x13_nobody_gets_more_by_inventing_addresses() {
    let invented = |number| format!("203.0.113.{number}");
    assert_eq!(with_invented_addresses(&[], invented).await, 1);
    assert_eq!(with_invented_addresses(&["10.0.0.0/8"], invented).await, 1);
    assert_eq!(
        with_invented_addresses(&["127.1.0.0/16"], invented).await,
        10,
        "control: whoever it is, it is believed"
    );
    // Through a proxy of ours, which appends what it saw.
    let appended = |number| format!("203.0.113.{number}, 198.51.100.1");
    assert_eq!(with_invented_addresses(&["127.1.0.0/16"], appended).await, 1);
    let garbage = |number| format!("203.0.113.{number}, unknown");
    assert_eq!(with_invented_addresses(&["127.1.0.0/16"], garbage).await, 1);
}

#[tokio::test]
async fn x13_clients_behind_a_trusted_proxy_are_counted_each_for_itself() {
    let one_each = |trusted: &[&str]| {
        limited(|limits| {
            limits.address_sockets_max = 1;
            limits.trusted_proxies = trusted.iter().map(|network| network.parse().unwrap()).collect();
        })
    };
    let gateway = Gateway::start(one_each(&["127.0.0.0/8"]), Behaviour::Trust);
    let control = Gateway::start(one_each(&[]), Behaviour::Trust);
    let (mut kept, mut served, mut served_by_control) = (Vec::new(), 0, 0);
    for client in ["203.0.113.1", "203.0.113.2", "2001:db8:0:1::1", "2001:db8:0:2::1"] {
        let change = format!("X-Forwarded-For: {client}");
        let answers = connects(&gateway, address(1), 1, &change).await;
        served += opened(&answers);
        kept.push(answers);
        let answers = connects(&control, address(1), 1, &change).await;
        served_by_control += opened(&answers);
        kept.push(answers);
    }
    assert_eq!((served, served_by_control), (4, 1), "control: an unlisted proxy is one client");
}
