//! Judges what a new owner found, as Raft matches the previous entry (M5).

use domain::{CommandPosition, Epoch, EventPosition, PartitionPosition, Rules, Seq, WriterId};

use super::{Entries, unfolded};

/// What COMMANDS-p holds.
#[derive(Clone, Debug, Default)]
pub struct CommandFacts {
    /// The lowest sequence kept; last + 1 where the stream is empty.
    pub first: Seq,
    /// The highest sequence ever given.
    pub last: Seq,
    /// Time and message id of the record at the stored position, if it is kept.
    pub at_stored: Option<(i64, String)>,
    /// The same of the record that the last event record names, if it is kept.
    pub at_tail: Option<(i64, String)>,
}

/// What EVENTS-p holds.
#[derive(Clone, Debug, Default)]
pub struct EventFacts {
    /// The lowest sequence kept; last + 1 where the stream is empty.
    pub first: Seq,
    /// The highest sequence ever given.
    pub last: Seq,
    /// How far a required reader got, by its checkpoint of this epoch; 0: none has one.
    pub read: Seq,
    /// Writer and batch number of the record at the stored position, if it is kept.
    pub at_stored: Option<(WriterId, u64)>,
    /// Every record above the stored position.
    pub tail: Vec<TailRecord>,
}

/// An event record that is published and perhaps not appended.
#[derive(Clone, Debug)]
pub struct TailRecord {
    /// Where it stands, and its fingerprint.
    pub position: EventPosition,
    /// The epoch that it says.
    pub epoch: Epoch,
    /// The last command that it covers.
    pub commands: CommandPosition,
    /// What it holds.
    pub entries: Entries,
}

/// What a new owner found.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The streams' epoch.
    pub epoch: Epoch,
    /// The store's position; none: nothing was ever appended.
    pub stored: Option<PartitionPosition>,
    /// The command stream.
    pub commands: CommandFacts,
    /// The event stream.
    pub events: EventFacts,
}

/// How the new owner goes on.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The streams' epoch.
    pub epoch: Epoch,
    /// To append first, in order.
    pub tail: Vec<TailRecord>,
    /// The last event record that the store has.
    pub appended: Seq,
    /// The event stream's last sequence: what the first publish expects.
    pub expected: Seq,
    /// Fold on behind this.
    pub commands: CommandPosition,
    /// Read COMMANDS-p from here; the first record may be folded in part.
    pub read_from: Seq,
}

/// Why a partition must stop until a person has looked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Halt {
    /// The store's position is of other streams.
    #[error("the store's position is of another epoch than the streams")]
    Epoch,
    /// The event stream lost records that the store has.
    #[error("EVENTS lost its tail: the store has what the stream no longer holds")]
    EventsLostTail,
    /// The command stream lost records that were folded.
    #[error("COMMANDS lost its tail: commands were folded that the stream no longer holds")]
    CommandsLostTail,
    /// Event records are gone that the store does not have.
    #[error("EVENTS was trimmed above what the store has")]
    EventsMissing,
    /// Commands are gone that nobody folded.
    #[error("COMMANDS was trimmed above what was folded")]
    CommandsMissing,
    /// A published entry does not follow what the store has of its chat.
    #[error("a published entry does not follow the rows of its chat")]
    Hole,
}

/// Judges the facts.
///
/// # Errors
/// [`Halt`]; before it is believed the facts should be read again, since another owner may have appended and trimmed
/// between two reads.
pub fn plan(facts: Facts, rules: &Rules) -> Result<Plan, Halt> {
    let Facts { epoch, stored, commands, events } = facts;
    if stored.as_ref().is_some_and(|stored| stored.epoch != epoch) {
        return Err(Halt::Epoch);
    }
    let appended = stored.as_ref().map_or(0, |stored| stored.events.sequence);
    if appended + 1 < events.first {
        return Err(Halt::EventsMissing);
    }
    // M5: a reader may be ahead of the position, and knows of records that the store lost with the stream.
    if rules.m5 && events.read > events.last {
        return Err(Halt::EventsLostTail);
    }
    // M5: what the store says stood in the streams must stand there still, by number and by fingerprint.
    if rules.m5
        && let Some(stored) = &stored
    {
        let same = events.at_stored.is_none_or(|found| found == (stored.events.writer, stored.events.batch));
        if appended > events.last || !same || (appended >= events.first && events.at_stored.is_none() && appended > 0) {
            return Err(Halt::EventsLostTail);
        }
        match_command(&stored.commands, commands.last, commands.at_stored.as_ref())?;
    }
    if events.tail.iter().any(|record| record.epoch != epoch) {
        return Err(Halt::Epoch);
    }
    let folded = events.tail.last().map(|last| last.commands.clone()).or_else(|| stored.map(|stored| stored.commands));
    let folded = folded.unwrap_or_else(unfolded);
    if rules.m5 && !events.tail.is_empty() {
        match_command(&folded, commands.last, commands.at_tail.as_ref())?;
    }
    // The command that the last event names is never trimmed (M9), so at most what is at or below it may be gone.
    if rules.m5 && folded.sequence + 1 < commands.first {
        return Err(Halt::CommandsMissing);
    }
    let read_from = if folded.sequence >= commands.first.max(1) { folded.sequence } else { folded.sequence + 1 };
    Ok(Plan { epoch, tail: events.tail, appended, expected: events.last, commands: folded, read_from })
}

