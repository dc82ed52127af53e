//! All settings as the types declare them: their paths, their comments, and which of them are secrets.
//!
//! Read from the JSON schema of the types, so that a field and its doc line are written once.

use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value};

/// What a setting takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Text,
    List,
    /// A number or a truth value, spelt as TOML does.
    Literal,
}

/// One thing that can be set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Setting {
    /// Of the sections that it stands in, and its own name.
    pub(crate) path: Vec<String>,
    pub(crate) doc: String,
    pub(crate) kind: Kind,
    /// Shown to nobody, and read from a file that the environment names.
    pub(crate) is_secret: bool,
}

/// A section, or a setting.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Node {
    Section { path: Vec<String>, doc: String, is_optional: bool, within: Vec<Self> },
    Setting(Setting),
}

/// All that a type takes, settings before sections, each by name; without the paths in `hidden`.
pub(crate) fn tree<T: JsonSchema>(hidden: &[&str]) -> Vec<Node> {
    let schema = SchemaGenerator::default().into_root_schema_for::<T>().to_value();
    let defs = schema["$defs"].as_object().cloned().unwrap_or_default();
    Walk { defs, hidden }.within(&schema, &[])
}

/// The settings of a tree, in its order.
pub(crate) fn settings(nodes: &[Node]) -> Vec<&Setting> {
    let mut all = Vec::new();
    for node in nodes {
        match node {
            Node::Setting(setting) => all.push(setting),
            Node::Section { within, .. } => all.extend(settings(within)),
        }
    }
    all
}

struct Walk<'a> {
    defs: Map<String, Value>,
    hidden: &'a [&'a str],
}

impl Walk<'_> {
    fn within(&self, schema: &Value, path: &[String]) -> Vec<Node> {
        let properties = schema["properties"].as_object().into_iter().flatten();
        let mut nodes: Vec<_> = properties.filter_map(|(name, schema)| self.node(schema, path, name)).collect();
        // Whether a map keeps its order depends on what else is built along.
        nodes.sort_by_key(|node| match node {
            Node::Setting(setting) => (false, setting.path.clone()),
            Node::Section { path, .. } => (true, path.clone()),
        });
        nodes
    }

    fn node(&self, schema: &Value, path: &[String], name: &str) -> Option<Node> {
        let path = [path, &[name.to_owned()]].concat();
        if self.hidden.contains(&&*path.join(".")) {
            return None;
        }
        let doc = schema["description"].as_str().unwrap_or_default().to_owned();
        let (meant, is_optional) = self.meant(schema);
        if meant["properties"].is_object() {
            let within = self.within(meant, &path);
            return Some(Node::Section { path, doc, is_optional, within });
        }
        let has_type = |wanted: &str| {
            let declared = &meant["type"];
            declared == wanted || declared.as_array().is_some_and(|types| types.iter().any(|one| one == wanted))
        };
        let kind = if has_type("array") {
            Kind::List
        } else if has_type("integer") || has_type("number") || has_type("boolean") {
            Kind::Literal
        } else {
            Kind::Text
        };
        let is_secret = schema["writeOnly"] == true;
        Some(Node::Setting(Setting { path, doc, kind, is_secret }))
    }

    /// What a reference leads to, and whether it may be left out.
    fn meant<'s>(&'s self, schema: &'s Value) -> (&'s Value, bool) {
        if let Some(name) = schema["$ref"].as_str().and_then(|name| name.strip_prefix("#/$defs/")) {
            return (self.defs.get(name).unwrap_or(schema), false);
        }
        let among = schema["anyOf"].as_array().filter(|any| any.iter().any(|one| one["type"] == "null"));
        match among.and_then(|any| any.iter().find(|one| one["type"] != "null")) {
            Some(some) => (self.meant(some).0, true),
            None => (schema, false),
        }
    }
}
