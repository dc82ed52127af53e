//! Settings of the CQL engine, and its address.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::Deserialize;

/// What is no address of a cluster.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{address}` is no `cql://host:port,host:port/keyspace`: {reason}")]
pub struct AddressError {
    /// What was given.
    pub address: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// Settings of the CQL engine; every size is a bound.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CqlConfig {
    /// Nodes to begin with, `host:port`; the others are learned from them.
    pub nodes: Vec<String>,
    /// The keyspace: letters of ASCII, digits and `_`, at most 48.
    pub keyspace: String,
    /// The data centre whose nodes are asked, and whose quorum counts; none: that of whichever node is asked.
    pub data_centre: Option<String>,
    /// Name to sign in with; none: the cluster asks for no name.
    pub user: Option<String>,
    /// The password to it.
    pub password: Option<String>,
    /// A statement without an answer for so long has failed, in ms.
    pub request_timeout_ms: u64,
    /// A statement that may be repeated is, with pauses, for so long, in ms.
    pub retry_limit_ms: u64,
    /// The stored position of a partition is one that was reached at least so long ago, in ms (M23).
    pub position_lag_ms: u64,
    /// Statements of one operation that are in flight together.
    pub concurrency: usize,
    /// Appends that may wait, in bytes; later ones wait for room.
    pub queue_bytes: usize,
    /// Appends that may wait, by count; later ones wait for room.
    pub queue_writes: usize,
    /// An append without an answer for so long fails as stalled, in ms.
    pub stall_limit_ms: u64,
    /// A control for tests: rows get the clock's timestamps instead of their own, which breaks M8.
    #[doc(hidden)]
    #[serde(skip)]
    pub clock_timestamps: bool,
}

impl fmt::Debug for CqlConfig {
    // Without what no log may have: the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CqlConfig")
            .field("nodes", &self.nodes)
            .field("keyspace", &self.keyspace)
            .field("data_centre", &self.data_centre)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl Default for CqlConfig {
    fn default() -> Self {
        Self {
            nodes: vec!["127.0.0.1:9042".to_owned()],
            keyspace: "heliograph".to_owned(),
            data_centre: None,
            user: None,
            password: None,
            request_timeout_ms: 5_000,
            retry_limit_ms: 10_000,
            position_lag_ms: 30_000,
            concurrency: 64,
            queue_bytes: 32 << 20,
            queue_writes: 4_096,
            stall_limit_ms: 30_000,
            clock_timestamps: false,
        }
    }
}

/// Most bytes of a keyspace's name, for Cassandra and ScyllaDB alike.
const KEYSPACE_BYTES_MAX: usize = 48;
/// Where CQL is spoken if an address names no port.
const PORT: u16 = 9042;

impl CqlConfig {
    /// The defaults at `cql://host:port,host:port/keyspace`; a node without a port has 9042.
    ///
    /// # Errors
    /// For what is no such address. Names and passwords have no place in it: addresses are printed.
    pub fn at(address: &str) -> Result<Self, AddressError> {
        let wrong = |reason| AddressError { address: address.to_owned(), reason };
        let rest = address.strip_prefix("cql://").ok_or_else(|| wrong("it does not begin with `cql://`"))?;
        if rest.contains('@') {
            return Err(AddressError { address: "cql://…@…".to_owned(), reason: "name and password go elsewhere" });
        }
        let (nodes, keyspace) = rest.split_once('/').ok_or_else(|| wrong("it names no keyspace"))?;
        let is_letter = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        let begins_well = keyspace.starts_with(|letter: char| letter.is_ascii_alphabetic());
        if !begins_well || keyspace.len() > KEYSPACE_BYTES_MAX || !keyspace.chars().all(is_letter) {
            return Err(wrong("a keyspace is a letter, then letters, digits and `_`, at most 48"));
        }
        let nodes = nodes.split(',').map(node).collect::<Option<Vec<_>>>();
        let nodes = nodes.ok_or_else(|| wrong("a node is `host` or `host:port`"))?;
        // As CQL reads a name without quotes.
        Ok(Self { nodes, keyspace: keyspace.to_ascii_lowercase(), ..Self::default() })
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }

    pub(crate) fn retry_limit(&self) -> Duration {
        Duration::from_millis(self.retry_limit_ms)
    }

