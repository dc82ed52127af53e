//! Idempotency keys: the same request under the same key is the same command, whoever carries it out (N2).

use axum::http::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::{ChatId, Seq, UserId};
use proto::v1::command::Action;
use serde::Deserialize;
use store::{IDEMPOTENCY_KEY_BYTES_MAX, SendClaim, SendOutcome};
use utoipa::IntoParams;
use xxhash_rust::xxh3::xxh3_128;

use crate::problem::{Kind, Problem};
use crate::state::{Shared, now_us};

/// The header's name.
const HEADER: &str = "idempotency-key";

/// As the description of the API names it.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "read from the headers; this describes it")]
pub(crate) struct Header {
    /// Names the request, drawn by the client: repeated under it within a day, it is carried out once.
    #[serde(rename = "Idempotency-Key")]
    #[param(pattern = "^[!-~]{1,255}$")]
    idempotency_key: Option<String>,
}

/// Where the status of the request under this key is: a path with all but RFC 3986's unreserved characters escaped.
pub(crate) fn status_path(key: &str) -> String {
    let mut path = "/v1/sends/".to_owned();
    for byte in key.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
    path
}

/// The key of one request.
#[derive(Debug)]
pub(crate) struct IdempotencyKey(String);

impl IdempotencyKey {
    /// The client's, or one that is drawn for it.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let Some(value) = headers.get(HEADER) else {
            return Ok(Self(URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>())));
        };
        let is_key = |text: &&str| {
            (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
        };
        let text = value.to_str().ok().filter(is_key);
        let text = text.ok_or_else(|| Problem::bad("`Idempotency-Key` has 1 to 255 visible characters"))?;
        Ok(Self(text.to_owned()))
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    /// What the key stands for: this request, or an earlier one that was the same.
    pub(crate) async fn claim(
        &self,
        shared: &Shared,
        user: UserId,
        chat: ChatId,
        action: &Action,
        basis: Seq,
    ) -> Result<SendClaim, Problem> {
        let makes_chat = matches!(action, Action::CreateChat(_));
        let mut content = Vec::new();
        action.encode(&mut content);
        if !makes_chat {
            // The same words elsewhere are another request.
            content.extend_from_slice(chat.as_bytes());
        }
        let proposed = SendClaim {
            user,
            key: self.0.as_str().into(),
            chat,
            origin: rand::random(),
            n: u64::from(!makes_chat),
            basis,
            fingerprint: xxh3_128(&content),
            at_us: now_us(),
            outcome: SendOutcome::Unknown,
        };
        let fingerprint = proposed.fingerprint;
        let claim = shared.store.claim_send(proposed).await?;
        if claim.fingerprint == fingerprint { Ok(claim) } else { Err(Kind::KeyReused.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_segment_of_its_status_path() {
        assert_eq!(status_path("a-B_1.~"), "/v1/sends/a-B_1.~");
        assert_eq!(status_path("a/b?c#d%e f"), "/v1/sends/a%2Fb%3Fc%23d%25e%20f");
    }
}
