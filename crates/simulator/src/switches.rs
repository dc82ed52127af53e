//! Which rules hold in a run.

use domain::Rules;

/// The rules of the roles and of the clients, switched together.
#[derive(Clone, Copy, Debug)]
pub struct Switches {
    /// Of the roles.
    pub server: Rules,
    /// Of the clients.
    pub client: client::Rules,
}

impl Switches {
    /// Every rule holds.
    pub const ALL: Self = Self { server: Rules::ALL, client: client::Rules::ALL };

    /// All rules but the named one, at both ends; none if there is no such rule.
    pub fn without(rule: &str) -> Option<Self> {
        let mut client = client::Rules::ALL;
        match rule {
            "m7" => client.m7 = false,
            "m11" => client.m11 = false,
            "m12" => client.m12 = false,
            "m13" => client.m13 = false,
            "m14" => client.m14 = false,
            "m20" => client.m20 = false,
            "m22" => client.m22 = false,
            _ => {}
        }
        Some(Self { server: Rules::without(rule)?, client })
    }
}
