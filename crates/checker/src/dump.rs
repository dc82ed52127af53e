//! A history as JSON lines, so that a failing run is kept and judged again.

use std::io::{BufRead, Write};

use crate::Line;

/// Why a history could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("history cannot be read or written")]
    Io(#[from] std::io::Error),
    #[error("line {line} of the history is not an observation")]
    Line {
        line: usize,
        #[source]
        source: serde_json::Error,
    },
    #[error("observation cannot be written as JSON")]
    Write(#[source] serde_json::Error),
}

/// Writes a history, one JSON object a line.
pub fn dump(history: &[Line], mut to: impl Write) -> Result<(), Error> {
    for line in history {
        serde_json::to_writer(&mut to, line).map_err(Error::Write)?;
        to.write_all(b"\n")?;
    }
    Ok(to.flush()?)
}

/// Reads what [`dump`] wrote.
pub fn load(from: impl BufRead) -> Result<Vec<Line>, Error> {
    let mut history = Vec::new();
    for (number, line) in from.lines().enumerate() {
        let line = line?;
        history.push(serde_json::from_str(&line).map_err(|source| Error::Line { line: number + 1, source })?);
    }
    Ok(history)
}
