//! Which value counts: of a flag, else of the environment, else of the file, else the default.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::settings::{Kind, Node, Setting, settings, tree};
use super::{Config, For};

/// What names of variables begin with; sections are joined by two underscores.
const PREFIX: &str = "HELIOGRAPH_";

/// Where a value comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Origin {
    Default,
    /// A file and the line in it.
    File(PathBuf, usize),
    /// A variable or a flag, as it is typed.
    Named(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(file, line) => write!(f, "{}:{line}", file.display()),
            Self::Named(name) => f.write_str(name),
        }
    }
}

/// A value that was given apart from the file, as a flag or as the variable of a flag.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Given {
    /// Of the setting, with dots.
    pub(crate) path: &'static str,
    pub(crate) value: Value,
    /// How it was typed.
    pub(crate) name: String,
}

/// All settings with what counts of each.
#[derive(Clone, Debug)]
pub(crate) struct Layers {
    pub(crate) nodes: Vec<Node>,
    values: BTreeMap<Vec<String>, (Value, Origin)>,
}

impl Layers {
    /// The defaults alone.
    ///
    /// # Errors
    /// None that a type of ours gives rise to.
    pub(crate) fn defaults(of: For) -> Result<Self> {
        let (nodes, defaults) = (tree::<Config>(of.hidden()), Table::try_from(Config::default())?);
        let found = |setting: &&Setting| {
            let value = find(&defaults, &setting.path)?.clone();
            Some((setting.path.clone(), (value, Origin::Default)))
        };
        let values = settings(&nodes).iter().filter_map(found).collect();
        Ok(Self { nodes, values })
    }

    /// What counts: variables are pairs of name and value, and `given` is the strongest.
    ///
    /// # Errors
    /// A file that cannot be read; the first setting that there is none of, with its line or variable.
    pub(crate) fn of(
        command: For,
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
        given: Vec<Given>,
    ) -> Result<Self> {
        let mut layers = Self::defaults(command)?;
        if let Some(file) = file {
            let text = fs::read_to_string(file).with_context(|| format!("--config {}", file.display()))?;
            layers.read(file, &text)?;
        }
        layers.environment(environment)?;
        for Given { path, value, name } in given {
            let path = path.split('.').map(str::to_owned).collect();
            layers.values.insert(path, (value, Origin::Named(name)));
        }
        Ok(layers)
    }

    /// The value that counts, and where it is from; none: it is not set.
    pub(crate) fn value(&self, setting: &Setting) -> Option<&(Value, Origin)> {
        self.values.get(&setting.path)
    }

    /// As the roles take it, not checked yet.
    ///
    /// # Errors
    /// A value of the wrong kind, with where it came from.
    pub(crate) fn config(&self) -> Result<Config> {
        let mut whole = Table::new();
        for (path, (value, _)) in &self.values {
            put(&mut whole, path, value.clone());
        }
        serde_path_to_error::deserialize(Value::Table(whole)).map_err(|error| {
            let path: Vec<_> = error.path().to_string().split('.').map(str::to_owned).collect();
            let is_of = |(own, _): &(&Vec<String>, _)| path.starts_with(own) || own.starts_with(&path);
            // Of a section that lacks something: what was given of it.
            let named = self.values.iter().filter(is_of).find(|(_, (_, origin))| *origin != Origin::Default);
            let from = named.map(|(_, (_, origin))| format!("{origin}: ")).unwrap_or_default();
            anyhow!("{from}{}: {}", path.join("."), error.inner().to_string().trim())
        })
    }

    fn read(&mut self, file: &Path, text: &str) -> Result<()> {
        let said = |error: toml::de::Error| anyhow!("{}: {error}", file.display());
        let table = DeTable::parse(text).map_err(said)?;
        let mut found = Vec::new();
        self.leaves(table.get_ref(), &mut Vec::new(), &mut found);
        let values: Table = toml::from_str(text).map_err(said)?;
        for Leaf { path, at, is_known } in found {
            let line = 1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count();
            if !is_known {
                bail!("{}:{line}: there is no setting `{}`", file.display(), path.join("."));
            }
            if let Some(value) = find(&values, &path) {
                self.values.insert(path, (value.clone(), Origin::File(file.to_owned(), line)));
            }
        }
        Ok(())
    }

    /// What stands in the file, down to settings and to what is none.
    fn leaves(&self, table: &DeTable<'_>, within: &mut Vec<String>, found: &mut Vec<Leaf>) {
        for (key, value) in table {
            within.push(key.get_ref().to_string());
            let settings = settings(&self.nodes);
            let is_setting = settings.iter().any(|setting| setting.path == *within);
            let is_section = !is_setting && settings.iter().any(|setting| setting.path.starts_with(within));
            match (is_section, value.get_ref()) {
                (true, DeValue::Table(inner)) => self.leaves(inner, within, found),
                _ => found.push(Leaf { path: within.clone(), at: Spanned::span(key).start, is_known: is_setting }),
            }
            within.pop();
        }
    }

