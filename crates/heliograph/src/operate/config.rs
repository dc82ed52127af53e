//! `config`: what `up` would be told, checked and shown before it starts.

use std::io::{Write as _, stderr, stdout};

use anyhow::Result;
use clap::{ArgMatches, Args, Subcommand};

use super::UpArgs;
use crate::config::{default_text, effective_text};

/// What `up` would be told.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Says what is wrong with the settings, if anything is; starts nothing.
    Check(UpArgs),
    /// Prints what counts of each setting, and whether it is from a flag, the environment, the file or the default.
    Print(UpArgs),
    /// Prints a file with all settings, their defaults, and what they are for.
    Default,
}

impl ConfigArgs {
    /// Carries the command out.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub(crate) fn run(&self, matches: &ArgMatches) -> Result<()> {
        let of_command = matches.subcommand().map_or(matches, |(_, of_command)| of_command);
        let text = match &self.command {
            ConfigCommand::Check(args) => {
                let config = args.layers(of_command)?.config()?;
                config.check_up()?;
                for warning in config.warnings() {
                    writeln!(stderr(), "warning: {warning}")?;
                }
                "the settings can work\n".to_owned()
            }
            ConfigCommand::Print(args) => {
                let layers = args.layers(of_command)?;
                // What cannot be read has no effect that could be shown.
                layers.config()?;
                effective_text(&layers)
            }
            ConfigCommand::Default => default_text()?,
        };
        Ok(stdout().write_all(text.as_bytes())?)
    }
}
