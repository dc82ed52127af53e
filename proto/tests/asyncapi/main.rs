//! `schemas/asyncapi.json` says what the frames are: made from the `.proto` files, and held against real frames.
//!
//! `HELIOGRAPH_GOLDEN=rewrite` writes it anew.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a file that cannot be read fails the test, as it should")]

mod document;
mod schemas;

use std::path::{Path, PathBuf};
use std::{env, fs};

use jsonschema::{Draft, Validator};
use serde_json::{Value, json};

use crate::document::document;
use crate::schemas::Types;

const PACKAGE: &str = "heliograph.v1";

fn generated() -> Value {
    let root = env!("CARGO_MANIFEST_DIR");
    let files = protox::compile(["heliograph/v1/frames.proto"], [root]).unwrap();
    document(&Types::of(&files.file, PACKAGE))
}

fn committed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/asyncapi.json")
}

/// Judges payloads of one message of the document.
fn validator(document: &Value, message: &str) -> Validator {
    let schema = json!({
        "allOf": [document["components"]["messages"][message]["payload"]],
        "components": document["components"],
    });
    jsonschema::options().with_draft(Draft::Draft7).build(&schema).unwrap()
}

/// The golden frames of a kind: the name of its arm, and the frame.
fn golden_frames(kind: &str) -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1");
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    files
        .filter_map(|file| {
            let name =
                file.file_name()?.to_str()?.strip_prefix(&format!("{PACKAGE}.{kind}-"))?.strip_suffix(".json")?;
            // snake_case in the file's name, lowerCamelCase in JSON.
            let mut words = name.split('_');
            let first = words.next()?.to_owned();
            let arm = words.fold(first, |arm, word| arm + &word[..1].to_uppercase() + &word[1..]);
            Some((arm, serde_json::from_slice(&fs::read(&file).unwrap()).unwrap()))
        })
        .collect()
}

#[test]
fn the_committed_description_is_what_the_types_say() {
    let text = serde_json::to_string_pretty(&generated()).unwrap() + "\n";
    if env::var("HELIOGRAPH_GOLDEN").is_ok_and(|value| value == "rewrite") {
        fs::write(committed(), &text).unwrap();
    }
    let is = fs::read_to_string(committed()).unwrap_or_default();
    assert!(is == text, "schemas/asyncapi.json is of other frames; `cargo xtask golden` writes it anew");
}

#[test]
fn it_takes_each_real_frame_and_refuses_what_is_none() {
    let document = generated();
    for kind in ["ClientFrame", "ServerFrame"] {
        let frames = golden_frames(kind);
        assert!(frames.len() > 4, "{kind}: {} golden frames", frames.len());
        for (arm, frame) in frames {
            let takes = validator(&document, &arm);
            assert!(takes.is_valid(&frame), "{arm}: {:?}", takes.validate(&frame).map_err(|error| error.to_string()));
            for (fault, value) in [("id", json!({})), ("id", json!("-1")), (&*arm, json!("text"))] {
                let mut wrong = frame.clone();
                wrong[fault] = value;
                assert!(!takes.is_valid(&wrong), "{arm} with {fault}: {wrong}");
            }
            let mut none = frame.clone();
            none.as_object_mut().unwrap().remove(&arm);
            assert!(!takes.is_valid(&none), "no {arm}: {none}");
            let mut two = frame;
            two[if arm == "seen" { "received" } else { "seen" }] = json!({});
            two[if arm == "closing" { "ready" } else { "closing" }] = json!({});
            assert!(!takes.is_valid(&two), "two at once: {two}");
        }
    }
}
