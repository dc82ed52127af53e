//! Accounts: who there is, and how one signs in.

pub(crate) mod blocks;
pub(crate) mod deletion;
pub(crate) mod devices;
pub(crate) mod endings;
pub(crate) mod profile;
pub(crate) mod register;
pub(crate) mod sign_ins;
pub(crate) mod tickets;

use domain::UserId;
use serde::Serialize;
use store::{AVATAR_BYTES_MAX, UserRow, UserState};
use url::Url;
use utoipa::ToSchema;

use crate::problem::{Kind, Problem};
use crate::refresh::{RefreshToken, sign_in_of};
use crate::state::{Shared, now_us};
use crate::wire;

/// Characters of a handle.
const HANDLE_CHARS: std::ops::RangeInclusive<usize> = 3..=32;
/// Characters of a display name.
const DISPLAY_NAME_CHARS_MAX: usize = 64;
/// Characters of a password: below eight is guessed, above 256 only costs.
const PASSWORD_CHARS: std::ops::RangeInclusive<usize> = 8..=256;
/// Bytes of a device's name, as tokens hold it.
const DEVICE_BYTES_MAX: usize = tokens::NAME_BYTES_MAX;

/// A user as others see it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct User {
    /// The user's id, a UUID.
    pub(crate) id: String,
    /// What the user is found by.
    handle: String,
    /// What is shown.
    display_name: String,
    /// Where the picture is, an https address. This server never looks there.
    #[serde(skip_serializing_if = "Option::is_none")]
    avatar: Option<String>,
    /// When the account was made, RFC 3339.
    created_at: String,
}

impl From<UserRow> for User {
    fn from(row: UserRow) -> Self {
        Self {
            id: row.user.to_string(),
            handle: row.handle.into(),
            display_name: row.display_name.into(),
            avatar: (!row.avatar.is_empty()).then(|| row.avatar.into()),
            created_at: wire::time(row.created_us),
        }
    }
}

/// What signs a device in.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Tokens {
    /// For `Authorization: Bearer` and for the socket's `authenticate`.
    access_token: String,
    /// When the access token expires, RFC 3339.
    expires_at: String,
    /// Good once, for the next pair.
    refresh_token: String,
    /// When the refresh token expires if nobody uses it, RFC 3339.
    refresh_expires_at: String,
}

/// A handle in its one form: lower-case letters, digits, `_`, `.` and `-`.
fn handle(text: &str) -> Result<String, Problem> {
    let handle = text.to_ascii_lowercase();
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '.' | '-');
    if HANDLE_CHARS.contains(&handle.chars().count()) && handle.chars().all(allowed) {
        Ok(handle)
    } else {
        Err(Problem::bad("a handle has 3 to 32 of a–z, 0–9, `_`, `.` and `-`"))
    }
}

fn display_name(text: &str) -> Result<&str, Problem> {
    let name = text.trim();
    let is_fine = name.chars().count() <= DISPLAY_NAME_CHARS_MAX && !name.chars().any(char::is_control);
    is_fine.then_some(name).ok_or_else(|| Problem::bad("a display name has at most 64 characters, none a control"))
}

/// An address of a picture in its one form; empty: none.
fn avatar(text: &str) -> Result<String, Problem> {
    if text.is_empty() {
        return Ok(String::new());
    }
    // The parser passes over some of what has no place in an address.
    let is_clean = !text.chars().any(|c| c.is_control() || c.is_whitespace());
    let url = Url::parse(text).ok().filter(|_| is_clean);
    let url = url.filter(|url| url.scheme() == "https" && url.has_host() && url.as_str().len() <= AVATAR_BYTES_MAX);
    let url = url.filter(|url| url.username().is_empty() && url.password().is_none());
    url.map(String::from)
        .ok_or_else(|| Problem::bad("an avatar is an https address of at most 1,024 bytes, without a user"))
}

fn password(text: &str) -> Result<(), Problem> {
    let is_fine = PASSWORD_CHARS.contains(&text.chars().count());
    is_fine.then_some(()).ok_or_else(|| Problem::bad("a password has 8 to 256 characters"))
}

fn device(text: &str) -> Result<&str, Problem> {
    let is_fine = (1..=DEVICE_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    is_fine.then_some(text).ok_or_else(|| Problem::bad("a device is 1 to 128 printable characters of ASCII"))
}

/// The row of a user who may sign in.
async fn active(shared: &Shared, user: UserId) -> Result<Option<UserRow>, Problem> {
    Ok(shared.store.user(user).await?.filter(|row| row.state == UserState::Active))
}

/// Refuses a caller whose account has ended, while tokens of it still pass.
pub(crate) async fn check_stays(shared: &Shared, user: UserId) -> Result<(), Problem> {
    // A user of another identity system has no row here.
    let row = shared.store.user(user).await?;
    if row.is_some_and(|row| row.state != UserState::Active) { Err(Kind::Unauthenticated.into()) } else { Ok(()) }
}

/// A pair of tokens of this sign-in.
fn tokens(shared: &Shared, user: UserId, device: &str, refresh: &RefreshToken) -> Result<Tokens, Problem> {
    let config = &shared.config;
    let valid = std::time::Duration::from_secs(config.access_token_s);
    let sign_in = sign_in_of(refresh.family);
    let access_token =
        shared.keys.mint_for(user, device, &sign_in, valid).map_err(|_fault| Problem::from(Kind::Internal))?;
    let now_us = now_us();
    Ok(Tokens {
        access_token,
        expires_at: wire::time(now_us + config.access_token_s * 1_000_000),
        refresh_token: refresh.text(),
        refresh_expires_at: wire::time(now_us + config.refresh_token_s * 1_000_000),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_have_one_form_and_names_are_checked() {
        assert_eq!(handle("Alice.B-1_x").unwrap(), "alice.b-1_x");
        for bad in ["al", &"a".repeat(33), "alice!", "älice", "a b c", ""] {
            assert!(handle(bad).is_err(), "{bad}");
        }
        assert_eq!(display_name(" Alice ").unwrap(), "Alice");
        assert!(display_name(&"a".repeat(65)).is_err() && display_name("a\u{7}").is_err());
        assert_eq!(
            avatar("https://IMG.example/a b.png".replace(' ', "%20").as_str()).unwrap(),
            "https://img.example/a%20b.png"
        );
        assert_eq!(avatar("").unwrap(), "");
        let long = format!("https://img.example/{}", "a".repeat(AVATAR_BYTES_MAX));
        for bad in [
            "http://img.example/a",
            "https://",
            "https://alice@img.example/a",
            "https://alice:secret@img.example/a",
            "https://:secret@img.example/a",
            "https://img.example/a\n",
            "https://img.example/a b",
            "https://img.exa\u{202f}mple/a",
            "//img.example/a",
            "javascript:alert(1)",
            "data:image/png;base64,AA==",
            "a.png",
            &long,
            // Longer than it looks once it has its one form.
            &format!("https://img.example/{}", "ä".repeat(400)),
        ] {
            assert!(avatar(bad).is_err(), "{bad}");
        }
        assert!(password("1234567").is_err() && password(&"p".repeat(257)).is_err() && password("12345678").is_ok());
        assert!(device("").is_err() && device(&"d".repeat(129)).is_err() && device("phone").is_ok());
    }
}
