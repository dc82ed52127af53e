//! Which crate of the workspace may depend on which, and which libraries have one owner.
//!
//! The table is the direction of style.md, row by row. A new crate or edge is a new row or word here: a choice that
//! shows in a review.

use serde_json::Value;

/// Each crate and the crates of this workspace that it may depend on outside its tests.
const ALLOWED: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("domain", &["proto"]),
    ("event-log", &["domain", "proto"]),
    ("store", &["domain", "proto"]),
    ("audit", &[]),
    ("background", &[]),
    ("limits", &[]),
    ("packer", &["domain", "event-log", "proto"]),
    ("tokens", &["domain", "event-log", "proto"]),
    ("issuers", &["domain", "tokens"]),
    ("api", ROLE),
    ("gateway", ROLE),
    ("ingest", ROLE),
    ("delivery", ROLE),
    ("projections", ROLE),
    ("telemetry", &[]),
    ("client", &["proto"]),
    ("checker", &["domain"]),
    ("witness", &["checker", "client", "proto"]),
    ("testkit", &[]),
    (
        "heliograph",
        &[
            "api",
            "audit",
            "client",
            "delivery",
            "domain",
            "event-log",
            "gateway",
            "ingest",
            "issuers",
            "limits",
            "packer",
            "projections",
            "proto",
            "store",
            "telemetry",
            "tokens",
        ],
    ),
    (
        "simulator",
        &["checker", "client", "delivery", "domain", "gateway", "ingest", "packer", "projections", "proto", "witness"],
    ),
    (
        "loadtest",
        &[
            "checker",
            "client",
            "delivery",
            "domain",
            "event-log",
            "gateway",
            "heliograph",
            "ingest",
            "issuers",
            "projections",
            "proto",
            "store",
            "telemetry",
            "testkit",
            "tokens",
            "witness",
        ],
    ),
    ("xtask", &[]),
];

/// What a role may depend on: never another role, they meet in the log, the store's port and `proto`.
const ROLE: &[&str] =
    &["audit", "background", "domain", "event-log", "issuers", "limits", "packer", "proto", "store", "tokens"];

/// What any crate's tests may use beside that.
const FOR_TESTS: &[&str] = &["checker", "client", "loadtest", "testkit", "witness"];

/// Crates that know nothing of this project's other crates, in their tests neither.
const ALONE: &[&str] = &["testkit", "xtask"];

/// Libraries that only one crate may name.
const OWNED: &[(&str, &str)] =
    &[("async-nats", "event-log"), ("fastwebsockets", "gateway"), ("fjall", "store"), ("scylla", "store")];

/// Crates that stand outside the product and may name an owned library.
const OUTSIDE: &[&str] = &["loadtest", "testkit", "xtask"];

/// Never in any build: the one TLS provider is aws-lc-rs, and with two of them rustls panics at its first use.
const FORBIDDEN: &[&str] = &["openssl-sys", "ring"];

