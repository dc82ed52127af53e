//! A token that somebody was given, such as the access token of an account: from a file, the environment or the input.
//!
//! Never from an argument, which every process of the machine can read.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead as _, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use client::Token;
use serde::Deserialize;

/// Above any token's.
const TOKEN_BYTES_MAX: u64 = 16 * 1024;
/// Has the token itself.
const TOKEN: &str = "HELIOGRAPH_TOKEN";
/// Names a file that has it.
const TOKEN_FILE: &str = "HELIOGRAPH_TOKEN_FILE";

/// A token, and the device that it is good for; none: any.
#[derive(Clone, Debug)]
pub struct GivenToken {
    /// Says who signs in.
    pub token: Token,
    /// The only device that it signs in.
    pub device: Option<String>,
}

/// Where a token is.
#[derive(Clone, PartialEq, Eq)]
pub enum Source {
    /// In a file, which is read anew for each connection.
    File(PathBuf),
    /// In the first line of standard input.
    Input,
    /// Here.
    Text(String),
}

impl std::fmt::Debug for Source {
    // Without the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(file) => f.debug_tuple("File").field(file).finish(),
            Self::Input => f.write_str("Input"),
            Self::Text(_) => f.debug_tuple("Text").finish_non_exhaustive(),
        }
    }
}

impl Source {
    /// What was typed, else what the environment says.
    pub fn find(typed: Option<&Path>, environment: impl Fn(&str) -> Option<OsString>) -> Option<Self> {
        let file = typed.map(Path::to_owned).or_else(|| environment(TOKEN_FILE).map(PathBuf::from));
        match file {
            Some(file) if file.as_os_str() == "-" => Some(Self::Input),
            Some(file) => Some(Self::File(file)),
            None => environment(TOKEN).and_then(|text| text.into_string().ok()).map(Self::Text),
        }
    }

    /// Reads the token.
    ///
    /// # Errors
    /// If there is none.
    pub fn open(self) -> Result<GivenToken> {
        let text = match &self {
            Self::File(file) => read(file)?,
            Self::Input => {
                let mut line = String::new();
                let mut input = io::stdin().lock().take(TOKEN_BYTES_MAX);
                input.read_line(&mut line).context("cannot read a token from the input")?;
                token_of(&line, "the input")?
            }
            Self::Text(text) => token_of(text, TOKEN)?,
        };
        let device = device_of(&text);
        let token = match self {
            Self::File(file) => Token::made_by(move || Ok(read(&file)?)),
            Self::Input | Self::Text(_) => Token::from(text),
        };
        Ok(GivenToken { token, device })
    }
}

fn read(file: &Path) -> Result<String> {
    let mut text = String::new();
    let read = File::open(file).and_then(|file| file.take(TOKEN_BYTES_MAX).read_to_string(&mut text));
    read.with_context(|| format!("cannot read a token from {}", file.display()))?;
    token_of(&text, &file.display().to_string())
}

fn token_of(text: &str, place: &str) -> Result<String> {
    let token = text.trim();
    if token.is_empty() || token.contains(char::is_whitespace) {
        bail!("{place} has no token");
    }
    Ok(token.to_owned())
}

/// The device that stands in a token. Not proven here: the server does, and takes no other one.
fn device_of(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Claims {
        dev: Option<String>,
    }
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice::<Claims>(&payload).ok()?.dev.filter(|device| !device.is_empty())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use domain::UserId;
    use tokens::TokenKeys;

    use super::*;

    #[test]
    fn what_is_typed_stands_above_the_environment_and_a_file_above_a_text() {
        let of = |given: &'static [(&str, &str)]| {
            move |name: &str| given.iter().find(|(given, _)| *given == name).map(|(_, value)| OsString::from(value))
        };
        let both: &[_] = &[(TOKEN_FILE, "b"), (TOKEN, "text")];
        assert_eq!(Source::find(Some(Path::new("a")), of(both)), Some(Source::File("a".into())));
        assert_eq!(Source::find(Some(Path::new("-")), of(both)), Some(Source::Input));
        assert_eq!(Source::find(None, of(both)), Some(Source::File("b".into())));
        assert_eq!(Source::find(None, of(&[(TOKEN, "text")])), Some(Source::Text("text".to_owned())));
        assert_eq!(Source::find(None, of(&[])), None);
        assert!(!format!("{:?}", Source::Text("SECRET".to_owned())).contains("SECRET"));
    }

    #[test]
    fn a_token_says_its_device_and_what_is_none_is_refused_without_being_said() {
        let keys = TokenKeys::from_pem(&TokenKeys::generate().unwrap()).unwrap();
        let mint = |device: &str| keys.mint_for(UserId::new([1; 16]), device, "", Duration::from_secs(60)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, format!("{}\n", mint("laptop"))).unwrap();
        assert_eq!(Source::File(file.clone()).open().unwrap().device.as_deref(), Some("laptop"));
        assert_eq!(Source::Text(mint("")).open().unwrap().device, None);
        for nothing in ["", " \n", "two SECRET words"] {
            std::fs::write(&file, nothing).unwrap();
            let said = format!("{:#}", Source::File(file.clone()).open().unwrap_err());
            assert!(said.contains("has no token") && !said.contains("SECRET"), "{said}");
        }
        assert!(Source::File(folder.path().join("none")).open().is_err());
    }
}
