//! The store's port and its engines.
