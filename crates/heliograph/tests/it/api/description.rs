//! The description of the API is the committed one.

use std::path::Path;

/// Says that the committed file is to be written anew.
const REWRITE: &str = "HELIOGRAPH_GOLDEN";

#[test]
fn the_committed_description_is_what_the_code_says() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas/openapi.json");
    let said = api::openapi().unwrap();
    if std::env::var(REWRITE).is_ok_and(|value| value == "rewrite") {
        std::fs::write(&file, &said).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(committed == said, "schemas/openapi.json is not what the code says: `cargo xtask golden` writes it anew");
}
