//! Decides commands, publishes events, appends entries, answers senders.
