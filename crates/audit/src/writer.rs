//! The thread that owns the file.
//!
//! Not synced: a power cut may cost the last lines, a kill none that were written. A disk that refuses costs lines, is
//! said once until it takes some again, and holds up nobody.

use std::io::Write;
use std::sync::mpsc::Receiver;

use crate::log::lost;

/// Writes the lines that come until nobody can report any more.
///
/// `is_torn`: the file ends in the middle of a line.
pub(crate) fn run(mut file: impl Write, mut is_torn: bool, lines: Receiver<Vec<u8>>) {
    let mut is_refused = false;
    for line in lines {
        match write(&mut file, &line, &mut is_torn) {
            Ok(()) => is_refused = false,
            Err(error) => {
                lost("disk");
                if !std::mem::replace(&mut is_refused, true) {
                    tracing::error!(%error, "the audit log cannot be written");
                }
            }
        }
    }
}

fn write(file: &mut impl Write, line: &[u8], is_torn: &mut bool) -> std::io::Result<()> {
    // What stands there of a line that was broken off must not swallow this one.
    if *is_torn {
        file.write_all(b"\n")?;
    }
    *is_torn = true;
    file.write_all(line)?;
    *is_torn = false;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::mpsc::sync_channel;
    use std::sync::{Arc, Mutex};

    use super::*;

    /// A disk that has room for some bytes, then for none, then for all.
    struct Disk {
        written: Arc<Mutex<Vec<u8>>>,
        room: usize,
        refusals: usize,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.room == 0 {
                let Some(refusals) = self.refusals.checked_sub(1) else {
                    self.room = usize::MAX;
                    return self.write(bytes);
                };
                self.refusals = refusals;
                return Err(io::ErrorKind::StorageFull.into());
            }
            let taken = bytes.len().min(self.room);
            self.room -= taken;
            self.written.lock().unwrap().extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_costs_lines_and_later_ones_are_whole() {
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let (sender, lines) = sync_channel(8);
        for line in ["one\n", "two\n", "three\n", "four\n", "five\n"] {
            sender.send(line.into()).unwrap();
        }
        drop(sender);
        run(Disk { written: Arc::clone(&written), room: 6, refusals: 2 }, false, lines);
        let written = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        assert_eq!(written, "one\ntw\nfour\nfive\n");
    }
}
