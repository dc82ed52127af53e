//! What a sans-IO state machine may not name: IO, the clock, chance, and an order that changes from run to run.
//!
//! Time and random numbers come in with each input; what is to be done goes out as actions. Only so can the simulator
//! run the same code, and a takeover decide the same bytes again (M4).

use super::tokens::{Token, without_tests};

/// Crates that do IO or draw random numbers, as paths name them.
const CRATES: &[&str] =
    &["async_nats", "event_log", "fastrand", "fjall", "getrandom", "hyper", "rand", "store", "tokio", "tokio_util"];

/// Names that are refused wherever they stand.
const NAMES: &[(&str, &str)] = &[
    ("SystemTime", "time comes in with the input"),
    ("RandomState", "its order changes from run to run"),
    ("new_v4", "ids come in with the input"),
    ("now_v7", "ids come in with the input"),
];

/// Maps whose default hasher is seeded by chance, and how many type arguments they have before the hasher.
const MAPS: &[(&str, usize)] = &[("HashMap", 2), ("HashSet", 1)];

/// Every refused name in the text of the file at `place`.
pub(crate) fn violations(place: &str, text: &str) -> Vec<String> {
    let tokens = without_tests(text);
    let mut wrong = Vec::new();
    for at in 0..tokens.len() {
        if let Some(problem) = problem(&tokens, at) {
            wrong.push(format!("{place}:{}: {problem}", tokens[at].line));
        }
    }
    wrong
}