    fn environment(&mut self, variables: impl Iterator<Item = (String, String)>) -> Result<()> {
        // In the order of their names, so that the same environment is refused in the same words.
        let variables: BTreeMap<_, _> = variables.filter(|(name, _)| name.starts_with(PREFIX)).collect();
        for (name, text) in variables {
            // What has no section is a flag's variable, or none of a setting.
            let Some(rest) = name.strip_prefix(PREFIX).filter(|rest| rest.contains("__")) else { continue };
            let path: Vec<_> = rest.to_lowercase().split("__").map(str::to_owned).collect();
            let all = settings(&self.nodes);
            let named =
                all.iter().find(|setting| setting.path == path).map(|setting| ((*setting).clone(), text.clone()));
            let in_file = || {
                let secret = all.iter().filter(|setting| setting.is_secret);
                secret.into_iter().find(|setting| variable(setting) + "_FILE" == name).copied().cloned()
            };
            let (setting, text) = match named {
                Some(named) => named,
                None => {
                    let setting =
                        in_file().with_context(|| format!("{name}: there is no setting `{}`", path.join(".")))?;
                    let kept = fs::read_to_string(&text).with_context(|| format!("{name}={text}"))?;
                    (setting, kept.trim_end_matches(['\r', '\n']).to_owned())
                }
            };
            let value = parse(setting.kind, &text).with_context(|| name.clone())?;
            if let Some((_, Origin::Named(other))) =
                self.values.insert(setting.path, (value, Origin::Named(name.clone())))
            {
                bail!("{other} and {name} are the same setting: leave one out");
            }
        }
        Ok(())
    }
}

/// Something in a file.
struct Leaf {
    path: Vec<String>,
    /// Byte of its key.
    at: usize,
    is_known: bool,
}

/// What the environment calls a setting.
fn variable(setting: &Setting) -> String {
    format!("{PREFIX}{}", setting.path.join("__").to_uppercase())
}

fn parse(kind: Kind, text: &str) -> Result<Value> {
    match kind {
        Kind::Text => Ok(Value::String(text.to_owned())),
        Kind::List if !text.trim_start().starts_with('[') => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Ok(Value::Array(items.map(|item| Value::String(item.to_owned())).collect()))
        }
        Kind::List | Kind::Literal => {
            text.trim().parse().map_err(|_fault: toml::de::Error| anyhow!("{text:?} is no value"))
        }
    }
}

fn find<'a>(table: &'a Table, path: &[String]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    let value = table.get(first)?;
    if rest.is_empty() { Some(value) } else { find(value.as_table()?, rest) }
}

