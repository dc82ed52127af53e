//! Pushes events to online sessions and merges receipts.
