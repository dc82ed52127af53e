//! Everybody at once, as after an outage: so many come in, and the others hear when to come again.

use gateway::limits::Rate;
use gateway::socket::Config;

use super::{is_about_once, once};
use crate::socket::peer::{Behaviour, Gateway, RawClient, config};

const CROWD: usize = 40;
const BURST: usize = 10;
/// Those from here on are refused, though the machine stood still for some seconds.
const REFUSED_FROM: usize = BURST + 4;

/// This many connections of a peer that no limit of an address holds for; none has asked for anything yet.
async fn crowd(admissions: Rate) -> (Gateway, Vec<RawClient>) {
    let gateway = Gateway::start(Config { admissions, ..config() }, Behaviour::Trust);
    let mut clients = Vec::new();
    for _ in 0..CROWD {
        clients.push(RawClient::connect(gateway.address).await);
    }
    (gateway, clients)
}

async fn opened(clients: &mut [RawClient]) -> usize {
    let mut opened = 0;
    for client in clients {
        opened += usize::from(client.asks("").await.starts_with("http/1.1 101 "));
    }
    opened
}

#[tokio::test]
async fn x13_a_crowd_is_let_in_at_a_rate_and_the_rest_told_when_to_come_again() {
    let (_gateway, mut clients) = crowd(once(BURST as u32)).await;
    let mut times_s = Vec::new();
    // Connections that send nothing have taken what there was.
    for client in &mut clients[REFUSED_FROM..] {
        let head = client.response_head().await.to_lowercase();
        assert!(head.starts_with("http/1.1 503 ") && head.contains("heliograph-error: overloaded\r\n"), "{head}");
        let retry_after = head.lines().find_map(|line| line.strip_prefix("retry-after: ")?.parse::<u32>().ok());
        times_s.push(retry_after.expect("a time"));
    }
    assert!(times_s.iter().all(|time_s| (1..=1 + BURST as u32).contains(time_s)), "{times_s:?}");
    assert!(times_s.iter().any(|time_s| *time_s != times_s[0]), "they come back together: {times_s:?}");
    assert!(is_about_once(opened(&mut clients[..REFUSED_FROM]).await, BURST));
    let (_gateway, mut clients) = crowd(Rate::MAX).await;
    assert_eq!(opened(&mut clients).await, CROWD, "control: without the bound");
}
