//! Who a name is until there are accounts: the same name is the same user everywhere.

use uuid::Uuid;

/// Namespace of user ids made from names; changing it makes strangers of all users.
const NAMESPACE: Uuid = Uuid::from_u128(0x8c7f_2f3e_94d1_5b0a_a6c4_1d0e_7b59_e203);

/// The user id of a name: a `UUIDv5`, blind to case and to space around it.
pub fn user_id(name: &str) -> Uuid {
    Uuid::new_v5(&NAMESPACE, name.trim().to_lowercase().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_name_is_the_same_user_for_ever() {
        assert_eq!(user_id("alice"), user_id(" Alice "));
        assert_ne!(user_id("alice"), user_id("bob"));
        // Tokens and chats that exist rely on it.
        assert_eq!(user_id("alice").to_string(), "0ad2898e-93e3-52c1-8c2e-4d452ccbad88");
    }
}
