//! What an operator sees of a partition: its streams and who took it. Only reads, over the shared connection.

use async_nats::jetstream::kv::{Entry as Found, Operation};
use domain::{Epoch, Partition, TenureId};

use crate::leases::entry::Beat;
use crate::leases::{Holder, Order, entry};
use crate::record::{self, Bounds};
use crate::streams::{self, Stream};
use crate::tenure::Role;
use crate::{Error, Log};

/// Who last took a partition for a role; it may have ended since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Grows with each acquisition of any partition.
    pub tenure: TenureId,
    /// The worker's name, or `process-` and its id where it took the partition beside all leases.
    pub worker: String,
    /// When it took the partition, ns since 1970 UTC by the broker's clock.
    pub since_ns: i64,
}

impl Log {
    /// The epoch that the partition's streams carry now; an error if one of them is not there.
    pub async fn epoch(&self, partition: Partition) -> Result<Epoch, Error> {
        streams::epoch(self.context(), self.names(), partition).await
    }

    /// What a stream holds now, from its leader.
    pub async fn bounds(&self, stream: Stream, partition: Partition) -> Result<Bounds, Error> {
        let info = streams::info(self.context(), &self.names().stream(stream, partition)).await?;
        Ok(Bounds::of(&info))
    }

    /// When a record was stored, ns since 1970 UTC by the broker's clock; none if it is not there.
    pub async fn stored_at_ns(
        &self,
        stream: Stream,
        partition: Partition,
        sequence: u64,
    ) -> Result<Option<i64>, Error> {
        let name = self.names().stream(stream, partition);
        let record = record::read_named(self.context(), &name, sequence).await?;
        Ok(record.map(|record| record.time_ns))
    }

    /// Who last took the partition for a role; none: nobody ever did, or who did let go of it.
    pub async fn owner(&self, role: Role, partition: Partition) -> Result<Option<Owner>, Error> {
        let found = self.tenure_entry(&entry::holder_key(role, partition)).await?;
        Ok(found.map(|found| Owner {
            tenure: TenureId(found.revision),
            worker: serde_json::from_slice(&found.value).map_or_else(|_| String::new(), |holder: Holder| holder.worker),
            since_ns: record::time_ns(found.created.unix_timestamp_nanos()),
        }))
    }

    /// What an operator wants of a partition's owner; none: as the workers share it.
    pub async fn ordered(&self, role: Role, partition: Partition) -> Result<Option<Order>, Error> {
        let key = entry::order_key(role, partition);
        let Some(found) = self.tenure_entry(&key).await? else { return Ok(None) };
        let order = serde_json::from_slice(&found.value);
        order.map(Some).map_err(|error| Error::broker(format!("read {key}"), error))
    }

    /// Whether a worker of this name takes part in a role; one that was killed is told of for some minutes.
    pub async fn knows_worker(&self, role: Role, worker: &str) -> Result<bool, Error> {
        let found = self.tenure_entry(&entry::worker_key(role, worker)).await?;
        let beat = found.and_then(|found| serde_json::from_slice::<Beat>(&found.value).ok());
        Ok(beat.is_some_and(|beat| !beat.leaving))
    }

    async fn tenure_entry(&self, key: &str) -> Result<Option<Found>, Error> {
        let what = || format!("read {key}");
        let bucket = self.names().tenures();
        let bucket = self.context().get_key_value(bucket).await.map_err(|error| Error::broker(what(), error))?;
        let found = bucket.entry(key).await.map_err(|error| Error::broker(what(), error))?;
        Ok(found.filter(|found| found.operation == Operation::Put))
    }
}
