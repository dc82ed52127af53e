//! RFC 6455 as a table of cases, each over a real connection to a real gateway.
//!
//! ```text
//! framing, pings, headers, fragments, utf8, closing, limits, ours ─▶ table ─▶ client ─▶ verdict
//! ```
//! The ids are those of the Autobahn test suite's groups 1–7, 9 and 10, so that the two can be compared; what is
//! sent and what must come back is written down here anew. `h.…` are cases of our own that no such id covers.
//! Where the RFC leaves a choice, the case says what the gateway promises, which may be more than the suite asks.
//!
//! The same table runs against stock fastwebsockets and must fail there on exactly the known ids: a table that
//! nothing can fail would prove nothing.

mod client;
mod closing;
mod control;
mod fragments;
mod framing;
mod gateway;
mod headers;
mod limits;
mod ours;
mod pings;
mod table;
mod utf8;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use futures_util::StreamExt as _;

use self::client::{Judged, Verdict, judge};
use self::table::Case;

/// Cases at once: enough that none waits for another's round trip, few enough for the memory of the large ones.
const AT_ONCE: usize = 8;

/// How many cases each group of the suite has.
const GROUPS: &[(&str, usize)] =
    &[("1", 16), ("2", 11), ("3", 7), ("4", 10), ("5", 20), ("6", 145), ("7", 37), ("9", 54), ("10", 1), ("h", 14)];

/// Where stock fastwebsockets does what the RFC forbids or what we do not promise to live with, and what it does.
const CONTROL_FAILS: &[(&str, &str)] = &[
    ("7.3.6", "takes a close frame of 126 bytes, and answers with another"),
    ("h.1", "takes a message without a mask"),
    ("h.2", "takes a ping without a mask"),
    ("h.3", "takes a pong of 126 bytes"),
    ("h.4", "takes a length that is not minimal"),
    ("h.5", "takes a length that is not minimal"),
    ("h.8", "has no limit for the sum of fragments"),
    ("h.9", "has no limit for the number of fragments"),
    ("h.10", "loses the first part of the interrupted message"),
    ("h.11", "cuts the open character off and takes the rest"),
    ("h.12", "does not know the code"),
];

/// Groups in which stock fastwebsockets says why it refuses. Elsewhere it just drops the connection, which the RFC
/// allows, but which leaves a client without a reason.
const CONTROL_SAYS_WHY: &[&str] = &["7.9.", "7.13."];

fn table() -> Vec<Case> {
    let mut table = Vec::new();
    framing::add(&mut table);
    pings::add(&mut table);
    headers::add(&mut table);
    fragments::add(&mut table);
    utf8::add(&mut table);
    closing::add(&mut table);
    limits::add(&mut table);
    ours::add(&mut table);
    table
}

/// Runs the whole table and prints it.
#[expect(clippy::print_stdout, reason = "the table is what the test reports")]
async fn run(name: &str, address: SocketAddr) -> Vec<Judged> {
    let mut running = futures_util::stream::iter(table())
        .map(|case| async move { (judge(address, &case).await, case.about) })
        .buffered(AT_ONCE);
    let mut all = Vec::new();
    while let Some((judged, about)) = running.next().await {
        println!("{name:14} {:7} {} {about}", judged.id, judged.verdict);
        all.push(judged);
    }
    all
}

fn ids(judged: &[Judged], wanted: impl Fn(&Judged) -> bool) -> Vec<&str> {
    judged.iter().filter(|judged| wanted(judged)).map(|judged| &judged.id[..]).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateway_passes_every_case() {
    let gateway = gateway::Echo::start();
    let judged = run("gateway", gateway.address).await;
    let failed: Vec<_> = judged.iter().filter(|judged| judged.verdict != Verdict::Passed).collect();
    assert!(failed.is_empty(), "{} of {} failed: {failed:#?}", failed.len(), judged.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stock_fastwebsockets_fails_exactly_where_it_is_known_to_be_wrong() {
    let address = control::start().await;
    let judged = run("fastwebsockets", address).await;
    let failed: Vec<_> = judged.iter().filter(|judged| matches!(judged.verdict, Verdict::Failed(_))).collect();
    let expected: Vec<_> = CONTROL_FAILS.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids(&judged, |judged| matches!(judged.verdict, Verdict::Failed(_))), expected, "{failed:#?}");
    let says_why = |id: &str| CONTROL_SAYS_WHY.iter().any(|group| id.starts_with(group));
    let silent = ids(&judged, |judged| judged.refuses && !says_why(&judged.id) && !expected.contains(&&judged.id[..]));
    assert!(!silent.is_empty());
    assert_eq!(ids(&judged, |judged| judged.verdict == Verdict::Dropped), silent);
}

#[test]
fn every_case_of_every_group_is_there_once() {
    let mut counts = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for case in table() {
        let group = case.id.split('.').next().unwrap().to_owned();
        *counts.entry(group).or_insert(0) += 1;
        assert!(seen.insert(case.id.clone()), "{} is there twice", case.id);
    }
    let expected: BTreeMap<_, _> = GROUPS.iter().map(|(group, count)| ((*group).to_owned(), *count)).collect();
    assert_eq!(counts, expected);
}
