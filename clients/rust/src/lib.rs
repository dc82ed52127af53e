//! The Rust client: outbox, resume, gap detection, merge by seq, receipts.
