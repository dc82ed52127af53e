//! `token`: tokens that sign somebody in, and the keys that sign them.

use std::io::stdout;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use domain::UserId;
use serde_json::json;
use tokens::{PUBLISHED_AHEAD, TokenKeys, VALID_MAX};

use super::ask::Ask;
use super::print::{Column, List, one, said};
use crate::cli::name;
use crate::key_file::KeyFile;
use crate::{folder, identity};

const KEYS: &[Column] =
    &[("KID", "kid"), ("STATE", "state"), ("CREATED", "created_at"), ("SIGNS FROM", "signs_from"), ("UNTIL", "until")];

/// Tokens that sign somebody in, and the keys that sign them.
#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
    /// Prints JSON: one document, or a line an item of a list.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Prints a token that signs NAME in, made with the folder's key.
    Issue {
        /// Whom it signs in; the same name is the same user everywhere.
        #[arg(long = "user", value_name = "NAME", value_parser = name)]
        name: String,
        /// The only device that it is good for; without it, any.
        #[arg(long, default_value = "")]
        device: String,
        /// How long it is valid, in hours: at most 30 days.
        #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=720))]
        hours: u32,
    },
    /// Makes the folder's keys if there are none, for `run`: copy them to every process with a gateway or an API.
    Generate,
    /// Lists the keys that sign and check tokens.
    Keys,
    /// Makes a new key: published at once, it signs later, and the one before it checks until what it signed has ended.
    Rotate {
        /// How long it is published before it signs, in seconds: verifiers elsewhere must have fetched it by then.
        #[arg(long, default_value_t = PUBLISHED_AHEAD.as_secs(), value_parser = clap::value_parser!(u64).range(..=VALID_MAX.as_secs()))]
        ahead_s: u64,
    },
    /// Takes a key out at once, as one that was stolen: its tokens are refused and their sockets closed.
    ///
    /// If it is the one that signs, the next one or a new one does from then on.
    RevokeKey {
        /// The key's name, as `token keys` has it.
        #[arg(allow_hyphen_values = true)]
        kid: String,
    },
}

impl TokenArgs {
    /// Asks and prints.
    ///
    /// # Errors
    /// What `up` says, or that none runs; of `issue`, a folder without a key.
    pub(crate) async fn run(self, folder: &Path) -> Result<()> {
        let Self { command, json } = self;
        match command {
            TokenCommand::Issue { name, device, hours } => {
                let mint = Mint { device, ..Mint::of(folder, &name, hours) };
                let issued = json!({
                    "token": mint.token()?, "user": mint.user.to_string(), "device": mint.device,
                    "valid_s": mint.valid.as_secs(),
                });
                one(stdout().lock(), json, &issued, || said(&issued, "token"))
            }
            TokenCommand::Generate => {
                let data = folder::DataFolder::open(folder)?;
                let known = KeyFile::open(data.token_keys())?.known();
                let generated =
                    json!({ "file": data.token_keys(), "kids": known.iter().map(|key| &key.kid).collect::<Vec<_>>() });
                one(stdout().lock(), json, &generated, || format!("the keys are in {}", said(&generated, "file")))
            }
            TokenCommand::Keys => {
                let mut list = List::new(stdout().lock(), json, KEYS);
                Ask::of(folder).each("/token-keys", ("keys", "after"), |key| list.item(key)).await?;
                list.end(false, "no keys")
            }
            TokenCommand::RevokeKey { kid } => {
                let revoked = Ask::of(folder).post("/token-keys/revoke", Some(json!({ "kid": kid }))).await?;
                one(stdout().lock(), json, &revoked, || {
                    let signing =
                        revoked["keys"].as_array().into_iter().flatten().find(|key| key["state"] == "signing");
                    let signing = signing.map_or_else(String::new, |key| said(key, "kid"));
                    if revoked["was"].is_null() {
                        format!("{kid} is not here; its tokens are refused all the same, and {signing} signs")
                    } else {
                        format!("{kid} is out, and its tokens are refused; {signing} signs")
                    }
                })
            }
            TokenCommand::Rotate { ahead_s } => {
                let rotated = Ask::of(folder).post("/token-keys/rotate", Some(json!({ "ahead_s": ahead_s }))).await?;
                one(stdout().lock(), json, &rotated, || {
                    let keys = rotated["keys"].as_array().into_iter().flatten();
                    let newest = keys.max_by_key(|key| key["signs_from"].as_str()).cloned().unwrap_or_default();
                    let (kid, from) = (said(&newest, "kid"), said(&newest, "signs_from"));
                    if rotated["changed"] == true {
                        format!("{kid} is published and signs from {from}")
                    } else {
                        format!("nothing changed: {kid} waits already, and signs from {from}")
                    }
                })
            }
        }
    }
}

/// Mints tokens that sign a name in for so long, with the key that signs at that time.
pub(crate) struct Mint {
    folder: PathBuf,
    user: UserId,
    device: String,
    valid: Duration,
}

impl Mint {
    pub(crate) fn of(folder: &Path, name: &str, hours: u32) -> Self {
        let user = UserId::new(identity::user_id(name).into_bytes());
        let valid = Duration::from_secs(u64::from(hours) * 3_600);
        Self { folder: folder.to_owned(), user, device: String::new(), valid }
    }

    /// The keys are read each time: a rotation may have come between.
    pub(crate) fn token(&self) -> Result<String> {
        let keys = TokenKeys::from_pem(&folder::token_key(&self.folder)?).context("the token key is damaged")?;
        Ok(keys.mint_for(self.user, &self.device, "", self.valid)?)
    }
}
