//! What the bucket of tenures says of a role: who works, who owns what, and what operators want.
//!
//! ```text
//! workers.ROLE.NAME     {"incarnation":…,"leaving":false}     put twice a second for as long as the worker lives
//! ROLE.PARTITION        {"worker":…,"incarnation":…}          put at an acquisition; deleted when it is let go
//! orders.ROLE.PARTITION "pause" or {"move":{"to":…}}        put and deleted by operators
//! ```
//! The revision of a put to `ROLE.PARTITION` is its tenure's id (M15).

use async_nats::jetstream::kv::Operation;
use bytes::Bytes;
use domain::Partition;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Role;

/// A sign of life of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Beat {
    /// Which run of the worker: a later one has a higher number.
    pub(crate) incarnation: u64,
    /// It gives back what it has and takes nothing more.
    pub(crate) leaving: bool,
}

/// Who owns a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holder {
    pub(crate) worker: String,
    pub(crate) incarnation: u64,
}

/// What an operator wants of a partition, until it is taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Nobody is to own it.
    Pause,
    /// This worker is to own it, as long as it takes part.
    Move {
        /// Its name.
        to: String,
    },
}

/// One entry of the bucket; without a value it was deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Worker { name: String, beat: Option<Beat> },
    Holder { partition: Partition, holder: Option<Holder> },
    Order { partition: Partition, order: Option<Order> },
}

impl Entry {
    /// What an entry of one of the role's keys says; `None`: nothing that is known.
    pub(crate) fn parse(role: Role, key: &str, operation: Operation, value: &[u8]) -> Option<Self> {
        let put = operation == Operation::Put;
        let mut parts = key.split('.');
        let (first, second, third) = (parts.next()?, parts.next()?, parts.next());
        match (first, third) {
            ("workers", Some(name)) if second == role.name() => {
                Some(Self::Worker { name: name.to_owned(), beat: read(put, value)? })
            }
            ("orders", Some(partition)) if second == role.name() => {
                Some(Self::Order { partition: number(partition)?, order: read(put, value)? })
            }
            (owned, None) if owned == role.name() => {
                Some(Self::Holder { partition: number(second)?, holder: read(put, value)? })
            }
            _ => None,
        }
    }
}

fn number(text: &str) -> Option<Partition> {
    text.parse().ok().map(Partition)
}

/// `Some(None)`: deleted. `None`: cannot be read.
fn read<T: DeserializeOwned>(put: bool, value: &[u8]) -> Option<Option<T>> {
    if !put {
        return Some(None);
    }
    serde_json::from_slice(value).ok().map(Some)
}

pub(crate) fn worker_key(role: Role, name: &str) -> String {
    format!("workers.{}.{name}", role.name())
}

pub(crate) fn holder_key(role: Role, partition: Partition) -> String {
    format!("{}.{partition}", role.name())
}

pub(crate) fn order_key(role: Role, partition: Partition) -> String {
    format!("orders.{}.{partition}", role.name())
}

/// All keys of a role, as a watch takes them.
pub(crate) fn keys(role: Role) -> [String; 3] {
    let role = role.name();
    [format!("{role}.*"), format!("workers.{role}.*"), format!("orders.{role}.*")]
}

/// The value of an entry.
pub(crate) fn value(of: &impl Serialize) -> Bytes {
    // Of structs of numbers and texts nothing can fail.
    serde_json::to_vec(of).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_by_its_role_alone() {
        let beat = Beat { incarnation: 7, leaving: true };
        let holder = Holder { worker: "a".to_owned(), incarnation: 7 };
        let order = Order::Move { to: "b".to_owned() };
        let p = Partition(3);
        let entries = [
            (worker_key(Role::Ingest, "a"), value(&beat), Entry::Worker { name: "a".to_owned(), beat: Some(beat) }),
            (holder_key(Role::Ingest, p), value(&holder), Entry::Holder { partition: p, holder: Some(holder) }),
            (order_key(Role::Ingest, p), value(&order), Entry::Order { partition: p, order: Some(order) }),
        ];
        for (key, value, entry) in entries {
            assert_eq!(Entry::parse(Role::Ingest, &key, Operation::Put, &value), Some(entry), "{key}");
            assert_eq!(Entry::parse(Role::Delivery, &key, Operation::Put, &value), None, "{key}");
            assert_eq!(Entry::parse(Role::Ingest, &key, Operation::Put, b"{"), None, "{key}");
            assert!(Entry::parse(Role::Ingest, &key, Operation::Delete, b"").is_some(), "{key}");
        }
    }
}
