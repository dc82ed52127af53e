//! Lines of the input: bytes up to a newline, of a bounded length, whatever they hold.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _};

/// Longest line that is read: several times what a message may have.
const LINE_BYTES: usize = 64 * 1024;

/// What was typed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Typed {
    Line(String),
    /// A line beyond the bound; all of it was skipped.
    TooLong,
}

pub(super) struct Lines<R> {
    input: R,
    line: Vec<u8>,
    too_long: bool,
}

impl<R: AsyncBufRead + Unpin> Lines<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, line: Vec::new(), too_long: false }
    }

    /// The next line; none at the end of input. May be dropped while it waits.
    pub(super) async fn next(&mut self) -> io::Result<Option<Typed>> {
        loop {
            let bytes = self.input.fill_buf().await?;
            if bytes.is_empty() {
                return Ok((self.too_long || !self.line.is_empty()).then(|| self.typed()));
            }
            let newline = bytes.iter().position(|byte| *byte == b'\n');
            let part = &bytes[..newline.unwrap_or(bytes.len())];
            if self.too_long || self.line.len() + part.len() > LINE_BYTES {
                self.too_long = true;
                self.line.clear();
            } else {
                self.line.extend_from_slice(part);
            }
            let used = part.len() + usize::from(newline.is_some());
            self.input.consume(used);
            if newline.is_some() {
                return Ok(Some(self.typed()));
            }
        }
    }

    fn typed(&mut self) -> Typed {
        let line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.too_long) {
            Typed::TooLong
        } else {
            Typed::Line(String::from_utf8_lossy(&line).into_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn any_bytes_make_lines_and_too_long_ones_are_skipped_whole() {
        let mut input = b"caf\xe9\n\n".to_vec();
        input.extend(std::iter::repeat_n(b'x', LINE_BYTES + 1));
        input.extend(b"\nthe end");
        let mut lines = Lines::new(input.as_slice());
        let line = |text: &str| Some(Typed::Line(text.to_owned()));
        assert_eq!(lines.next().await.unwrap(), line("caf\u{fffd}"));
        assert_eq!(lines.next().await.unwrap(), line(""));
        assert_eq!(lines.next().await.unwrap(), Some(Typed::TooLong));
        assert_eq!(lines.next().await.unwrap(), line("the end"));
        assert_eq!(lines.next().await.unwrap(), None);
    }
}
