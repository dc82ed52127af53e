//! Who is in the cluster, and how each of them is started.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::state::State;
use crate::Result;
use crate::process::workspace;

/// The keyspace of the cluster.
const KEYSPACE: &str = "heliograph";
/// How many of `infra/haproxy.cfg`'s servers there are of each kind.
const FRONTS: [(&str, [&str; 2]); 2] = [("gateway", ["gateway-1", "gateway-2"]), ("api", ["api-1", "api-2"])];

/// What a member is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// The store: one node.
    Cassandra,
    /// One of the brokers, which replicate every stream.
    Nats,
    /// A `heliograph run` with this role.
    Role(&'static str),
    /// What clients connect to.
    Proxy,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Cassandra => "cassandra",
            Self::Nats => "nats",
            Self::Role(role) => role,
            Self::Proxy => "haproxy",
        }
    }
}

/// One process.
#[derive(Debug)]
pub(crate) struct Member {
    /// Names it in commands; of a role, the worker's name too.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// What it listens for, each on a port of its own.
    pub(crate) ports: &'static [&'static str],
}

const fn member(name: &'static str, kind: Kind, ports: &'static [&'static str]) -> Member {
    Member { name, kind, ports }
}

/// In the order in which they are started; they are ended the other way round.
pub(crate) const MEMBERS: &[Member] = &[
    member("cassandra", Kind::Cassandra, &["cql", "storage", "jmx"]),
    member("nats-1", Kind::Nats, &["client", "cluster", "monitor"]),
    member("nats-2", Kind::Nats, &["client", "cluster", "monitor"]),
    member("nats-3", Kind::Nats, &["client", "cluster", "monitor"]),
    member("ingest-1", Kind::Role("ingest"), &["admin"]),
    member("ingest-2", Kind::Role("ingest"), &["admin"]),
    member("delivery-1", Kind::Role("delivery"), &["admin"]),
    member("delivery-2", Kind::Role("delivery"), &["admin"]),
    member("projections-1", Kind::Role("projections"), &["admin"]),
    member("projections-2", Kind::Role("projections"), &["admin"]),
    member("gateway-1", Kind::Role("gateway"), &["listen", "admin"]),
    member("gateway-2", Kind::Role("gateway"), &["listen", "admin"]),
    member("api-1", Kind::Role("api"), &["listen", "admin"]),
    member("api-2", Kind::Role("api"), &["listen", "admin"]),
    member("haproxy", Kind::Proxy, &["listen"]),
];

/// The programs that members are.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) heliograph: PathBuf,
    pub(crate) nats_server: PathBuf,
    pub(crate) cassandra_jars: PathBuf,
    pub(crate) haproxy: PathBuf,
}

/// Members of a kind.
pub(crate) fn all(kind: Kind) -> impl Iterator<Item = &'static Member> {
    MEMBERS.iter().filter(move |member| member.kind == kind)
}

/// The store's address as `--store` takes it.
pub(crate) fn store(state: &State) -> Result<String> {
    let node = all(Kind::Cassandra).next().ok_or("no store in the layout")?;
    Ok(format!("cql://127.0.0.1:{}/{KEYSPACE}", state.port(node, "cql")?))
}

