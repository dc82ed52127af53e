//! What a seed draws before it starts: who there is, how bad the weather gets, how small the caches are.

use domain::Micros;
use gateway::machine::Kept;
use ingest::machine::Settings;

use crate::random::Random;

/// Delivery's memory that holds all chats of a run.
pub(crate) const HOT_BYTES_FOR_ALL: u64 = 1 << 20;

/// One seed's setting.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    pub(crate) users: usize,
    pub(crate) devices: usize,
    pub(crate) chats: usize,
    pub(crate) commands: u64,
    /// When the last command is given and the last fault has happened.
    pub(crate) active: Micros,
    pub(crate) faults: u64,
    /// One core message in so many is lost; 0: none.
    pub(crate) loss: u64,
    /// How long the broker remembers message ids.
    pub(crate) window: Micros,
    pub(crate) owner: Settings,
    pub(crate) hot_bytes: usize,
    pub(crate) summaries: usize,
    pub(crate) trim_every: Micros,
    pub(crate) sync_every: Micros,
    /// Entries of one history answer.
    pub(crate) page: usize,
    /// Members are added and removed much.
    pub(crate) restless: bool,
    /// One outbox is filled at once now and then.
    pub(crate) bursts: bool,
    /// The log is synced lazily: a power cut takes its tail.
    pub(crate) lazy: bool,
    /// An older copy of a stream's disk comes back.
    pub(crate) loses_tail: bool,
    /// The last message comes when all else is at rest.
    pub(crate) lone: bool,
    /// Days pass.
    pub(crate) long_time: bool,
    /// What gateways keep of a session's pushes.
    pub(crate) kept: Kept,
    /// Gateways hand commands to owners where they can.
    pub(crate) hands_over: bool,
    /// An operator brings in a further chat with its history.
    pub(crate) imports: bool,
    /// Chats are given names, members other roles.
    pub(crate) governs: bool,
    /// What was said is edited and deleted, by whom it may concern.
    pub(crate) edits: bool,
    /// People react to messages and pin them, and say how fast they may speak.
    pub(crate) opinions: bool,
}

impl Scene {
    pub(crate) fn draw(random: &mut Random, seed: u64) -> Self {
        let users = 2 + random.index(3);
        let bursts = random.one_in(6);
        let active = random.between(2_000_000, 12_000_000);
        let pick = |random: &mut Random, of: &[u64]| of[random.index(of.len())];
        Self {
            users,
            devices: users + random.index(2),
            chats: 1 + random.index(3),
            commands: random.between(10, 40) + if bursts { 45 } else { 0 },
            active,
            faults: random.below(7),
            loss: pick(random, &[0, 100, 30, 8]),
            window: pick(random, &[120_000_000, 120_000_000, 400_000]),
            owner: Settings {
                chats_bytes_max: usize::try_from(pick(random, &[0, 600, 2_000, 1 << 20])).unwrap_or_default(),
                waiting_max: 4 + random.index(64),
                waiting_bytes_max: 1 << 20,
                batch_max: 1 + random.index(8),
                unappended_max: 1 + random.index(4),
                snapshot_entries: 1 + random.below(8),
            },
            hot_bytes: usize::try_from(pick(random, &[0, 1_000, HOT_BYTES_FOR_ALL])).unwrap_or_default(),
            summaries: random.index(3),
            trim_every: pick(random, &[50_000, 300_000, 2_000_000]),
            sync_every: pick(random, &[100_000, 1_000_000]),
            page: 1 + random.index(12),
            restless: random.one_in(3),
            bursts,
            lazy: random.one_in(12),
            loses_tail: random.one_in(12),
            lone: random.one_in(6),
            long_time: random.one_in(4),
            kept: Kept { frames: usize::try_from(pick(random, &[0, 3, 12, 64])).unwrap_or_default(), bytes: 8_192 },
            hands_over: seed.is_multiple_of(2),
            imports: matches!(seed % 7, 0 | 6),
            governs: seed.is_multiple_of(9),
            edits: seed % 4 == 1,
            opinions: seed % 8 == 5,
        }
    }
}
