//! All that is kept of a user, page by page: what is kept in memory is a page, whatever the user wrote.
//!
//! ```text
//! profile, devices, sign-ins → blocks → settings → invites → chats → messages of each chat → end
//! ```
//! No password, token or hash is in it. Messages of others are theirs.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use api::rfc3339;
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Path, Query, State};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use domain::{ChatId, Event, LoggedEntry, Message, Seq, UserId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::{Store, UserRow};

use super::Shared;
use super::acted::{Action, acted};
use super::chats::kind;
use super::devices::{Device, SignIn};
use super::refusal::Refusal;
use super::serve::Peer;
use super::users::{User, find};

/// Rows of one page.
const PAGE: usize = 256;
/// Bytes of the entries that one page looks at.
const PAGE_BYTES: usize = 256 * 1024;

/// Where a page begins; as text it is opaque to whoever asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cursor {
    Blocks(Option<UserId>),
    Settings(Option<ChatId>),
    /// Behind the invite with this hash.
    Invites(Option<[u8; 32]>),
    Chats(Option<ChatId>),
    /// Of the chat behind this one.
    MessagesBehind(Option<ChatId>),
    MessagesOf(ChatId, Seq),
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (part, after) = match self {
            Self::Blocks(after) => ("blocks", after.map(|user| user.to_string())),
            Self::Settings(after) => ("settings", after.map(|chat| chat.to_string())),
            Self::Invites(after) => ("invites", after.map(|hash| URL_SAFE_NO_PAD.encode(hash))),
            Self::Chats(after) => ("chats", after.map(|chat| chat.to_string())),
            Self::MessagesBehind(after) => ("behind", after.map(|chat| chat.to_string())),
            Self::MessagesOf(chat, seq) => return write!(f, "of.{chat}.{seq}"),
        };
        write!(f, "{part}.{}", after.unwrap_or_default())
    }
}

impl FromStr for Cursor {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let unknown = || Refusal::Bad("`cursor` is none of an export".to_owned());
        let (part, after) = text.split_once('.').ok_or_else(unknown)?;
        if let ("of", Some((chat, seq))) = (part, after.split_once('.')) {
            let seq = seq.parse().map_err(|_fault| unknown())?;
            return Ok(Self::MessagesOf(chat.parse().map_err(|_fault| unknown())?, seq));
        }
        fn id<T: FromStr>(text: &str) -> Option<Option<T>> {
            if text.is_empty() { Some(None) } else { text.parse().ok().map(Some) }
        }
        match part {
            "blocks" => id(after).map(Self::Blocks),
            "settings" => id(after).map(Self::Settings),
            "invites" if after.is_empty() => Some(Self::Invites(None)),
            "invites" => {
                let hash = URL_SAFE_NO_PAD.decode(after).ok().and_then(|hash| hash.try_into().ok());
                hash.map(|hash| Self::Invites(Some(hash)))
            }
            "chats" => id(after).map(Self::Chats),
            "behind" => id(after).map(Self::MessagesBehind),
            _ => None,
        }
        .ok_or_else(unknown)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    cursor: Option<String>,
}

/// A page of an export.
#[derive(Debug, Serialize)]
pub(super) struct Page {
    /// Each has its `kind`.
    records: Vec<Value>,
    /// None: this was the last one.
    next: Option<String>,
}

