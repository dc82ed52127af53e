//! `device`: where somebody is signed in, and ending that.

use std::io::stdout;
use std::path::Path;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::json;

use super::ask::{Ask, encoded};
use super::print::{Column, List, one, said};

const DEVICES: &[Column] = &[
    ("DEVICE", "device"),
    ("NAME", "name"),
    ("SEEN", "seen_at"),
    ("SIGN-INS", "sign_ins"),
    ("SIGNED IN UNTIL", "expires_at"),
];

/// Where somebody is signed in.
#[derive(Debug, Args)]
pub(crate) struct DeviceArgs {
    #[command(subcommand)]
    command: DeviceCommand,
    /// Prints JSON: one document, or a line an item of a list.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum DeviceCommand {
    /// Lists the devices of a user.
    List {
        /// A handle or a user's id.
        user: String,
    },
    /// Ends the sign-ins of a device and closes its sockets.
    Revoke {
        /// A handle or a user's id.
        user: String,
        /// The device, as the list shows it.
        device: String,
    },
}

impl DeviceArgs {
    /// Asks and prints.
    ///
    /// # Errors
    /// What `up` says, or that none runs.
    pub(crate) async fn run(self, folder: &Path) -> Result<()> {
        let Self { command, json } = self;
        let ask = Ask::of(folder);
        match command {
            DeviceCommand::List { user } => {
                let mut list = List::new(stdout().lock(), json, DEVICES);
                let mut is_empty = true;
                ask.each(&format!("/users/{}/devices", encoded(&user)), ("devices", "after"), |device| {
                    is_empty = false;
                    list.item(device)
                })
                .await?;
                list.end(is_empty, "no devices")
            }
            DeviceCommand::Revoke { user, device } => {
                let path = format!("/users/{}/devices/revoke", encoded(&user));
                let revoked = ask.post(&path, Some(json!({ "device": device }))).await?;
                one(stdout().lock(), json, &revoked, || {
                    let known = if revoked["known"] == true { "" } else { "; nothing was known of it" };
                    let (device, ended) = (said(&revoked, "device"), said(&revoked, "sign_ins_ended"));
                    format!("the tokens of {device} are revoked, {ended} sign-ins ended{known}")
                })
            }
        }
    }
}
