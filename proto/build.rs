//! Generates the wire types from the `.proto` files; needs no protoc.

use std::{env, error::Error, fs, path::PathBuf};

const FILES: &[&str] = &[
    "heliograph/v1/entry.proto",
    "heliograph/v1/error.proto",
    "heliograph/v1/command.proto",
    "heliograph/v1/frames.proto",
    "heliograph/log/v1/log.proto",
    "heliograph/relay/v1/relay.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=heliograph");
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::create_dir_all(&out)?;
    prost_build::Config::new().bytes(["."]).btree_map(["."]).include_file("heliograph.rs").compile_fds(descriptors)?;
    Ok(())
}
