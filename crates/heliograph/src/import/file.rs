//! A file to import: a chat in its first line, a message in each further one; line k makes the entry with seq k.
//!
//! It is read line by line, however long it is, and twice: the first time nothing is sent, so what is wrong with any
//! line is said before anything is done.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Take};
use std::path::Path;

use api::from_rfc3339;
use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::limits::{BODY_BYTES_MAX, MEMBERS_MAX};
use domain::{ImportId, Micros, Seq, UserId};
use serde::Deserialize;

use super::wire::{Kind, Member, Role};

/// Bytes of one line: a thousand members and some thousand former ones, or the largest body in any form.
const LINE_BYTES_MAX: usize = 256 * 1024;

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It cannot be read.
    #[error("{0}")]
    Read(#[from] std::io::Error),
    /// A line does not say what it should.
    #[error("line {line}: {reason}")]
    Line {
        /// Which, from 1.
        line: u64,
        /// Why.
        reason: String,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChatLine {
    kind: Kind,
    members: Vec<Member>,
    /// Ids of those who wrote and are in it no more.
    #[serde(default)]
    former: Vec<String>,
    /// When it was opened.
    time: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MessageLine {
    sender: String,
    time: String,
    text: Option<String>,
    body: Option<String>,
}

/// The chat of the first line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ImportedChat {
    pub(crate) kind: Kind,
    pub(crate) members: Vec<Member>,
    /// The first owner; of a direct chat the first member.
    pub(crate) opener: String,
}

/// A message of a further line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ImportedMessage {
    /// As it stands in the file.
    pub(crate) sender: String,
    /// Strictly growing: where the file has a time twice, 1 µs later.
    pub(crate) time: Micros,
    pub(crate) body: Vec<u8>,
}

/// What a whole file comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Whole {
    pub(crate) import: ImportId,
    /// When the chat was opened.
    pub(crate) opened: Micros,
    /// The seq of the last message.
    pub(crate) last: Seq,
}

/// A file that is being read, its first line first.
pub(crate) struct ImportFile {
    input: Take<BufReader<File>>,
    digest: Context,
    line: u64,
    now: Micros,
    senders: BTreeSet<UserId>,
    opened: Option<Micros>,
    /// The time in the file of the line before, and the one that it got.
    last: Option<(Micros, Micros)>,
}

impl ImportFile {
    /// Opens a file and reads its first line; nothing in it may be of later than `now`.
    ///
    /// # Errors
    /// If it cannot be read, or the line says no chat.
    pub(crate) fn open(path: &Path, now: Micros) -> Result<(Self, ImportedChat), Error> {
        let input = BufReader::new(File::open(path)?);
        // A second reading has to find the same.
        if !input.get_ref().metadata()?.is_file() {
            return Err(std::io::Error::new(ErrorKind::InvalidInput, "no regular file, and it is read twice").into());
        }
        let mut file = Self {
            input: input.take(0),
            digest: Context::new(&SHA256),
            line: 0,
            now,
            senders: BTreeSet::new(),
            opened: None,
            last: None,
        };
        let chat = match file.read()? {
            Some(line) => file.chat(&line).map_err(|reason| file.fault(reason))?,
            None => return Err(Error::Line { line: 1, reason: "the file is empty".to_owned() }),
        };
        Ok((file, chat))
    }

    /// The next message; none after the last.
    ///
    /// # Errors
    /// If the file cannot be read, or the line says no message.
    pub(crate) fn next(&mut self) -> Result<Option<ImportedMessage>, Error> {
        match self.read()? {
            Some(line) => self.message(&line).map(Some).map_err(|reason| self.fault(reason)),
            None if self.line == 1 => Err(Error::Line { line: 2, reason: "there is no message".to_owned() }),
            None => Ok(None),
        }
    }

    /// Names what was read until now.
    pub(crate) fn so_far(&self) -> [u8; 8] {
        let mut name = [0; 8];
        let digest = self.digest.clone().finish();
        name.iter_mut().zip(digest.as_ref()).for_each(|(byte, of)| *byte = *of);
        name
    }

