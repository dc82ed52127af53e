//! Tells a broker that goes on refusing what it could store.
//!
//! Once nats-server has met a full disk it writes nothing more to the stream, whatever room there is again, and answers
//! publishes of it with an error or not at all, until it is started anew (seen with 2.15.1). What it says then stands in
//! its log.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::time::Duration;

use nix::sys::statvfs::statvfs;
use tokio::time::sleep;

/// Of its log; the system's words for ENOSPC.
const REFUSAL: &[u8] = b"no space left on device";
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Free on the disk before it is worth a start.
const ROOM_BYTES: u64 = 64 << 20;
/// Of the log at a look; what is beyond comes at the next.
const PIECE_BYTES: u64 = 1 << 20;

/// Waits until the broker of this folder refuses for want of room while there is some.
pub(super) async fn refuses_in_spite_of_room(folder: &Path) {
    let mut log = Log::from_its_end(folder);
    let mut had_room = false;
    loop {
        sleep(LOOK_EVERY).await;
        let (refused, has_room) = (log.refused(), has_room(folder));
        // What was said since the last look, when there was none, may have been true still.
        if refused && had_room && has_room {
            return;
        }
        had_room = has_room;
    }
}

fn has_room(folder: &Path) -> bool {
    statvfs(folder).is_ok_and(|disk| disk.blocks_available().saturating_mul(disk.fragment_size()) >= ROOM_BYTES)
}

/// The broker's log as far as it is read.
struct Log<'a> {
    folder: &'a Path,
    at: u64,
}

impl<'a> Log<'a> {
    fn from_its_end(folder: &'a Path) -> Self {
        let at = folder.join("log").metadata().map_or(0, |log| log.len());
        Self { folder, at }
    }

    /// Whether a refusal was written since the last look. A log that cannot be read tells none.
    fn refused(&mut self) -> bool {
        let mut read = Vec::new();
        let piece = File::open(self.folder.join("log")).and_then(|mut log| {
            log.seek(SeekFrom::Start(self.at))?;
            log.take(PIECE_BYTES).read_to_end(&mut read)
        });
        self.at += piece.unwrap_or(0) as u64;
        read.windows(REFUSAL.len()).any(|words| words == REFUSAL)
    }
}
