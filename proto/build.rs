//! Generates the wire types from the `.proto` files, and the JSON form of those that clients see; needs no protoc.

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
    let mut json = pbjson_build::Builder::new();
    for file in &descriptors.file {
        json.register_file_descriptor(file.clone());
    }
    // As in protobuf, what a newer client says beyond this version is passed over, not a fault.
    json.ignore_unknown_fields().ignore_unknown_enum_variants().build(&[".heliograph.v1"])?;
    prost_build::Config::new().bytes(["."]).btree_map(["."]).include_file("heliograph.rs").compile_fds(descriptors)?;
    Ok(())
}
