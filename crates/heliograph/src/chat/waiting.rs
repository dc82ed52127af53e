//! Lines that wait, in order: for the first connection, for a chat that is being opened, for room in the outbox.

use std::collections::VecDeque;

use super::line::Line;

/// Lines that may wait; then input is read no further.
const LINES: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Waiting(VecDeque<String>);

impl Waiting {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn has_room(&self) -> bool {
        self.0.len() < LINES
    }

    pub(super) fn push(&mut self, line: &str) {
        self.0.push_back(line.to_owned());
    }

    pub(super) fn pop(&mut self) -> Option<String> {
        self.0.pop_front()
    }

    pub(super) fn put_back(&mut self, line: String) {
        self.0.push_front(line);
    }

    /// Takes out what was meant for a chat that will not be: all up to the next line that goes elsewhere.
    pub(super) fn drop_meant(&mut self) -> Vec<String> {
        let elsewhere = |line: &String| matches!(Line::parse(line), Line::To(_) | Line::New(_) | Line::Open(_));
        let count = self.0.iter().position(elsewhere).unwrap_or(self.0.len());
        self.0.drain(..count).collect()
    }
}