fn match_command(folded: &CommandPosition, last: Seq, found: Option<&(i64, String)>) -> Result<(), Halt> {
    let same = found.is_none_or(|(time, id)| *time == folded.time_ns && *id == folded.message_id);
    if folded.sequence > last || !same { Err(Halt::CommandsLostTail) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: Epoch = Epoch(7);

    fn command(sequence: Seq) -> CommandPosition {
        CommandPosition { sequence, count: 1, time_ns: sequence as i64 * 10, message_id: format!("m{sequence}") }
    }

    fn at(sequence: Seq) -> Option<(i64, String)> {
        let command = command(sequence);
        Some((command.time_ns, command.message_id))
    }

    fn record(sequence: Seq, commands: Seq) -> TailRecord {
        TailRecord {
            position: EventPosition { sequence, writer: WriterId(1), batch: sequence },
            epoch: EPOCH,
            commands: command(commands),
            entries: Vec::new(),
        }
    }

    /// Events 1–5 and commands 1–9 exist; 3 and 4 are stored; events 4 and 5 cover commands to 6.
    fn found() -> Facts {
        let events = EventPosition { sequence: 3, writer: WriterId(1), batch: 3 };
        Facts {
            epoch: EPOCH,
            stored: Some(PartitionPosition { epoch: EPOCH, commands: command(4), events }),
            commands: CommandFacts { first: 1, last: 9, at_stored: at(4), at_tail: at(6) },
            events: EventFacts {
                first: 1,
                last: 5,
                read: 5,
                at_stored: Some((WriterId(1), 3)),
                tail: vec![record(4, 5), record(5, 6)],
            },
        }
    }

    #[test]
    fn a_new_owner_appends_the_tail_and_folds_on() {
        let plan = plan(found(), &Rules::ALL).unwrap();
        assert_eq!((plan.tail.len(), plan.expected, plan.read_from), (2, 5, 6));
        assert_eq!(plan.commands, command(6));
    }

    #[test]
    fn the_first_owner_starts_at_the_first_command() {
        let commands = CommandFacts { first: 1, last: 0, ..CommandFacts::default() };
        let events = EventFacts { first: 1, last: 0, ..EventFacts::default() };
        let plan = plan(Facts { epoch: EPOCH, stored: None, commands, events }, &Rules::ALL).unwrap();
        assert_eq!((plan.expected, plan.read_from), (0, 1));
    }

    #[test]
    fn a_lost_tail_stops_the_partition() {
        let halts = |change: fn(&mut Facts)| {
            let mut facts = found();
            change(&mut facts);
            plan(facts, &Rules::ALL).err()
        };
        assert_eq!(halts(|_| {}), None);
        assert_eq!(halts(|facts| facts.epoch = Epoch(8)), Some(Halt::Epoch));
        assert_eq!(
            halts(|facts| facts.events = EventFacts { first: 1, last: 2, ..EventFacts::default() }),
            Some(Halt::EventsLostTail)
        );
        assert_eq!(halts(|facts| facts.events.at_stored = Some((WriterId(2), 3))), Some(Halt::EventsLostTail));
        assert_eq!(halts(|facts| facts.events.read = 6), Some(Halt::EventsLostTail));
        assert_eq!(halts(|facts| facts.commands.last = 3), Some(Halt::CommandsLostTail));
        assert_eq!(halts(|facts| facts.commands.at_stored = Some((1, "m4".into()))), Some(Halt::CommandsLostTail));
        assert_eq!(halts(|facts| facts.commands.at_tail = Some((60, "x".into()))), Some(Halt::CommandsLostTail));
        assert_eq!(halts(|facts| facts.events.first = 5), Some(Halt::EventsMissing));
        assert_eq!(halts(|facts| facts.commands.first = 8), Some(Halt::CommandsMissing));
    }

    #[test]
    fn a_position_whose_records_are_trimmed_is_fine() {
        let mut facts = found();
        facts.events.first = 4;
        facts.events.at_stored = None;
        facts.commands = CommandFacts { first: 6, last: 9, at_stored: None, at_tail: at(6) };
        assert_eq!(plan(facts, &Rules::ALL).unwrap().read_from, 6);
    }
}
