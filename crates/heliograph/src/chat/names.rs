//! Who is called what, as far as it was typed here: the server knows ids only.

use std::collections::BTreeMap;

use client::UserId;
use proto::v1;
use uuid::Uuid;

use crate::identity::user_id;

/// Characters of an id as text.
const ID_CHARS: usize = 36;

#[derive(Debug, Default)]
pub(super) struct Names(BTreeMap<UserId, String>);

impl Names {
    /// Takes note of a name: whose it is. An id stands for itself, as of who has an account.
    pub(super) fn learn(&mut self, name: &str) -> UserId {
        if let Some(id) = Some(name.trim()).filter(|name| name.len() == ID_CHARS).and_then(|id| id.parse::<Uuid>().ok())
        {
            return UserId(id.into_bytes());
        }
        let id = UserId(user_id(name).into_bytes());
        self.0.insert(id, name.trim().to_owned());
        id
    }

    /// A plain member of this name.
    pub(super) fn member(&mut self, name: &str) -> v1::Member {
        v1::Member { user: self.learn(name).to_wire(), role: v1::Role::Member.into() }
    }

    /// The name, where it was typed here; else the last digits of the id: its first ones may be a time.
    pub(super) fn of(&self, user: UserId) -> String {
        self.0.get(&user).cloned().unwrap_or_else(|| user.to_string().chars().skip(ID_CHARS - 8).collect())
    }

    pub(super) fn on_wire(&self, user: &[u8]) -> String {
        self.of(UserId::from_wire(user).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_stands_for_itself_and_is_called_by_its_last_digits() {
        let mut names = Names::default();
        let id = names.learn(" 01a21c4d-595d-7596-8193-9e524271e39b ");
        assert_eq!(
            (id.to_string().as_str(), names.of(id).as_str()),
            ("01a21c4d-595d-7596-8193-9e524271e39b", "4271e39b")
        );
        let bob = names.learn("bob");
        assert_eq!((bob, names.of(bob).as_str()), (UserId(user_id("bob").into_bytes()), "bob"));
    }
}
