//! The partitioned log on NATS JetStream, and the subjects between roles.
