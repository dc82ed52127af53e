//! Fails a test on a WARN or ERROR line that it did not expect.
//!
//! One subscriber serves the whole test binary, because spawned tasks and threads carry no mark of the test that they
//! belong to. So the lines are the binary's, and so is the list of allowed texts: a [`Watch`] looks at all lines since
//! it began and forgives those that any test of the binary has allowed so far. Two consequences: a line of one test may
//! fail another one that runs beside it (the run fails, as it should; the text names the place), and an allowed text is
//! forgiven everywhere in that binary, so it should be narrow.
//!
//! The same subscriber prints to the test's captured output. `HELIOGRAPH_TEST_LOG` takes a filter, `info` if not set.

use std::fmt::{self, Write as _};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::thread;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::{EnvFilter, fmt as format, registry::LookupSpan};

/// Takes a filter for what a test prints, as `tracing` writes them.
pub const FILTER_VARIABLE: &str = "HELIOGRAPH_TEST_LOG";

/// Lines kept of one test binary. A run that warns more often than this fails for the first ones already.
const LINES_KEPT: usize = 10_000;

static SEEN: Mutex<Seen> = Mutex::new(Seen { lines: Vec::new(), allowed: Vec::new() });

struct Seen {
    lines: Vec<String>,
    allowed: Vec<String>,
}

/// Starts to watch; call it first in a test and keep what it returns.
///
/// # Panics
/// When another subscriber was installed before, since no line would be seen then.
#[must_use = "the watch ends when it is dropped"]
pub fn watch() -> Watch {
    install();
    Watch { from: seen().lines.len(), done: false }
}

/// The lines of the log since some moment; its end fails the test on an unlisted WARN or ERROR.
#[derive(Debug)]
pub struct Watch {
    from: usize,
    done: bool,
}

impl Watch {
    /// Allows each WARN or ERROR line that contains `text`, in this whole test binary.
    pub fn allow(&self, text: &str) -> &Self {
        assert!(!text.is_empty(), "an empty text would allow every line");
        let mut seen = seen();
        if !seen.allowed.iter().any(|known| known == text) {
            seen.allowed.push(text.to_owned());
        }
        self
    }

    /// All WARN and ERROR lines since the watch began, allowed ones too.
    pub fn lines(&self) -> Vec<String> {
        seen().lines[self.from..].to_vec()
    }

    /// The lines that nobody allowed.
    pub fn unlisted(&self) -> Vec<String> {
        let seen = seen();
        let unlisted = |line: &&String| !seen.allowed.iter().any(|text| line.contains(text.as_str()));
        seen.lines[self.from..].iter().filter(unlisted).cloned().collect()
    }

    /// Ends the watch now.
    ///
    /// # Panics
    /// When an unlisted WARN or ERROR was seen.
    pub fn finish(mut self) {
        self.check();
    }

    fn check(&mut self) {
        self.done = true;
        let unlisted = self.unlisted();
        assert!(unlisted.is_empty(), "unlisted WARN or ERROR lines:\n{}", unlisted.join("\n"));
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // A test that fails already keeps its own reason.
        if !self.done && !thread::panicking() {
            self.check();
        }
    }
}

fn seen() -> MutexGuard<'static, Seen> {
    SEEN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let filter = EnvFilter::try_from_env(FILTER_VARIABLE).unwrap_or_else(|_| EnvFilter::new("info"));
        let printed = format::layer().with_test_writer().with_ansi(false).with_filter(filter);
        let subscriber = tracing_subscriber::registry().with(Capture).with(printed);
        tracing::subscriber::set_global_default(subscriber)
            .expect("a test binary that watches its log installs no subscriber of its own");
    });
}

/// Keeps WARN and ERROR lines.
struct Capture;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Capture {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let metadata = event.metadata();
        if *metadata.level() > Level::WARN {
            return;
        }
        let mut line = Line { text: format!("{} {}:", metadata.level(), metadata.target()) };
        event.record(&mut line);
        let mut seen = seen();
        if seen.lines.len() < LINES_KEPT {
            seen.lines.push(line.text);
        }
    }
}

/// One event as text: level, target, message, then `name=value` for each field.
struct Line {
    text: String,
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String cannot fail.
        let _ = match field.name() {
            "message" => write!(self.text, " {value:?}"),
            name => write!(self.text, " {name}={value:?}"),
        };
    }
}
