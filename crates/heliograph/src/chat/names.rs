//! Who is called what, as far as it was typed here: the server knows ids only.

use std::collections::BTreeMap;

use client::UserId;
use proto::v1;

use crate::identity::user_id;

#[derive(Debug, Default)]
pub(super) struct Names(BTreeMap<UserId, String>);

impl Names {
    /// Takes note of a name: whose it is.
    pub(super) fn learn(&mut self, name: &str) -> UserId {
        let id = UserId(user_id(name).into_bytes());
        self.0.insert(id, name.trim().to_owned());
        id
    }

    /// A plain member of this name.
    pub(super) fn member(&mut self, name: &str) -> v1::Member {
        v1::Member { user: self.learn(name).to_wire(), role: v1::Role::Member.into() }
    }

    /// The name, where it was typed here; else the first digits of the id.
    pub(super) fn of(&self, user: UserId) -> String {
        self.0.get(&user).cloned().unwrap_or_else(|| user.to_string().chars().take(8).collect())
    }

    pub(super) fn on_wire(&self, user: &[u8]) -> String {
        self.of(UserId::from_wire(user).unwrap_or_default())
    }
}
