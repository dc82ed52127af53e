//! N10 and the end of N8, as far as they can be seen from outside: the chat list is the fold of the log.
//!
//! The list comes from the read models, which follow a moment later; held against the final histories it must agree line by
//! line, and no watermark may be below what its user was told (N8).

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use checker::{Content, SeenEntry};
use serde_json::Value;
use tokio::time::{Instant, sleep};
use witness::user_of;

use super::cast::Cast;
use super::http::{get, number_of};
use super::verdict::{Histories, Verdict};

/// Between two looks at a model that follows.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Waits until the lists agree, no longer than this; notes what does not.
pub(crate) async fn judge(
    cast: &Cast,
    api: SocketAddr,
    histories: &Histories,
    within: Duration,
    verdict: &mut Verdict,
) {
    let end = Instant::now() + within;
    for name in cast.names() {
        let (faults, lines, marks) = loop {
            let judged = look(cast, api, histories, &name).await;
            match judged {
                Ok((faults, lines, marks)) if faults.is_empty() || Instant::now() >= end => {
                    break (faults, lines, marks);
                }
                Err(error) if Instant::now() >= end => {
                    break (vec![("Rest", format!("the list of {name} cannot be read: {error:#}"))], 0, 0);
                }
                Ok(_) | Err(_) => sleep(AGAIN_AFTER).await,
            }
        };
        verdict.lines += lines;
        verdict.marks += marks;
        for (invariant, what) in faults {
            verdict.add(invariant, what, Vec::new());
        }
    }
}

type Look = (Vec<(&'static str, String)>, u64, u64);

async fn look(cast: &Cast, api: SocketAddr, histories: &Histories, name: &str) -> Result<Look> {
    let (mut faults, mut marks) = (Vec::new(), 0);
    let mut lines = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = get(cast, api, name, &format!("/v1/chats?limit=100{cursor}")).await?;
        lines.extend(page["chats"].as_array().context("no chats")?.iter().cloned());
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    let user = cast.entry().user(name);
    let echoed = cast.echoed(user);
    let of_user: Vec<_> = histories.iter().filter(|((_, reader), _)| reader == name).collect();
    for ((chat, _), entries) in &of_user {
        let Some(line) = lines.iter().find(|line| line["id"].as_str() == Some(&chat.to_string())) else {
            faults
                .push(("N10", format!("the list of {name} has no chat {chat}, whose history shows {}", entries.len())));
            continue;
        };
        let seen = number_of(&line["seen"]).context("no seen")?;
        let listed = Listed {
            head: number_of(&line["head"]).context("no head")?,
            unread: line["unread"].as_u64().context("no unread")?,
            left: line["left"].as_bool().context("no left")?,
        };
        let folded = fold(entries, user_of(user), seen);
        if listed != folded {
            faults.push(("N10", format!("in chat {chat} the list of {name} says {listed:?}, its log says {folded:?}")));
        }
        if let Some((_, told)) = echoed.get(chat) {
            marks += 1;
            if seen < *told {
                faults.push(("N8", format!("{name} was told to have seen chat {chat} through {told}; it is {seen}")));
            }
        }
    }
    let known = |line: &&Value| of_user.iter().any(|((chat, _), _)| line["id"].as_str() == Some(&chat.to_string()));
    let watched = cast.chats();
    for line in lines.iter().filter(|line| !known(line)) {
        if watched.iter().any(|chat| line["id"].as_str() == Some(&chat.to_string())) {
            faults.push(("N10", format!("the list of {name} has chat {}, which it cannot read", line["id"])));
        }
    }
    Ok((faults, of_user.len() as u64, marks))
}

/// What a line of the list says that follows from the log and one watermark.
#[derive(Debug, PartialEq, Eq)]
struct Listed {
    head: u64,
    unread: u64,
    left: bool,
}

/// The line that these entries, which are all that the user may see, come to.
fn fold(entries: &[SeenEntry], user: checker::User, seen: u64) -> Listed {
    let last = entries.last();
    let left = entries.iter().rev().find_map(|entry| match &entry.event {
        Content::MemberRemoved { user: removed } if *removed == user => Some(true),
        Content::MemberLeft if entry.sender == user => Some(true),
        Content::MemberAdded { user: added, .. } if *added == user => Some(false),
        Content::ChatCreated { .. } => Some(false),
        Content::MemberAdded { .. }
        | Content::MemberRemoved { .. }
        | Content::MemberLeft
        | Content::Message
        | Content::Edited { .. }
        | Content::Deleted { .. }
        | Content::Reacted { .. }
        | Content::PolicySet { .. }
        | Content::Pinned { .. }
        | Content::RoleSet { .. }
        | Content::ChatRenamed
        | Content::OwnershipTransferred { .. }
        | Content::ImportBegun { .. }
        | Content::ImportEnded { .. } => None,
    });
    // The ordinal at a seq that is not shown is that of the entry before it.
    let ordinal_at = |seq: u64| entries.iter().rev().find(|entry| entry.seq <= seq).map_or(0, |entry| entry.ordinal);
    Listed {
        head: last.map_or(0, |entry| entry.seq),
        unread: last.map_or(0, |entry| entry.ordinal).saturating_sub(ordinal_at(seen)),
        left: left.unwrap_or(false),
    }
}

#[cfg(test)]
mod tests {
    use checker::{Chat, Hash, User};

    use super::*;

    fn entry(seq: u64, ordinal: u64, event: Content) -> SeenEntry {
        let (hash, sender) = (Hash::of(b""), User::from([1; 16]));
        SeenEntry {
            chat: Chat::from([9; 16]),
            seq,
            ordinal,
            sender,
            origin: 1,
            n: seq,
            time: seq,
            hash,
            content: hash,
            changed: None,
            event,
        }
    }

    #[test]
    fn a_line_is_the_fold_of_what_its_user_may_see() {
        let user = User::from([2; 16]);
        let mut entries = vec![
            entry(4, 2, Content::MemberAdded { user, role: 0 }),
            entry(5, 3, Content::Message),
            entry(6, 4, Content::Message),
        ];
        assert_eq!(fold(&entries, user, 4), Listed { head: 6, unread: 2, left: false });
        assert_eq!(fold(&entries, user, 6), Listed { head: 6, unread: 0, left: false });
        entries.push(entry(7, 4, Content::MemberRemoved { user }));
        assert_eq!(fold(&entries, user, 5), Listed { head: 7, unread: 1, left: true });
    }
}
