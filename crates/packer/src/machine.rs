//! Smart batching: one record in flight for each partition, and what arrives meanwhile waits. No timer.

use std::collections::VecDeque;

use bytes::{BufMut as _, Bytes, BytesMut};
use domain::limits::{RECORD_BYTES_MAX, SCHEMA};
use domain::{Epoch, Rules};
use prost::encoding::{WireType, encode_key, encode_varint};

/// Commands of one partition that may wait, in bytes (N9); beyond it clients hear `busy`.
const WAITING_BYTES_MAX: usize = 4 << 20;
/// The same by count.
const WAITING_MAX: usize = 16_384;
/// Field of `CommandBatch` that holds a command.
const COMMANDS_FIELD: u32 = 2;
/// Field of `CommandBatch` that holds the epoch.
const EPOCH_FIELD: u32 = 3;
/// Schema and epoch, keys and lengths around the commands.
const OVERHEAD_BYTES: usize = 64;

/// A command on its way into the log.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// The session that asked.
    pub session: u64,
    /// Its number for the request.
    pub request: u64,
    /// An encoded `heliograph.log.v1.Command`.
    pub bytes: Bytes,
}

/// What the packer is told.
#[derive(Debug)]
pub enum PackerInput {
    /// A client asked something.
    Command(Waiting),
    /// Publish what waits, if nothing is in flight.
    Go,
    /// The record in flight stands in the log.
    Acknowledged,
    /// Nobody knows whether the record in flight landed.
    InDoubt,
    /// The log has no room, or takes no such record.
    Refused,
}

/// What the shell must do.
#[derive(Debug, PartialEq, Eq)]
pub enum PackerAction {
    /// Publish; repeats carry the same number and so the same message id.
    Publish {
        /// Number of the record: 1, 2, 3 …
        number: u64,
        /// An encoded `CommandBatch`.
        payload: Bytes,
    },
    /// Tell (session, request) that its command is in the log.
    Accepted(Vec<(u64, u64)>),
    /// Tell (session, request) to come back later: nothing of it is in the log.
    Busy(Vec<(u64, u64)>),
}

#[derive(Debug)]
struct InFlight {
    number: u64,
    payload: Bytes,
    asked: Vec<(u64, u64)>,
}

/// The commands of one partition.
#[derive(Debug)]
pub struct Packer {
    epoch: Epoch,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    in_flight: Option<InFlight>,
    number: u64,
    rules: Rules,
}

impl Packer {
    /// Nothing waits; records are packed for this epoch.
    pub fn new(epoch: Epoch) -> Self {
        Self::with_rules(epoch, Rules::ALL)
    }

    /// The same, where some rules do not hold; for tests.
    pub fn with_rules(epoch: Epoch, rules: Rules) -> Self {
        Self { epoch, waiting: VecDeque::new(), waiting_bytes: 0, in_flight: None, number: 0, rules }
    }

    /// Whether a command waits for a record.
    pub fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Takes in what happened and says what to do.
    pub fn handle(&mut self, input: PackerInput, actions: &mut Vec<PackerAction>) {
        match input {
            PackerInput::Command(command) => {
                if self.waiting_bytes + command.bytes.len() > WAITING_BYTES_MAX || self.waiting.len() >= WAITING_MAX {
                    actions.push(PackerAction::Busy(vec![(command.session, command.request)]));
                } else {
                    self.waiting_bytes += command.bytes.len();
                    self.waiting.push_back(command);
                }
            }
            PackerInput::Go => self.publish(actions),
            PackerInput::Acknowledged => {
                actions.extend(self.in_flight.take().map(|record| PackerAction::Accepted(record.asked)));
            }
            PackerInput::InDoubt => {
                if let Some(InFlight { number, payload, .. }) = &self.in_flight {
                    actions.push(PackerAction::Publish { number: *number, payload: payload.clone() });
                }
            }
            PackerInput::Refused => {
                actions.extend(self.in_flight.take().map(|record| PackerAction::Busy(record.asked)));
            }
        }
    }

    fn publish(&mut self, actions: &mut Vec<PackerAction>) {
        if self.in_flight.is_some() || self.waiting.is_empty() {
            return;
        }
        let mut payload = BytesMut::with_capacity(RECORD_BYTES_MAX.min(self.waiting_bytes + OVERHEAD_BYTES));
        encode_key(1, WireType::Varint, &mut payload);
        encode_varint(u64::from(SCHEMA), &mut payload);
        encode_key(EPOCH_FIELD, WireType::SixtyFourBit, &mut payload);
        payload.put_u64_le(self.epoch.0);
        let mut asked = Vec::new();
        while let Some(next) = self.waiting.front() {
            if payload.len() + next.bytes.len() + OVERHEAD_BYTES > RECORD_BYTES_MAX && !asked.is_empty() {
                break;
            }
            encode_key(COMMANDS_FIELD, WireType::LengthDelimited, &mut payload);
            encode_varint(next.bytes.len() as u64, &mut payload);
            payload.put_slice(&next.bytes);
            asked.push((next.session, next.request));
            self.waiting_bytes -= next.bytes.len();
            self.waiting.pop_front();
        }
        self.number += 1;
        if !self.rules.publish_first {
            actions.push(PackerAction::Accepted(std::mem::take(&mut asked)));
        }
        let payload = payload.freeze();
        actions.push(PackerAction::Publish { number: self.number, payload: payload.clone() });
        self.in_flight = Some(InFlight { number: self.number, payload, asked });
    }
}

#[cfg(test)]
mod tests;