pub(super) async fn export(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    Path(who): Path<String>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<Page>, Refusal> {
    let Query(Asked { cursor }) = asked?;
    let row = find(&shared, &who).await?;
    let (records, next) = match cursor {
        Some(cursor) => page(&shared.store, row.user, cursor.parse()?).await?,
        // An export is said once, where it begins.
        None => {
            let action = Action::on_user("user.export", row.user);
            acted(&shared.audit, peer, action, first(&shared.store, &row)).await?
        }
    };
    Ok(Json(Page { records, next: next.map(|cursor| cursor.to_string()) }))
}

type Found = (Vec<Value>, Option<Cursor>);

async fn first(store: &Store, row: &UserRow) -> Result<Found, Refusal> {
    let mut records = vec![record("profile", &User::from(row))];
    if let (Some(Value::Object(profile)), false) = (records.first_mut(), row.avatar.is_empty()) {
        profile.insert("avatar".to_owned(), json!(row.avatar));
    }
    records.extend(store.devices_of(row.user).await?.iter().map(|row| record("device", &Device::from(row))));
    let sign_ins = store.refresh_families_of(row.user).await?;
    records.extend(sign_ins.iter().map(|row| record("sign_in", &SignIn::from(row))));
    Ok((records, Some(Cursor::Blocks(None))))
}

async fn page(store: &Store, user: UserId, cursor: Cursor) -> Result<Found, Refusal> {
    // Ends a part: a full page has one more behind it.
    let goes_on = |rows: usize| rows == PAGE;
    Ok(match cursor {
        Cursor::Blocks(after) => {
            let rows = store.blocks_of(user, after, PAGE).await?;
            let last = rows.last().copied().filter(|_| goes_on(rows.len()));
            let records = rows.iter().map(|other| json!({ "kind": "block", "user": other.to_string() })).collect();
            (records, Some(last.map_or(Cursor::Settings(None), |last| Cursor::Blocks(Some(last)))))
        }
        Cursor::Settings(after) => {
            let rows = store.chat_settings_of(user, after, PAGE).await?;
            let last = rows.last().map(|row| row.chat).filter(|_| goes_on(rows.len()));
            let setting = |row: &store::ChatSetting| {
                let muted_until = (row.muted_until_us > 0).then(|| rfc3339(row.muted_until_us));
                json!({
                    "kind": "setting", "chat": row.chat.to_string(), "muted_until": muted_until,
                    "pinned": row.pinned, "archived": row.archived,
                })
            };
            let records = rows.iter().map(setting).collect();
            (records, Some(last.map_or(Cursor::Invites(None), |last| Cursor::Settings(Some(last)))))
        }
        Cursor::Invites(after) => {
            let rows = store.invites_by(user, after, PAGE).await?;
            let last = rows.last().map(|row| row.hash).filter(|_| goes_on(rows.len()));
            let invite = |row: &store::InviteRow| {
                json!({
                    "kind": "invite", "invite": row.id(), "chat": row.chat.to_string(),
                    "created_at": rfc3339(row.created_us), "expires_at": rfc3339(row.expires_us),
                    "max_uses": row.uses_max, "uses": row.uses,
                })
            };
            let records = rows.iter().map(invite).collect();
            (records, Some(last.map_or(Cursor::Chats(None), |last| Cursor::Invites(Some(last)))))
        }
        Cursor::Chats(after) => {
            let rows = store.chats_of(user, None, after, PAGE).await?;
            let last = rows.last().map(|row| row.chat).filter(|_| goes_on(rows.len()));
            let chats: Vec<_> = rows.iter().map(|row| row.chat).collect();
            let mut records = Vec::with_capacity(rows.len());
            for (row, summary) in rows.iter().zip(store.summaries(&chats).await?) {
                let marks = store.watermarks(row.chat, &[user]).await?;
                let mark = marks.first().copied().unwrap_or_default();
                records.push(json!({
                    "kind": "chat", "chat": row.chat.to_string(), "chat_kind": summary.map(|summary| kind(summary.kind)),
                    "joined_seq": row.joined_seq, "left_seq": row.left_seq, "delivered": mark.delivered, "seen": mark.seen,
                }));
            }
            (records, Some(last.map_or(Cursor::MessagesBehind(None), |last| Cursor::Chats(Some(last)))))
        }
        Cursor::MessagesBehind(after) => {
            let chats = store.chats_of(user, None, after, 1).await?;
            (Vec::new(), chats.first().map(|row| Cursor::MessagesOf(row.chat, 0)))
        }
        Cursor::MessagesOf(chat, after) => {
            let page = store.history(chat, after, PAGE, PAGE_BYTES).await?;
            let last = page.rows.last().map(|row| row.entry.seq);
            let own = page.rows.iter().filter(|row| row.entry.sender == user).filter_map(message);
            (own.collect(), Some(last.map_or(Cursor::MessagesBehind(Some(chat)), |seq| Cursor::MessagesOf(chat, seq))))
        }
    })
}

fn message(row: &LoggedEntry) -> Option<Value> {
    let entry = &row.entry;
    // In its newest version: one that was deleted is none any more.
    let Event::MessageSent(Message { body, reply_to, mentions, mention_all, version }) = &entry.event else {
        return None;
    };
    if version.is_deleted() {
        return None;
    }
    let mentions: Vec<_> = mentions.iter().map(ToString::to_string).collect();
    Some(json!({
        "kind": "message", "chat": entry.chat.to_string(), "seq": entry.seq, "time": rfc3339(entry.time),
        "text": std::str::from_utf8(body).ok(), "body": STANDARD.encode(body),
        "reply_to": reply_to, "mentions": mentions, "mention_all": mention_all,
        "edited_seq": (version.seq() > 0).then_some(version.seq()),
    }))
}

/// The fields of a value, behind the kind that they are.
fn record(kind: &str, value: &impl Serialize) -> Value {
    let mut record = json!({ "kind": kind });
    if let (Value::Object(record), Ok(Value::Object(fields))) = (&mut record, serde_json::to_value(value)) {
        record.extend(fields);
    }
    record
}

#[cfg(test)]
mod tests {
    use domain::Partition;

    use super::*;

    #[test]
    fn a_cursor_comes_back_from_its_text_and_nothing_else_is_one() {
        let (chat, user) = (ChatId::draw(Partition(3), 5, 7), UserId::new([9; 16]));
        for cursor in [
            Cursor::Blocks(None),
            Cursor::Blocks(Some(user)),
            Cursor::Settings(Some(chat)),
            Cursor::Invites(None),
            Cursor::Invites(Some([7; 32])),
            Cursor::Chats(None),
            Cursor::MessagesBehind(Some(chat)),
            Cursor::MessagesOf(chat, 77),
        ] {
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
        for text in ["", "blocks", "blocks.x", "of.", "of.x.1", "invites.x", &format!("of.{chat}.-1"), "other."] {
            assert!(text.parse::<Cursor>().is_err(), "{text}");
        }
    }
}