/// Writes what the member reads into its folder, and says how it is started.
pub(crate) fn command(member: &Member, folder: &Path, state: &State, programs: &Programs) -> Result<Command> {
    let own = folder.join(member.name);
    fs::create_dir_all(&own).map_err(|error| format!("{}: {error}", own.display()))?;
    match member.kind {
        Kind::Cassandra => cassandra(member, &own, state, programs),
        Kind::Nats => nats(member, &own, state, programs),
        Kind::Role(role) => heliograph(member, role, &own, state, programs),
        Kind::Proxy => proxy(member, &own, state, programs),
    }
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

fn cassandra(member: &Member, own: &Path, state: &State, programs: &Programs) -> Result<Command> {
    // As tests have it.
    let files = workspace().join("crates/testkit/cassandra");
    let folder = own.to_str().ok_or("the cluster's folder is not UTF-8")?;
    let [port, storage_port] = [state.port(member, "cql")?.to_string(), state.port(member, "storage")?.to_string()];
    let fill = [("{folder}", folder), ("{port}", &port), ("{storage_port}", &storage_port)];
    let config = read(&files.join("cassandra.yaml"))?;
    let config = fill.iter().fold(config, |text, (place, value)| text.replace(place, value));
    write(&own.join("cassandra.yaml"), &config)?;
    write(&own.join("logback.xml"), &read(&files.join("logback.xml"))?)?;
    let mut command = Command::new("java");
    command.current_dir(own).arg(format!("@{}", files.join("jvm.options").display()));
    command.arg(format!("-Dcassandra.jmx.local.port={}", state.port(member, "jmx")?));
    command.arg("-cp").arg(programs.cassandra_jars.join("*")).arg("org.apache.cassandra.service.CassandraDaemon");
    Ok(command)
}

fn nats(member: &Member, own: &Path, state: &State, programs: &Programs) -> Result<Command> {
    let routes: Vec<_> = all(Kind::Nats)
        .filter(|other| other.name != member.name)
        .map(|other| Ok(format!("nats://127.0.0.1:{}", state.port(other, "cluster")?)))
        .collect::<Result<_>>()?;
    let port = |name: &str| state.port(member, name).map(|port| port.to_string());
    let mut command = Command::new(&programs.nats_server);
    command.arg("--config").arg(workspace().join("infra/cluster/nats.conf"));
    command.args(["--name", member.name, "--addr", "127.0.0.1", "--port", &port("client")?]);
    command.args(["--http_port", &port("monitor")?, "--cluster_name", "heliograph"]);
    command.args(["--cluster", &format!("nats://127.0.0.1:{}", port("cluster")?), "--routes", &routes.join(",")]);
    command.arg("--jetstream").arg("--store_dir").arg(own.join("streams"));
    Ok(command)
}

fn heliograph(member: &Member, role: &str, own: &Path, state: &State, programs: &Programs) -> Result<Command> {
    let brokers: Vec<_> = all(Kind::Nats)
        .map(|broker| Ok(format!("nats://127.0.0.1:{}", state.port(broker, "client")?)))
        .collect::<Result<_>>()?;
    let address = |port: &str| state.port(member, port).map(|port| format!("127.0.0.1:{port}"));
    let mut command = Command::new(&programs.heliograph);
    command.args(["run", "--role", role, "--worker", member.name, "--nats", &brokers.join(",")]);
    command.args(["--store", &store(state)?, "--admin", &address("admin")?]);
    command.arg("--config").arg(workspace().join("infra/cluster").join(format!("{role}.toml")));
    command.arg("--data").arg(own);
    match role {
        "gateway" => {
            command.args(["--listen", &address("listen")?]);
        }
        "api" => {
            command.args(["--api", &address("listen")?]);
        }
        _ => {}
    }
    // Settings of whoever starts it are not the cluster's.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HELIOGRAPH_")) {
        command.env_remove(name);
    }
    Ok(command)
}

fn proxy(member: &Member, own: &Path, state: &State, programs: &Programs) -> Result<Command> {
    let mut config = read(&workspace().join("infra/haproxy.cfg"))?;
    for (kind, names) in FRONTS {
        let servers: Vec<_> = names
            .map(|name| {
                let member = MEMBERS.iter().find(|member| member.name == name).ok_or("no such front in the layout")?;
                let (listen, admin) = (state.port(member, "listen")?, state.port(member, "admin")?);
                Ok(format!("    server {name} 127.0.0.1:{listen} port {admin}"))
            })
            .into_iter()
            .collect::<Result<_>>()?;
        config = with_servers(&config, kind, &servers)?;
    }
    let file = own.join("haproxy.cfg");
    write(&file, &config)?;
    let mut command = Command::new(&programs.haproxy);
    // In the foreground, where its pid is ours.
    command.arg("-db").arg("-f").arg(file);
    command.env("HELIOGRAPH_PROXY_LISTEN", format!("127.0.0.1:{}", state.port(member, "listen")?));
    command.env("HELIOGRAPH_PROXY_CERTS", own.join("certificates"));
    command.env("HELIOGRAPH_PROXY_CONTROL", own.join("control"));
    Ok(command)
}

/// The configuration with these lines in the place of the one server that it has of the kind.
fn with_servers(config: &str, kind: &str, servers: &[String]) -> Result<String> {
    let begins = format!("    server {kind}-1 ");
    let line = config.lines().find(|line| line.starts_with(&begins));
    let line = line.ok_or_else(|| format!("infra/haproxy.cfg has no line `{begins}…`"))?;
    Ok(config.replacen(line, &servers.join("\n"), 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_has_a_name_and_every_role_its_settings() {
        for (at, member) in MEMBERS.iter().enumerate() {
            assert!(MEMBERS[..at].iter().all(|other| other.name != member.name), "{}", member.name);
            if let Kind::Role(role) = member.kind {
                assert!(workspace().join(format!("infra/cluster/{role}.toml")).is_file(), "{role}");
                assert_eq!(all(member.kind).count(), 2, "{role}");
            }
        }
        assert_eq!(all(Kind::Nats).count(), 3, "as many as there are replicas of a stream");
    }

    #[test]
    fn the_proxy_has_a_line_for_each_front() {
        let config = read(&workspace().join("infra/haproxy.cfg")).unwrap();
        let changed =
            with_servers(&config, "gateway", &["    server a".to_owned(), "    server b".to_owned()]).unwrap();
        assert!(changed.contains("\n    server a\n    server b\n") && !changed.contains("HELIOGRAPH_GATEWAY}"));
        assert!(changed.contains("server api-1"));
        assert!(with_servers(&config, "other", &[]).unwrap_err().contains("other-1"));
    }
}
