//! Where each action of an operator passes: what was done to whom by whom, and what became of it.

use audit::{Event, Outcome};
use domain::{ChatId, Partition, UserId};
use event_log::Role;
use metrics::counter;

use super::refusal::Refusal;
use super::serve::Peer;

/// What an operator does.
#[derive(Clone, Debug)]
pub(super) struct Action {
    /// Such as `user.ban`.
    name: &'static str,
    /// The user that it is done to.
    user: Option<UserId>,
    /// The user's device, where it is about one; else empty.
    device: String,
    /// The chat that it is done to.
    chat: Option<ChatId>,
    /// The partition, behind its role.
    partition: Option<String>,
    /// The signing key, by its name.
    key: Option<String>,
}

impl Action {
    /// On nobody's account or chat.
    pub(super) const fn alone(name: &'static str) -> Self {
        Self { name, user: None, device: String::new(), chat: None, partition: None, key: None }
    }

    /// On a user.
    pub(super) fn on_user(name: &'static str, user: UserId) -> Self {
        Self { user: Some(user), ..Self::alone(name) }
    }

    /// On a user's device.
    pub(super) fn on_device(name: &'static str, user: UserId, device: String) -> Self {
        Self { device, ..Self::on_user(name, user) }
    }

    /// On a chat.
    pub(super) fn on_chat(name: &'static str, chat: ChatId) -> Self {
        Self { chat: Some(chat), ..Self::alone(name) }
    }

    /// On a key that signs tokens.
    pub(super) fn on_key(name: &'static str, kid: String) -> Self {
        Self { key: Some(kid), ..Self::alone(name) }
    }

    /// On whose a partition is to be.
    pub(super) fn on_partition(name: &'static str, role: Role, partition: Partition) -> Self {
        Self { partition: Some(format!("{} {partition}", role.name())), ..Self::alone(name) }
    }
}

/// Carries the action out and says so; every action that changes or exports something passes here.
pub(super) async fn acted<T>(
    audit: &audit::Log,
    by: Peer,
    action: Action,
    doing: impl Future<Output = Result<T, Refusal>>,
) -> Result<T, Refusal> {
    let done = doing.await;
    let Action { name, user, device, chat, partition, key } = action;
    let (user, chat) = (user.map(|user| user.to_string()), chat.map(|chat| chat.to_string()));
    let outcome = done.as_ref().err().map_or("done", Refusal::name);
    let kept = match &done {
        Ok(_) => Outcome::Ok,
        Err(refusal) if refusal.is_broken_off() => Outcome::Pending,
        Err(_) => Outcome::Refused,
    };
    counter!("admin_actions_total", "action" => name, "outcome" => outcome).increment(1);
    audit.record(&Event {
        operator: by.0,
        subject: user.clone(),
        chat: chat.clone(),
        device: Some(device.clone()).filter(|device| !device.is_empty()),
        partition: partition.clone(),
        key: key.clone(),
        detail: Some(name),
        ..Event::new(audit::Action::Admin, kept)
    });
    // Escaped, since a device's name is whatever its client said.
    tracing::info!(target: "audit", action = name, user.id = user, chat.id = chat, partition, key, device = ?device, by.uid = ?by.0, outcome);
    done
}
