//! What `infra/` holds is what its programs take, as far as they are on this machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::cluster::layout::{Kind, MEMBERS};
use crate::process::workspace;

/// What a program printed; none: it is not on this machine.
fn printed(command: &mut Command) -> Option<(bool, String)> {
    let output = command.output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
}

fn infra() -> PathBuf {
    workspace().join("infra")
}

fn roles() -> impl Iterator<Item = &'static str> {
    MEMBERS.iter().filter_map(|member| match member.kind {
        Kind::Role(role) if member.name.ends_with("-1") => Some(role),
        Kind::Role(_) | Kind::Cassandra | Kind::Nats | Kind::Proxy => None,
    })
}

/// The units under instance names, with a program that there is.
fn units(folder: &Path) -> Vec<PathBuf> {
    fs::create_dir_all(folder).unwrap();
    let unit = |role| {
        let text = fs::read_to_string(infra().join(format!("systemd/heliograph-{role}@.service"))).unwrap();
        assert!(
            text.contains(&format!("ExecStart=/usr/bin/heliograph run --role {role} --worker {role}-%i ")),
            "{role}"
        );
        let unit = folder.join(format!("heliograph-{role}@1.service"));
        fs::write(&unit, text.replace("/usr/bin/heliograph", "/bin/true")).unwrap();
        unit
    };
    roles().map(unit).collect()
}

#[test]
fn each_role_has_a_unit_that_systemd_takes_and_finds_shut_tight() {
    let folder = workspace().join(format!("target/xtask-units-{}", std::process::id()));
    let units = units(&folder);
    assert_eq!(units.len(), 5);
    for unit in &units {
        let Some((is_fine, said)) = printed(Command::new("systemd-analyze").arg("verify").arg(unit)) else {
            eprintln!("no systemd-analyze: the units are not checked");
            break;
        };
        assert!(is_fine && said.trim().is_empty(), "{}: {said}", unit.display());
        // Tenths of a point of exposure, of a hundred.
        let mut security = Command::new("systemd-analyze");
        security.args(["security", "--offline=true", "--threshold=20"]).arg(unit);
        let (is_tight, said) = printed(&mut security).unwrap();
        assert!(is_tight, "{said}");
    }
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn the_compose_file_has_the_layout_of_the_cluster() {
    let script = "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))";
    let mut python = Command::new("python3");
    python.args(["-c", script]).arg(infra().join("compose.yaml"));
    let parsed = printed(&mut python).filter(|(_, said)| !said.contains("No module named 'yaml'"));
    let Some((is_yaml, text)) = parsed else {
        eprintln!("no Python with PyYAML: the compose file is not checked");
        return;
    };
    assert!(is_yaml, "{text}");
    let compose: Value = serde_json::from_str(&text).unwrap();
    let services = compose["services"].as_object().unwrap();
    for member in MEMBERS {
        let name = if member.kind == Kind::Cassandra { "scylla" } else { member.name };
        let service = services.get(name).unwrap_or_else(|| panic!("no {name}"));
        let Kind::Role(role) = member.kind else { continue };
        let words: Vec<_> = service["command"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
        let config = format!("/etc/heliograph/{role}.toml");
        let expected = ["heliograph", "run", "--role", role, "--worker", name, "--config", &*config];
        assert_eq!(words[..expected.len()], expected, "{name}");
        let mounts: Vec<_> = service["volumes"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        let own = format!("{name}:/data");
        assert_eq!(mounts.contains(&&*own), matches!(role, "gateway" | "api"), "{name}: {mounts:?}");
        assert!(mounts.contains(&"./cluster:/etc/heliograph:ro"), "{name}: {mounts:?}");
    }
    for (name, service) in services {
        let after = &service["depends_on"];
        let with_conditions = after.as_object().into_iter().flat_map(|after| after.keys().map(String::as_str));
        let bare = after.as_array().into_iter().flatten().filter_map(Value::as_str);
        let after: Vec<_> = with_conditions.chain(bare).collect();
        assert!(after.iter().all(|other| services.contains_key(*other)), "{name} comes after {after:?}");
        for mount in service["volumes"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let source = mount.split(':').next().unwrap();
            if let Some(file) = source.strip_prefix("./") {
                assert!(infra().join(file).exists(), "{name}: {mount}");
            } else if !source.starts_with("${") {
                assert!(compose["volumes"].get(source).is_some(), "{name}: {mount}");
            }
        }
    }
}