    /// What the file came to, once there is no further message.
    pub(crate) fn whole(self) -> Whole {
        let mut import = [0; 16];
        let digest = self.digest.finish();
        import.iter_mut().zip(digest.as_ref()).for_each(|(byte, of)| *byte = *of);
        Whole { import: ImportId::new(import), opened: self.opened.unwrap_or_default(), last: self.line }
    }

    fn fault(&self, reason: String) -> Error {
        Error::Line { line: self.line, reason }
    }

    fn read(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let mut line = Vec::new();
        self.input.set_limit(LINE_BYTES_MAX as u64 + 1);
        if self.input.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        self.line += 1;
        self.digest.update(&line);
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        if line.len() > LINE_BYTES_MAX {
            return Err(self.fault(format!("longer than {LINE_BYTES_MAX} bytes")));
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            return Err(self.fault("empty".to_owned()));
        }
        Ok(Some(line))
    }

    fn chat(&mut self, line: &[u8]) -> Result<ImportedChat, String> {
        let ChatLine { kind, members, former, time } = serde_json::from_slice(line).map_err(said)?;
        let users: BTreeSet<_> = members.iter().map(|member| user(&member.user)).collect::<Result<_, _>>()?;
        if users.len() != members.len() {
            return Err("a member stands there twice".to_owned());
        }
        if members.len() > MEMBERS_MAX {
            return Err(format!("more than {MEMBERS_MAX} members"));
        }
        let opener = match kind {
            Kind::Direct if members.len() != 2 => return Err("a direct chat has two members".to_owned()),
            Kind::Direct if members.iter().any(|member| member.role != Role::Member) => {
                return Err("both of a direct chat are plain members".to_owned());
            }
            Kind::Direct => members.first(),
            Kind::Group | Kind::Channel => members.iter().find(|member| member.role == Role::Owner),
        };
        let opener = opener.ok_or("no member is its owner")?.user.clone();
        self.senders = users;
        for one in former {
            self.senders.insert(user(&one)?);
        }
        if let Some(time) = time {
            let opened = self.time(&time)?;
            self.opened = Some(opened);
            self.last = Some((opened, opened));
        }
        Ok(ImportedChat { kind, members, opener })
    }

    fn message(&mut self, line: &[u8]) -> Result<ImportedMessage, String> {
        let MessageLine { sender, time, text, body } = serde_json::from_slice(line).map_err(said)?;
        if !self.senders.contains(&user(&sender)?) {
            return Err(format!("{sender} is neither a member nor a former one"));
        }
        let body = match (text, body) {
            (Some(text), None) => text.into_bytes(),
            (None, Some(body)) => STANDARD.decode(body).map_err(|_fault| "`body` is no base64")?,
            _ => return Err("either `text` or `body`".to_owned()),
        };
        if body.len() > BODY_BYTES_MAX {
            return Err(format!("a body of {} bytes, and {BODY_BYTES_MAX} is the most", body.len()));
        }
        let said = self.time(&time)?;
        let (before, kept) = match self.last {
            Some(last) => last,
            None => {
                // Opened just before the first thing was said in it.
                let opened = said.checked_sub(1).ok_or("`time` is no time at which somebody wrote")?;
                self.opened = Some(opened);
                (opened, opened)
            }
        };
        if said < before {
            return Err("`time` is earlier than in the line before".to_owned());
        }
        let time = said.max(kept + 1);
        self.not_ahead(time)?;
        self.last = Some((said, time));
        Ok(ImportedMessage { sender, time, body })
    }

    fn time(&self, text: &str) -> Result<Micros, String> {
        let time = from_rfc3339(text).ok_or("`time` is no RFC 3339 time from 1970 on")?;
        self.not_ahead(time)?;
        Ok(time)
    }

    fn not_ahead(&self, time: Micros) -> Result<(), String> {
        if time > self.now { Err("`time` lies in the future".to_owned()) } else { Ok(()) }
    }
}

fn user(text: &str) -> Result<UserId, String> {
    text.parse().map_err(|_fault| format!("{text:?} is no id of a user: a UUID"))
}

/// What is wrong with the JSON; where in the line, not in which one.
fn said(error: serde_json::Error) -> String {
    let text = error.to_string();
    let (what, _) = text.split_once(" at line ").unwrap_or((&text, ""));
    format!("{what} (column {})", error.column())
}

#[cfg(test)]
mod tests;
