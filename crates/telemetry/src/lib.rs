//! Logs and metrics: set up once, rendered on the admin listener.
