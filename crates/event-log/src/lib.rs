//! The partitioned log on NATS JetStream, and the subjects between roles.
//!
//! The only crate that names async-nats. It moves opaque payloads: what a record or a message says is not its concern,
//! and it never touches the store.
//!
//! ```text
//! log           connect, streams, command publishes, core messages  (one shared client that reconnects)
//! tenure        one acquisition of a partition by a role            (one client that never reconnects, M6)
//! ├ publish     attempts, and what a refusal means                  (M3: refused, in doubt, full, lost)
//! └ reader      records in order, each once, or an error            (contiguity, watchdog)
//!   ├ consumer   the broker's way of giving them
//!   └ tap        events that this process published itself           (joined at a record that is the same)
//! leases        whose each partition is, among the workers of a role
//! inlet         commands that a gateway hands to the owner in its process
//! control       what every gateway must learn, in order, also after a cut
//! look          what an operator sees of a partition
//! scan          a bounded look through a stream, from a time on
//! renewal       a new epoch of a partition
//! streams       settings of the streams, epoch, partition count
//! subscription  core messages; what the broker client drops is seen as `Lagged`
//! └ local       those that stay within the process
//! subject       every subject of the system, parsed and formatted in one place
//! ```

mod boot;
mod config;
mod connection;
mod consumer;
mod control;
mod error;
mod inlet;
mod leases;
mod local;
mod log;
mod look;
mod names;
mod publish;
mod reader;
mod record;
mod renewal;
mod scan;
mod streams;
mod subject;
mod subscription;
mod tap;
mod tenure;

pub use boot::host_boot_id;
pub use config::{BrokerLogin, Durability, LogConfig};
pub use control::ControlReader;
pub use error::{Error, FencedError, PublishError, ReadError, SendError};
pub use inlet::{Handed, Inlet};
pub use leases::{Grant, Lease, Leases, Order};
pub use log::Log;
pub use look::Owner;
pub use reader::OrderedReader;
pub use record::{Bounds, Record};
pub use renewal::Renewal;
pub use scan::{Scan, ScanBounds};
pub use streams::Stream;
pub use subject::{ParseSubjectError, Subject};
pub use subscription::{Message, Received, Subscription};
pub use tenure::{Role, Tenure};

/// Upper bound of one record's payload in bytes; batches are split to stay below it.
pub const RECORD_BYTES_MAX: usize = 256 * 1024;

/// Upper bound of one core message's payload in bytes, half of the broker's usual limit of 1 MiB.
pub const MESSAGE_BYTES_MAX: usize = 512 * 1024;
