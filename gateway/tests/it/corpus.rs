//! What the fuzz targets found is replayed here, on stable: each input that once showed something new.
//!
//! `cargo xtask fuzz` looks for more; the targets' bodies are these.

use std::fs;
use std::path::Path;

#[path = "../../../fuzz/bodies/client_frame.rs"]
mod client_frame;
#[path = "../../../fuzz/bodies/frame_guard.rs"]
mod frame_guard;
#[path = "../../../fuzz/bodies/handshake.rs"]
mod handshake;

fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut inputs = 0;
    for input in fs::read_dir(folder).unwrap() {
        let path = input.unwrap().path();
        let data = fs::read(&path).unwrap();
        if std::panic::catch_unwind(|| run(&data)).is_err() {
            panic!("{} fails", path.display());
        }
        inputs += 1;
    }
    assert!(inputs > 0, "no corpus for {target}");
}

#[test]
fn the_frame_guard_holds_for_its_corpus() {
    replay("frame_guard", frame_guard::run);
}

#[test]
fn client_frames_decode_within_bounds_for_their_corpus() {
    replay("client_frame", client_frame::run);
}

#[test]
fn the_handshake_answers_its_corpus() {
    replay("handshake", handshake::run);
}
