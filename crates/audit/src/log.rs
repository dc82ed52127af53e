//! The way into the file: a bounded queue that nobody waits for.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::event::Event;
use crate::writer;

/// Lines that wait for the disk; further ones are lost and counted.
const QUEUE_LINES: usize = 4_096;
/// A line that is longer is lost and counted; handles and devices are bounded long before.
const LINE_BYTES_MAX: usize = 4_096;

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be appended to.
    #[error("cannot append to the audit log {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Where events are reported; clones write into the same file.
#[derive(Clone, Debug)]
pub struct Log {
    /// None: events are not kept.
    queue: Option<Arc<Queue>>,
}

#[derive(Debug)]
struct Queue {
    lines: SyncSender<Vec<u8>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// A line: when it was, then the event.
#[derive(Serialize)]
struct Line<'a> {
    at: String,
    #[serde(flatten)]
    event: &'a Event,
}

impl Log {
    /// Appends to this file, which is made for its owner alone if there is none.
    ///
    /// # Errors
    /// If the file cannot be opened, or no thread started.
    pub fn append_to(path: &Path) -> Result<Self, Error> {
        let open = |source| Error::Open { path: path.to_owned(), source };
        let file = OpenOptions::new().create(true).append(true).read(true).mode(0o600).open(path).map_err(open)?;
        let is_torn = is_torn(&file).map_err(open)?;
        let (lines, waiting) = sync_channel(QUEUE_LINES);
        let writer = spawn(file, is_torn, waiting).map_err(open)?;
        Ok(Self { queue: Some(Arc::new(Queue { lines, writer: Mutex::new(Some(writer)) })) })
    }

    /// Keeps nothing.
    #[must_use]
    pub const fn off() -> Self {
        Self { queue: None }
    }

    /// Reports an event. Never waits: what there is no room for is counted and lost.
    pub fn record(&self, event: &Event) {
        let Some(queue) = &self.queue else { return };
        let at = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
        // JSON has no raw control characters: whatever a client wrote, it stays in its string and on its line.
        let Ok(mut line) = serde_json::to_vec(&Line { at, event }) else { return lost("encoding") };
        line.push(b'\n');
        if line.len() > LINE_BYTES_MAX {
            return lost("length");
        }
        if queue.lines.try_send(line).is_err() {
            lost("queue");
        }
    }

    /// Waits until what was reported is in the file, if this is the last handle.
    pub fn close(self) {
        let Some(queue) = self.queue.and_then(Arc::into_inner) else { return };
        drop(queue.lines);
        let writer = queue.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        // One that panicked has said so.
        let _ = writer.map(JoinHandle::join);
    }
}

pub(crate) fn lost(why: &'static str) {
    metrics::counter!("audit_events_lost_total", "why" => why).increment(1);
}

/// Whether the file ends in the middle of a line, as after a power cut.
fn is_torn(file: &File) -> io::Result<bool> {
    let Some(last) = file.metadata()?.len().checked_sub(1) else { return Ok(false) };
    let mut byte = [0];
    file.read_exact_at(&mut byte, last)?;
    Ok(byte != *b"\n")
}

fn spawn(file: File, is_torn: bool, waiting: Receiver<Vec<u8>>) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name("audit".to_owned()).spawn(move || writer::run(file, is_torn, waiting))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use serde_json::Value;

    use super::*;
    use crate::{Action, Outcome};

    fn lines(path: &Path) -> Vec<Value> {
        let text = fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
    }

    fn handled(handle: &str) -> Event {
        Event { handle: Some(handle.to_owned()), ..Event::new(Action::SignIn, Outcome::Refused) }
    }

    #[test]
    fn x24_a_line_says_who_what_when_and_where_and_can_hold_no_other_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let log = Log::append_to(&path).unwrap();
        let forged =
            "eve\n{\"at\":\"2026-01-01T00:00:00Z\",\"action\":\"admin\",\"outcome\":\"ok\"}\r\u{2028}\u{1b}[31m";
        log.record(&Event {
            user: Some("01a2".to_owned()),
            address: Some([192, 0, 2, 1].into()),
            request_id: Some("r1".to_owned()),
            detail: Some("wrong-password"),
            ..handled(forged)
        });
        log.close();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        assert!(!text.contains('\u{1b}') && !text.contains('\r'), "{text}");
        let line = &lines(&path)[0];
        assert_eq!(line["handle"], forged);
        let said = ["action", "outcome", "user", "address", "request_id", "detail"].map(|field| &line[field]);
        assert_eq!(said, ["sign_in", "refused", "01a2", "192.0.2.1", "r1", "wrong-password"]);
        assert!(OffsetDateTime::parse(line["at"].as_str().unwrap(), &Rfc3339).is_ok());
        assert!(line.get("chat").is_none(), "what is not known is not said");
        // Control: written as it came, it would have been two.
        assert_eq!(forged.lines().count(), 2);
    }

    #[test]
    fn x24_the_file_is_its_owners_alone_and_only_appended_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        for run in 0..2 {
            let log = Log::append_to(&path).unwrap();
            log.record(&handled("alice"));
            log.clone().close();
            log.record(&handled("bob"));
            log.close();
            assert_eq!(lines(&path).len(), 2 * (run + 1), "a clone that goes ends nothing");
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        // A power cut left half a line: what follows is whole.
        fs::write(&path, "{\"at\":\"20").unwrap();
        let log = Log::append_to(&path).unwrap();
        log.record(&handled("carol"));
        log.close();
        let text = fs::read_to_string(&path).unwrap();
        let (torn, whole) = text.split_once('\n').unwrap();
        assert_eq!(torn, "{\"at\":\"20");
        assert_eq!(serde_json::from_str::<Value>(whole).unwrap()["handle"], "carol");
    }

    #[test]
    fn what_has_no_room_is_lost_and_nobody_waits() {
        let (lines, waiting) = sync_channel(2);
        let log = Log { queue: Some(Arc::new(Queue { lines, writer: Mutex::default() })) };
        for _ in 0..10 {
            log.record(&handled("alice"));
        }
        log.record(&handled(&"x".repeat(LINE_BYTES_MAX)));
        assert_eq!(waiting.try_iter().count(), 2);
        Log::off().record(&handled("alice"));
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error_that_names_the_file() {
        let error = Log::append_to(Path::new("/nowhere/audit.log")).unwrap_err();
        assert!(error.to_string().contains("/nowhere/audit.log"));
    }
}