fn problem(tokens: &[Token<'_>], at: usize) -> Option<String> {
    let word = tokens[at].text;
    if CRATES.contains(&word) && is_crate(tokens, at) {
        return Some(format!("a machine may not name `{word}`: its shell does what it asks for"));
    }
    if let Some((name, why)) = NAMES.iter().find(|(name, _)| *name == word) {
        return Some(format!("a machine may not name `{name}`: {why}"));
    }
    if word == "Instant" && next(tokens, at) == "::" && next(tokens, at + 1) == "now" {
        return Some("a machine may not ask `Instant::now`: time comes in with the input".to_owned());
    }
    let (map, arguments) = MAPS.iter().find(|(map, _)| *map == word)?;
    by_chance(tokens, at, *arguments).then(|| {
        format!("`{map}` with the default hasher has another order in each run: take a BTree or a fixed hasher")
    })
}

/// Whether the word at `at` is the head of a path or an import, and not a field, a variable or an own module.
fn is_crate(tokens: &[Token<'_>], at: usize) -> bool {
    let before = previous(tokens, at, 1);
    if before == "::" {
        // `::store::…` is the crate, `self::store::…` is not.
        let further = previous(tokens, at, 2);
        let ends_a_type = further == ">" && previous(tokens, at, 3) != "-";
        let goes_on = ends_a_type || further.starts_with(|letter: char| letter.is_alphanumeric() || letter == '_');
        return !goes_on || further == "use" || further == "return";
    }
    before != "." && (next(tokens, at) == "::" || before == "use" || before == "crate" || in_bare_group(tokens, at))
}

/// Whether the word stands in `use {a, b as c};`.
fn in_bare_group(tokens: &[Token<'_>], at: usize) -> bool {
    if !["{", ","].contains(&previous(tokens, at, 1)) || ![",", "}", "as"].contains(&next(tokens, at)) {
        return false;
    }
    let open = tokens[..at].iter().rposition(|token| ["{", ";", "}"].contains(&token.text));
    open.is_some_and(|open| tokens[open].text == "{" && previous(tokens, open, 1) == "use")
}

fn by_chance(tokens: &[Token<'_>], at: usize, arguments: usize) -> bool {
    let mut open = at + 1;
    if next(tokens, at) == "::" {
        if next(tokens, at + 1) != "<" {
            // A constructor: these two exist only for the default hasher.
            return ["new", "with_capacity", "from"].contains(&next(tokens, at + 1));
        }
        open = at + 2;
    }
    match tokens.get(open).map(|token| token.text) {
        Some("<") => type_arguments(tokens, open) <= arguments,
        // Under another name no use of it would be seen.
        Some("as") => true,
        _ => false,
    }
}

/// How many arguments the `<` at `open` begins.
fn type_arguments(tokens: &[Token<'_>], open: usize) -> usize {
    let (mut depth, mut count, mut pending) = (0_i32, 0, false);
    for at in open..tokens.len() {
        match tokens[at].text {
            "<" | "(" | "[" => depth += 1,
            // Not the end of an arrow.
            ">" if previous(tokens, at, 1) != "-" => depth -= 1,
            ")" | "]" => depth -= 1,
            "," if depth == 1 => {
                count += usize::from(pending);
                pending = false;
                continue;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
        pending = pending || at > open;
    }
    count + usize::from(pending)
}

fn next<'a>(tokens: &[Token<'a>], at: usize) -> &'a str {
    tokens.get(at + 1).map_or("", |token| token.text)
}

fn previous<'a>(tokens: &[Token<'a>], at: usize, steps: usize) -> &'a str {
    at.checked_sub(steps).map_or("", |before| tokens[before].text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_planted_name_is_caught() {
        for planted in [
            "use tokio::sync::mpsc;",
            "use ::tokio::sync::mpsc;",
            "use tokio as runtime;",
            "use {bytes::Bytes, tokio::time};",
            "use {bytes, tokio};",
            "extern crate rand;",
            "fn f() { tokio::spawn(x) }",
            "fn f(s: &event_log::Log) {}",
            "use event_log::Subject;",
            "use store::Store;",
            "use store as s;",
            "fn f(s: &store::Store) {}",
            "fn f() -> ::store::Store {}",
            "let x = rand::random::<u64>();",
            "let x = uuid::Uuid::now_v7();",
            "let x = Uuid::new_v4();",
            "let now = Instant::now();",
            "let now = std::time::Instant :: now();",
            "let now = std::time::SystemTime::now();",
            "use std::time::{Duration, SystemTime};",
            "chats: HashMap<ChatId, Chat>,",
            "chats: HashMap<ChatId, Vec<(A, B)>,>,",
            "chats: std::collections::HashMap<ChatId, fn(A, B) -> C>,",
            "known: HashSet<ChatId>,",
            "let m = HashMap::new();",
            "let m = HashSet::with_capacity(3);",
            "let m = HashMap::from([(1, 2)]);",
            "let m = HashMap::<A, B>::default();",
            "x.collect::<HashSet<_>>()",
            "use std::collections::HashMap as Map;",
            "use std::hash::RandomState;",
        ] {
            let found = violations("gateway/src/machine/packer.rs", &format!("\n{planted}\n"));
            assert_eq!(found.len(), 1, "{planted}: {found:?}");
            assert!(found[0].starts_with("gateway/src/machine/packer.rs:2: "), "{found:?}");
        }
    }

    #[test]
    fn what_only_looks_alike_passes() {
        for fine in [
            "// tokio::spawn, Instant::now()",
            "let text = \"use tokio::sync;\";",
            "self.store.push(x); let store = 3; f(store)",
            "Action::Store { store, rand } => store,",
            "use self::store::Rows; use super::store::Rows; crate::machine::store::f();",
            "now: Instant, fn f(now: Instant) -> Instant {}",
            "use std::collections::{BTreeMap, HashMap};",
            "chats: HashMap<ChatId, Vec<(A, B)>, FixedHasher>, known: HashSet<ChatId, FixedHasher>,",
            "let m = HashMap::with_hasher(FixedHasher); let m = HashMap::<A, B, FixedHasher>::default();",
            "let operand = brand::new(); tokio_like::f();",
            "#[cfg(test)] mod tests { use tokio::sync; fn f() { HashMap::new(); rand::rng() } }",
        ] {
            assert_eq!(violations("x.rs", fine), Vec::<String>::new(), "{fine}");
        }
    }

    #[test]
    fn a_test_module_does_not_hide_what_follows_it() {
        let source = "#[cfg(test)]\nmod tests {\n  use tokio::sync;\n}\nuse tokio::time;";
        assert_eq!(violations("x.rs", source).len(), 1);
    }
}