fn put(table: &mut Table, path: &[String], value: Value) {
    match path {
        [] => {}
        [name] => {
            table.insert(name.clone(), value);
        }
        [section, rest @ ..] => {
            let inner = table.entry(section.clone()).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::iter;

    use super::*;

    fn layers(file: &str, variables: &[(&str, &str)], given: Vec<Given>) -> Result<Layers> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("heliograph.toml");
        fs::write(&path, file).unwrap();
        let variables = variables.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        Layers::of(For::Up, Some(&path), variables, given)
    }

    fn refused(file: &str, variables: &[(&str, &str)]) -> String {
        match layers(file, variables, Vec::new()).and_then(|layers| layers.config()) {
            Ok(_) => panic!("{file} {variables:?} is taken"),
            Err(error) => format!("{error:#}"),
        }
    }

    fn listen_by_flag() -> Given {
        let value = Value::String("127.0.0.1:4".to_owned());
        Given { path: "gateway.socket.listen", value, name: "--listen".to_owned() }
    }

    #[test]
    fn a_flag_counts_more_than_the_environment_that_more_than_the_file_and_that_more_than_the_default() {
        let file = "[gateway.socket]\nlisten = \"127.0.0.1:2\"\n";
        let variable = ("HELIOGRAPH_GATEWAY__SOCKET__LISTEN", "127.0.0.1:3");
        for (given, expected, origin) in [
            (layers("", &[], Vec::new()), 7070, "default"),
            (layers(file, &[], Vec::new()), 2, "heliograph.toml:2"),
            (layers(file, &[variable], Vec::new()), 3, variable.0),
            (layers(file, &[variable], vec![listen_by_flag()]), 4, "--listen"),
        ] {
            let layers = given.unwrap();
            assert_eq!(layers.config().unwrap().gateway.socket.listen.port(), expected);
            let all = settings(&layers.nodes);
            let setting = all.iter().find(|setting| setting.path.join(".") == "gateway.socket.listen").unwrap();
            let (_, from) = layers.value(setting).unwrap();
            assert!(from.to_string().ends_with(origin), "{from}");
        }
    }

    #[test]
    fn what_a_section_does_not_say_keeps_the_default_of_up() {
        let layers = layers("event_log.prefix = \"a\"", &[], Vec::new()).unwrap();
        let expected = Config::default().event_log;
        let found = layers.config().unwrap().event_log;
        assert_eq!((found.prefix.as_str(), found.commands_bytes_max), ("a", expected.commands_bytes_max));
    }

    #[test]
    fn each_kind_of_value_is_read_from_the_environment() {
        let variables = [
            ("HELIOGRAPH_API__ALLOWED_ORIGINS", "https://a.example, https://b.example"),
            ("HELIOGRAPH_API__PASSWORD_JOBS", "3"),
            ("HELIOGRAPH_EVENT_LOG__HAND_OVER_COMMANDS", "false"),
            ("HELIOGRAPH_EVENT_LOG__DURABILITY", "lazy"),
            ("HELIOGRAPH_GATEWAY__SOCKET__ADMISSIONS__BURST", "7"),
            ("HELIOGRAPH_GATEWAY__SOCKET__TLS__CERTIFICATE", "c.pem"),
            ("HELIOGRAPH_GATEWAY__SOCKET__TLS__KEY", "k.pem"),
            // Of others: no section, or another program.
            ("HELIOGRAPH_NATS_SERVER", "x"),
            ("OTHER__NAME", "x"),
        ];
        let config = layers("", &variables, Vec::new()).unwrap().config().unwrap();
        assert_eq!(config.api.allowed_origins, ["https://a.example", "https://b.example"]);
        assert_eq!((config.api.password_jobs, config.gateway.socket.admissions.burst), (3, 7));
        assert!(!config.event_log.hand_over_commands);
        assert_eq!(config.event_log.durability, event_log::Durability::Lazy);
        assert_eq!(config.gateway.socket.tls.unwrap().key, Path::new("k.pem"));
    }

    #[test]
    fn what_there_is_no_setting_for_is_refused_with_its_name_and_place() {
        for (file, variables, said) in [
            ("\n[gateway.sockets]\nlisten = 1", &[][..], "heliograph.toml:2: there is no setting `gateway.sockets`"),
            (
                "[gateway.socket]\n\nlisten_on = 1",
                &[],
                "heliograph.toml:3: there is no setting `gateway.socket.listen_on`",
            ),
            ("[gateway]\nsocket = 1", &[], "gateway.socket"),
            // What `up` sees to itself is none.
            ("[event_log]\nservers = []", &[], "heliograph.toml:2: there is no setting `event_log.servers`"),
            ("[store]\nfolder = \"x\"", &[], "heliograph.toml:2: there is no setting `store.folder`"),
            ("listen", &[], "heliograph.toml: TOML parse error at line 1"),
            ("", &[("HELIOGRAPH_API__LISTENS", "x")], "HELIOGRAPH_API__LISTENS: there is no setting `api.listens`"),
            ("", &[("HELIOGRAPH_API__LISTEN_FILE", "x")], "there is no setting `api.listen_file`"),
        ] {
            let refused = refused(file, variables);
            assert!(refused.contains(said), "{file} {variables:?}: {refused}");
        }
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_refused_with_where_it_is_from() {
        for (file, variables, said) in [
            ("\n\nlog = 1", &[][..], "heliograph.toml:3: log: "),
            ("[api]\nlisten = \"here\"", &[], "heliograph.toml:2: api.listen: "),
            (
                "[gateway.socket.tls]\nkey = \"k\"",
                &[],
                "heliograph.toml:2: gateway.socket.tls: missing field `certificate`",
            ),
            ("", &[("HELIOGRAPH_API__DRAIN_MS", "-1")], "HELIOGRAPH_API__DRAIN_MS: api.drain_ms: "),
            ("", &[("HELIOGRAPH_API__DRAIN_MS", "soon")], "HELIOGRAPH_API__DRAIN_MS: \"soon\" is no value"),
        ] {
            let refused = refused(file, variables);
            assert!(refused.contains(said), "{file} {variables:?}: {refused}");
        }
    }

    #[test]
    fn a_secret_comes_from_a_file_and_is_shown_to_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        fs::write(&file, "hunter2\n").unwrap();
        // With the settings that a process would have whose broker is not its own.
        let mut layers = Layers { nodes: tree::<Config>(&[]), values: BTreeMap::new() };
        let named = "HELIOGRAPH_EVENT_LOG__LOGIN__PASSWORD_FILE".to_owned();
        layers.environment(iter::once((named.clone(), file.display().to_string()))).unwrap();
        let all = settings(&layers.nodes);
        let setting = all.into_iter().find(|setting| setting.is_secret).unwrap();
        let expected = (Value::String("hunter2".to_owned()), Origin::Named(named.clone()));
        assert_eq!(layers.value(setting), Some(&expected));
        let shown = super::super::effective_text(&layers);
        assert!(shown.contains("event_log.login.password = \"…\"") && !shown.contains("hunter2"), "{shown}");
        let both =
            [(named, file.display().to_string()), ("HELIOGRAPH_EVENT_LOG__LOGIN__PASSWORD".to_owned(), "x".to_owned())];
        assert!(layers.clone().environment(both.into_iter()).unwrap_err().to_string().contains("the same setting"));
    }
}