    pub(crate) fn position_lag(&self) -> Duration {
        Duration::from_millis(self.position_lag_ms)
    }

    pub(crate) fn stall_limit(&self) -> Duration {
        Duration::from_millis(self.stall_limit_ms)
    }
}

fn node(text: &str) -> Option<String> {
    // An IPv6 address stands in brackets, so that its last colon is told from a port's.
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (text, PORT),
    };
    let is_bare = !host.contains(':') || (host.starts_with('[') && host.ends_with(']'));
    (!host.is_empty() && is_bare && port > 0).then(|| format!("{host}:{port}"))
}

/// Whose dialect of CQL the keyspace statement is in.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// Apache Cassandra 5.
    #[default]
    Cassandra,
    /// ScyllaDB. Tablets are off: with them, versions up to 2025.3 take no conditional writes.
    Scylla,
}

/// How a keyspace is made that is not there yet; one that is there stays as it is.
#[derive(Clone, PartialEq, Eq, Default, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeyspaceOptions {
    /// Replicas by data centre; empty: 3 in each there is.
    pub replicas: BTreeMap<String, u16>,
    /// Whose dialect the statement is in.
    pub dialect: Dialect,
}

/// Replicas of a keyspace for which none are said.
const REPLICAS: u16 = 3;

impl KeyspaceOptions {
    /// The statement that makes the keyspace; `keyspace` was checked by [`CqlConfig::at`].
    pub(crate) fn statement(&self, keyspace: &str) -> String {
        let mut replicas = String::new();
        for (data_centre, count) in &self.replicas {
            replicas.push_str(&format!(", '{}': {count}", data_centre.replace('\'', "''")));
        }
        if replicas.is_empty() {
            replicas = format!(", 'replication_factor': {REPLICAS}");
        }
        let tablets = match self.dialect {
            Dialect::Cassandra => "",
            Dialect::Scylla => " AND tablets = {'enabled': false}",
        };
        format!(
            "CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = {{'class': 'NetworkTopologyStrategy'{replicas}}}{tablets}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_nodes_and_keyspace() {
        let config = CqlConfig::at("cql://one:9142,two,[::1]:9,[::2]/Chats_1").unwrap();
        assert_eq!(config.nodes, ["one:9142", "two:9042", "[::1]:9", "[::2]:9042"]);
        assert_eq!(config.keyspace, "chats_1");
    }

    #[test]
    fn a_password_is_not_printed() {
        let config = CqlConfig { password: Some("secret".to_owned()), ..CqlConfig::default() };
        assert!(!format!("{config:?}").contains("secret"));
    }

    #[test]
    fn what_is_no_address_is_refused_by_what_is_wrong() {
        let cases = [
            ("nats://a/k", "does not begin"),
            ("cql://a:1", "names no keyspace"),
            ("cql://a/", "a keyspace is"),
            ("cql://a/1k", "a keyspace is"),
            ("cql://a/k; DROP KEYSPACE k", "a keyspace is"),
            ("cql:///k", "a node is"),
            ("cql://a,,b/k", "a node is"),
            ("cql://a:x/k", "a node is"),
            ("cql://a:0/k", "a node is"),
            ("cql://::1/k", "a node is"),
        ];
        for (address, reason) in cases {
            let refused = CqlConfig::at(address).unwrap_err().to_string();
            assert!(refused.contains(reason) && refused.contains(address), "{refused}");
        }
        let refused = CqlConfig::at("cql://name:secret@a/k").unwrap_err().to_string();
        assert!(!refused.contains("secret"), "{refused}");
    }

    #[test]
    fn the_keyspace_statement_says_replicas_and_dialect() {
        let plain = KeyspaceOptions::default().statement("k");
        assert_eq!(
            plain,
            "CREATE KEYSPACE IF NOT EXISTS k WITH replication = {'class': 'NetworkTopologyStrategy', 'replication_factor': 3}"
        );
        let replicas = [("dc1".to_owned(), 3), ("o'dc".to_owned(), 2)].into();
        let two = KeyspaceOptions { replicas, dialect: Dialect::Scylla }.statement("k");
        assert!(two.ends_with("'dc1': 3, 'o''dc': 2} AND tablets = {'enabled': false}"), "{two}");
    }
}
