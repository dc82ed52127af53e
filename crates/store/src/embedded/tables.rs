//! The engine's tables, and how its folder is made, locked and opened.
//!
//! fjall's writes halt while a table has four sealed memtables that wait for a background thread (its issue 257: for
//! ever, after some kills). As its source reads, a background thread may wait for room in the very queue that it drains.
//! So the engine is used in a way that keeps clear of it: only the writer seals memtables, by its own count of bytes, and
//! the queue stays short. Should it halt all the same, writes fail as stalled instead of hanging.
//!
//! One background thread by default: of two or more, the first turns in a circle while another merges files, which on a
//! machine of two cores halved the rate of writes.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use fjall::{Database, Guard, Keyspace, KeyspaceCreateOptions, PersistMode, Slice};

use crate::{Config, Error};

/// Version of the whole folder: keys and values. A table that an older folder lacks is made, empty, when it is opened.
const FORMAT: u8 = 1;
const FORMAT_KEY: &str = "format";
const LOCK_FILE: &str = "lock";
const ENGINE_FOLDER: &str = "engine";
const NEW_ENGINE_FOLDER: &str = "engine.new";

/// Names of the tables; the order is that of [`Table`].
const NAMES: [&str; Table::COUNT] = [
    "chat_log",
    "chat_snapshots",
    "chat_members",
    "partitions",
    "direct_chats",
    "chats_by_user",
    "chat_summaries",
    "watermarks",
    "checkpoints",
    "meta",
    "users",
    "handles",
    "refresh_families",
    "refresh_families_by_user",
    "refresh_families_by_time",
    "send_claims",
    "send_claims_by_time",
    "devices",
    "blocks",
    "chat_settings",
    "tickets",
    "tickets_by_time",
    "invites",
    "invites_by_chat",
    "invites_by_time",
    "invite_uses",
    "leaving_users",
    "invites_by_maker",
    "chat_names",
    "chat_facts",
    "reactions",
];

/// One table: a keyspace of the engine.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Table {
    Log,
    Snapshots,
    Members,
    Partitions,
    Direct,
    UserChats,
    Summaries,
    Watermarks,
    Checkpoints,
    Meta,
    Users,
    Handles,
    Families,
    UserFamilies,
    FamilyTimes,
    SendClaims,
    SendClaimTimes,
    Devices,
    Blocks,
    ChatSettings,
    Tickets,
    TicketTimes,
    Invites,
    ChatInvites,
    InviteTimes,
    InviteUses,
    LeavingUsers,
    MakerInvites,
    ChatNames,
    ChatFacts,
    Reactions,
}

impl Table {
    pub(super) const COUNT: usize = 31;

    pub(super) const fn name(self) -> &'static str {
        NAMES[self as usize]
    }
}

/// The open engine.
pub(super) struct Tables {
    // Before the database, so that the last handle to go is the one that closes it.
    keyspaces: Vec<Keyspace>,
    pub(super) database: Database,
    // Held for as long as anything of the engine lives; the system lets go of it when the process dies.
    _lock: File,
}

impl std::fmt::Debug for Tables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tables").finish_non_exhaustive()
    }
}

impl Tables {
    /// Locks the folder, makes the engine if there is none, opens it and checks its format.
    pub(super) fn open(config: &Config) -> Result<Self, Error> {
        let lock = lock(&config.folder)?;
        let engine = engine_folder(config);
        if !engine.try_exists().map_err(system("look for the store's engine"))? {
            create(config, &engine)?;
        }
        let (database, keyspaces) = open(config, &engine)?;
        let tables = Self { keyspaces, database, _lock: lock };
        tables.check_format(config)?;
        Ok(tables)
    }

    pub(super) fn keyspace(&self, table: Table) -> &Keyspace {
        &self.keyspaces[table as usize]
    }

    /// The newest value; only for the writer, which alone knows that no commit is half applied.
    pub(super) fn newest(&self, table: Table, key: &[u8]) -> Result<Option<Slice>, Error> {
        self.keyspace(table).get(key).map_err(Error::engine)
    }

    /// The newest rows from a key on, by key; only for the writer, as [`Self::newest`].
    pub(super) fn rows_from(
        &self,
        table: Table,
        from: &[u8],
    ) -> impl Iterator<Item = Result<(Slice, Slice), Error>> + use<> {
        self.keyspace(table).range(from.to_vec()..).map(|guard: Guard| guard.into_inner().map_err(Error::engine))
    }

    /// Seals the table's memtable; background threads write it to a file.
    pub(super) fn rotate(&self, table: Table) -> Result<(), Error> {
        self.keyspace(table).rotate_memtable().map_err(Error::engine)?;
        Ok(())
    }

    fn check_format(&self, config: &Config) -> Result<(), Error> {
        let found = self.newest(Table::Meta, FORMAT_KEY.as_bytes())?;
        if found.as_deref() == Some(&[FORMAT]) {
            return Ok(());
        }
        let found = found.map_or_else(|| "none".to_owned(), |bytes| format!("{:?}", &bytes[..]));
        Err(Error::Format { folder: config.folder.clone(), found, expected: FORMAT })
    }
}

/// Where fjall keeps its files.
pub(super) fn engine_folder(config: &Config) -> PathBuf {
    config.folder.join(ENGINE_FOLDER)
}

pub(super) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::System { what, source: Arc::new(source) }
}

fn lock(folder: &Path) -> Result<File, Error> {
    fs::create_dir_all(folder).map_err(system("make the store's folder"))?;
    let path = folder.join(LOCK_FILE);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(system("open the store's lock file"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Locked { folder: folder.to_owned() }),
        Err(TryLockError::Error(source)) => Err(system("lock the store's folder")(source)),
    }
}

/// Makes the engine beside its place and moves it there whole.
///
/// fjall refuses a folder whose making was cut short, so a kill in a process's first moments would spoil it for good.
fn create(config: &Config, engine: &Path) -> Result<(), Error> {
    let new = config.folder.join(NEW_ENGINE_FOLDER);
    match fs::remove_dir_all(&new) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            return Err(system("remove a half-made engine")(source));
        }
        _ => {}
    }
    let (database, keyspaces) = open(config, &new)?;
    keyspaces[Table::Meta as usize].insert(FORMAT_KEY, [FORMAT]).map_err(Error::engine)?;
    database.persist(PersistMode::SyncAll).map_err(Error::engine)?;
    drop(keyspaces);
    drop(database);
    fs::rename(&new, engine).map_err(system("put the new engine in its place"))?;
    File::open(&config.folder).and_then(|folder| folder.sync_all()).map_err(system("sync the store's folder"))
}

fn open(config: &Config, engine: &Path) -> Result<(Database, Vec<Keyspace>), Error> {
    let database = Database::builder(engine)
        .cache_size(config.cache_bytes)
        .max_journaling_size(config.journal_bytes.max(64 << 20))
        .worker_threads(config.background_threads.max(1))
        .open()
        .map_err(|error| {
            if matches!(error, fjall::Error::Locked) {
                return Error::Locked { folder: config.folder.clone() };
            }
            Error::engine(error)
        })?;
    // The engine must never ask for a rotation itself: the writer does, see the module's head.
    let options = || KeyspaceCreateOptions::default().max_memtable_size(u64::MAX);
    let keyspaces = NAMES.iter().map(|name| database.keyspace(name, options)).collect::<Result<_, _>>();
    Ok((database, keyspaces.map_err(Error::engine)?))
}
