//! Settings as text: the file with everything in it, and what counts now.

use std::fmt::Write as _;

use anyhow::Result;

use super::For;
use super::layers::Layers;
use super::settings::{Node, Setting, settings};

/// Sections of so few settings stand on one line.
const ON_ONE_LINE: usize = 2;

const HEAD: &str = "\
# All settings of `heliograph up --config FILE`, with their defaults: `heliograph config default` prints this file.
# A flag counts more than the environment, and that more than the file. Of a setting in sections the variable is
# HELIOGRAPH_ and its path in capitals, joined by two underscores: HELIOGRAPH_GATEWAY__SOCKET__QUEUE_BYTES.
# Of a secret it may end in _FILE and name a file. What has no default is left out with `#`.
";

/// A file with all settings, their comments, and their defaults.
///
/// # Errors
/// None that a type of ours gives rise to.
pub(crate) fn default_text() -> Result<String> {
    let layers = Layers::defaults(For::Up)?;
    let mut text = HEAD.to_owned();
    nodes(&layers, &layers.nodes, false, &mut text);
    Ok(text)
}

fn nodes(layers: &Layers, among: &[Node], is_left_out: bool, text: &mut String) {
    let mut sections = Vec::new();
    for node in among {
        match node {
            Node::Setting(setting) => {
                comment(&setting.doc, text);
                let name = name(&setting.path);
                let _ = match layers.value(setting).filter(|_| !is_left_out) {
                    Some((value, _)) => writeln!(text, "{name} = {value}"),
                    None => writeln!(text, "#{name} ="),
                };
            }
            Node::Section { path, doc, is_optional, within } => match on_one_line(layers, within) {
                Some(pairs) => {
                    comment(doc, text);
                    let _ = writeln!(text, "{} = {{ {pairs} }}", name(path));
                }
                None => sections.push((path, doc, *is_optional, within)),
            },
        }
    }
    // Last: what follows the head of a section belongs to it.
    for (path, doc, is_optional, within) in sections {
        let is_left_out = is_left_out || is_optional;
        comment(doc, text);
        let _ = writeln!(text, "{}[{}]", if is_left_out { "#" } else { "" }, path.join("."));
        nodes(layers, within, is_left_out, text);
    }
}

fn name(path: &[String]) -> &str {
    path.last().map(String::as_str).unwrap_or_default()
}

/// The settings of a short section that has all of them.
fn on_one_line(layers: &Layers, within: &[Node]) -> Option<String> {
    let settings = settings(within);
    let pair = |setting: &&Setting| Some(format!("{} = {}", name(&setting.path), layers.value(setting)?.0));
    let pairs: Vec<_> = settings.iter().map(pair).collect::<Option<_>>()?;
    (pairs.len() <= ON_ONE_LINE).then(|| pairs.join(", "))
}

fn comment(doc: &str, text: &mut String) {
    text.push('\n');
    for line in doc.lines() {
        let _ = writeln!(text, "{}", format!("# {line}").trim_end());
    }
}

/// Each setting with what counts and where that comes from; secrets are hidden.
pub(crate) fn effective_text(layers: &Layers) -> String {
    let mut text = String::new();
    for setting in settings(&layers.nodes) {
        let path = setting.path.join(".");
        let _ = match layers.value(setting) {
            Some((_, origin)) if setting.is_secret => writeln!(text, "{path} = \"…\"  # {origin}, a secret"),
            Some((value, origin)) => writeln!(text, "{path} = {value}  # {origin}"),
            None => writeln!(text, "#{path} =  # not set"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn the_files_of_separate_roles_are_what_run_takes_and_agree_on_the_log() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../infra/");
        let mut logs = Vec::new();
        for place in ["cluster"] {
            for role in ["gateway", "api", "ingest", "delivery", "projections"] {
                let file = format!("{folder}{place}/{role}.toml");
                let layers = Layers::of(For::Run, Some(file.as_ref()), std::iter::empty(), Vec::new()).unwrap();
                let config = layers.config().unwrap();
                config.check().unwrap();
                logs.push((place, file, config.partitions, config.event_log));
            }
        }
        for (place, file, partitions, log) in &logs {
            let (_, first, ..) = logs.iter().find(|(of, ..)| of == place).unwrap();
            let (.., same_partitions, same_log) = logs.iter().find(|(_, of, ..)| of == first).unwrap();
            assert_eq!((partitions, log), (same_partitions, same_log), "{file} is not as {first}");
            assert_eq!(log.durability, event_log::Durability::Replicated, "{file}");
        }
    }

    #[test]
    fn the_example_file_is_what_config_default_prints_and_holds_the_defaults() {
        let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../../infra/heliograph.toml");
        let text = default_text().unwrap();
        if std::env::var_os("HELIOGRAPH_GOLDEN").is_some_and(|what| what == "rewrite") {
            std::fs::write(example, &text).unwrap();
        }
        let kept = std::fs::read_to_string(example).unwrap();
        assert!(kept == text, "infra/heliograph.toml is not what `heliograph config default` prints");
        assert_eq!(toml::from_str::<Config>(&text).unwrap(), Config::default());
        let layers = Layers::of(For::Up, Some(example.as_ref()), std::iter::empty(), Vec::new()).unwrap();
        assert_eq!(layers.config().unwrap(), Config::default());
    }

    #[test]
    fn every_setting_has_a_comment() {
        let layers = Layers::defaults(For::Up).unwrap();
        let all = settings(&layers.nodes);
        assert!(all.len() > 80, "{}", all.len());
        let bare: Vec<_> = all.iter().filter(|setting| setting.doc.is_empty()).map(|one| one.path.join(".")).collect();
        assert!(bare.is_empty(), "{bare:?}");
    }
}
