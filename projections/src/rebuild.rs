//! Writes the models of a partition anew from its chats' logs, while everything goes on.
//!
//! ```text
//! begin: the stored position ─▶ chat, chat, chat …: fold all rows, write forward only ─▶ end: checkpoint = that position
//! ```
//! What was appended through the position is in rows that the scan reads later (M21), so projections that go on from
//! there miss nothing, and pass over what is folded. A write never takes back what projections wrote meanwhile (M8): rows
//! that are wrong, and as far as they should be, stay; [`crate::verify`] names them.

use domain::{ChatId, Entry, Epoch, Partition, Seq};
use store::{Checkpoint, Projection, Reader, Store};

use crate::machine::Models;
use crate::{Error, rows};

/// Entries of one read.
const PAGE: usize = 256;
const PAGE_BYTES: usize = 1 << 20;

/// Where a rebuild began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Began {
    /// Of the partition's streams.
    pub epoch: Epoch,
    /// What was appended then: a sequence in EVENTS-p.
    pub events: Seq,
}

/// Begins a rebuild; none: nothing was ever appended, so there is nothing to build.
///
/// # Errors
/// As the store says.
pub async fn begin(store: &Store, partition: Partition) -> Result<Option<Began>, Error> {
    let position = store.position(partition).await?;
    Ok(position.map(|position| Began { epoch: position.epoch, events: position.events.sequence }))
}

/// Folds a chat's rows, and writes its models.
///
/// # Errors
/// As the store says, or where the rows are no log of a chat.
pub async fn chat(store: &Store, began: Began, chat: ChatId) -> Result<(), Error> {
    let models = scan(store, chat, Seq::MAX).await?;
    if models.head() > 0 {
        // The checkpoint stays where it is until all chats are written.
        store.project(rows::projection(models.projected(chat), chat.partition(), began.epoch)).await?;
    }
    Ok(())
}

/// Lets projections go on from where the rebuild began, if they are not there yet.
///
/// # Errors
/// As the store says.
pub async fn end(store: &Store, partition: Partition, began: Began) -> Result<(), Error> {
    let checkpoint = Checkpoint { epoch: began.epoch, events: began.events, statuses: 0 };
    store.project(Projection::bare(Reader::Projections, partition, checkpoint)).await?;
    Ok(())
}

/// The models of a chat by its rows up to a seq, or as far as there are rows without a hole.
pub(crate) async fn scan(store: &Store, chat: ChatId, through: Seq) -> Result<Models, Error> {
    let mut models = Models::default();
    loop {
        let after = models.head();
        let page = store.history(chat, after, PAGE, PAGE_BYTES).await?;
        let rows: Vec<Entry> =
            page.rows.into_iter().map(|row| row.entry).filter(|entry| entry.seq <= through).collect();
        if rows.is_empty() {
            return Ok(models);
        }
        models.fold(chat, rows)?;
    }
}
