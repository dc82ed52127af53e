//! Runs the real state machines over a model broker and store, seed by seed.
