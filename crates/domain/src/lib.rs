//! The chat as an aggregate: ids, commands, entries, decide and apply.
