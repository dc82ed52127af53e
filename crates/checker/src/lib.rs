//! Records what clients saw and judges it against the invariants.