/// Every edge of `cargo metadata --no-deps` that the tables do not allow.
pub(crate) fn violations(metadata: &Value) -> Vec<String> {
    let packages: Vec<_> = metadata["packages"].as_array().into_iter().flatten().collect();
    let members: Vec<_> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let mut wrong = Vec::new();
    for package in &packages {
        let Some(name) = package["name"].as_str() else { continue };
        let Some((_, allowed)) = ALLOWED.iter().find(|(row, _)| *row == name) else {
            wrong.push(format!("{name}: has no row in the table of layers (xtask/src/check_layers/edges.rs)"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            // The package's own name; what the crate calls it is `rename`.
            let Some(on) = dependency["name"].as_str() else { continue };
            let in_tests = dependency["kind"].as_str() == Some("dev");
            let problem = if members.contains(&on) {
                let fine = allowed.contains(&on) || in_tests && FOR_TESTS.contains(&on) && !ALONE.contains(&name);
                (!fine).then(|| "the layers do not allow it".to_owned())
            } else {
                let owner = OWNED.iter().find(|(library, _)| *library == on).map(|(_, owner)| *owner);
                let fine = owner.is_none_or(|owner| owner == name) || in_tests || OUTSIDE.contains(&name);
                (!fine).then(|| format!("only {} may name it", owner.unwrap_or_default()))
            };
            if let Some(problem) = problem {
                let kind = if in_tests { "its tests depend" } else { "depends" };
                wrong.push(format!("{name}: {kind} on {on}, and {problem}"));
            }
        }
    }
    wrong
}

/// Packages of the build, as `cargo tree` prints them, that must not be in it.
pub(crate) fn forbidden_packages(resolved: &str) -> Vec<String> {
    let mut found: Vec<_> = resolved
        .lines()
        .filter(|line| line.split(' ').next().is_some_and(|name| FORBIDDEN.contains(&name)))
        .map(|line| format!("{}: must not be in any build; `cargo tree --invert` shows who brings it", line.trim()))
        .collect();
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A workspace of all crates where `name` has the dependency `on` of this kind.
    fn planted(name: &str, on: &str, kind: Option<&str>) -> Vec<String> {
        let packages: Vec<_> = ALLOWED
            .iter()
            .map(|(row, _)| {
                let dependencies =
                    if *row == name { json!([{"name": on, "kind": kind, "rename": "x"}]) } else { json!([]) };
                json!({"name": row, "dependencies": dependencies})
            })
            .collect();
        violations(&json!({ "packages": packages }))
    }

    #[test]
    fn an_edge_against_the_direction_is_caught() {
        for (name, on) in [
            ("proto", "domain"),
            ("domain", "event-log"),
            ("event-log", "store"),
            ("store", "gateway"),
            ("gateway", "heliograph"),
            ("client", "domain"),
            ("checker", "proto"),
            ("simulator", "event-log"),
            ("heliograph", "testkit"),
        ] {
            assert_eq!(planted(name, on, None), [format!("{name}: depends on {on}, and the layers do not allow it")]);
            assert_eq!(planted(name, on, Some("build")).len(), 1, "{name} on {on} as a build dependency");
        }
    }

    #[test]
    fn roles_never_import_each_other_in_tests_neither() {
        for name in ["gateway", "ingest", "delivery", "projections"] {
            for on in ["gateway", "ingest", "delivery", "projections"] {
                if name != on {
                    assert_eq!(planted(name, on, None).len(), 1, "{name} on {on}");
                    assert_eq!(planted(name, on, Some("dev")).len(), 1, "{name} on {on} in tests");
                }
            }
        }
    }

    #[test]
    fn testkit_depends_on_no_crate_of_the_project() {
        for kind in [None, Some("dev")] {
            for (on, _) in ALLOWED.iter().filter(|(on, _)| *on != "testkit") {
                assert_eq!(planted("testkit", on, kind).len(), 1, "{on}");
            }
        }
    }

    #[test]
    fn an_engine_has_one_owner() {
        for (library, owner) in OWNED {
            assert!(planted(owner, library, None).is_empty());
            for (name, _) in ALLOWED.iter().filter(|(name, _)| name != owner && !OUTSIDE.contains(name)) {
                let expected = format!("{name}: depends on {library}, and only {owner} may name it");
                assert_eq!(planted(name, library, None), [expected]);
                assert!(planted(name, library, Some("dev")).is_empty());
            }
        }
    }

    #[test]
    fn tests_may_use_what_is_made_for_tests() {
        assert!(planted("gateway", "testkit", Some("dev")).is_empty());
        assert!(planted("heliograph", "loadtest", Some("dev")).is_empty());
    }

    #[test]
    fn a_crate_without_a_row_is_caught() {
        let metadata = json!({"packages": [{"name": "common", "dependencies": []}]});
        assert!(violations(&metadata)[0].starts_with("common: has no row"));
    }

    #[test]
    fn a_second_tls_provider_is_caught() {
        let tree = "rustls v0.23.40\nring v0.17.14\nring v0.17.14 (*)\nstring-ring v1.0.0";
        let found = forbidden_packages(tree);
        assert!(found.iter().all(|line| line.starts_with("ring v0.17.14")) && !found.is_empty(), "{found:?}");
        assert!(forbidden_packages("rustls v0.23.40\nspring v1.0.0").is_empty());
    }
}
