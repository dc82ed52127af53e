//! The chat as an aggregate: `decide` says what happens, `apply` makes it so.
//!
//! Both are pure: chat state, the command and its record's stamp go in, nothing else is looked at (M4). What stands at
//! the seq that an edit or a deletion names is part of that state, as of the decision, though it is kept apart. So a batch
//! decided again after a crash gives the same bytes, and any replay gives the same chat.

use std::collections::BTreeMap;

use bytes::Bytes;
use proto::log;

use crate::{
    Action, ChatId, ChatKind, Code, Command, Edit, Entry, Error, Event, ImportId, Member, Message, Micros, Ordinal,
    Origin, Policy, Role, Rules, Seq, Target, UserId,
    import::Imported,
    limits::{MEMBERS_MAX, PINS_MAX, SCHEMA},
    origins::Origins,
    version::ANY,
};

/// A current member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemberState {
    /// As what.
    pub role: Role,
    /// The entry that let it in.
    pub joined_seq: Seq,
}

/// The state that a chat's entries fold to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chat {
    id: ChatId,
    kind: ChatKind,
    creator: UserId,
    creation_hash: u128,
    creation_time: Micros,
    head: Seq,
    ordinal: Ordinal,
    first_seq: Seq,
    last_time: Micros,
    members: BTreeMap<UserId, MemberState>,
    origins: Origins,
    imported: Option<Imported>,
    policy: Policy,
    /// The latest last.
    pins: Vec<Seq>,
}

/// What becomes of a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decision {
    /// It happens, as this entry.
    Append(Entry),
    /// It happened before, here.
    Repeat {
        /// Where.
        seq: Seq,
        /// When.
        time: Micros,
    },
    /// It does not happen.
    Reject {
        /// Why.
        code: Code,
        /// The chat's head; 0 where the sender must not learn it.
        head: Seq,
    },
}

/// Decides one command. `stamp` is the log's time for the command's record, in µs.
///
/// `target` is what stands at [`Command::target`]; without one, or where the chat does not [have](Chat::has) it, it is
/// not looked at.
pub fn decide(chat: Option<&Chat>, command: &Command, target: Target, stamp: Micros, rules: &Rules) -> Decision {
    let Some(chat) = chat else {
        return match &command.action {
            Action::CreateChat { .. } => Decision::Append(first_entry(command, stamp)),
            Action::AddMember { .. }
            | Action::RemoveMember { .. }
            | Action::LeaveChat
            | Action::SendMessage { .. }
            | Action::SetRole { .. }
            | Action::RenameChat { .. }
            | Action::TransferOwnership { .. }
            | Action::EditMessage { .. }
            | Action::DeleteMessage { .. }
            | Action::React { .. }
            | Action::SetChatPolicy(_)
            | Action::PinMessage { .. } => Decision::Reject { code: Code::UnknownChat, head: 0 },
        };
    };
    if chat.is_importing() {
        // To clients there is no such chat yet; whoever was led to its id, by a claim, comes back later.
        let is_creation = matches!(command.action, Action::CreateChat { .. });
        return Decision::Reject { code: if is_creation { Code::Unavailable } else { Code::UnknownChat }, head: 0 };
    }
    if let Action::CreateChat { .. } = &command.action {
        return chat.repeat_creation(command);
    }
    // M10: a repeat is answered as the first was, whatever today's membership is.
    let answer = if rules.m10 {
        chat.repeat(command, rules).or_else(|| chat.refusal(command, target, stamp))
    } else {
        chat.refusal(command, target, stamp).or_else(|| chat.repeat(command, rules))
    };
    answer.unwrap_or_else(|| Decision::Append(chat.next_entry(command, target, stamp, rules)))
}

fn first_entry(command: &Command, stamp: Micros) -> Entry {
    Entry {
        chat: command.chat,
        seq: 1,
        ordinal: 0,
        sender: command.sender,
        // The chat id is the identity of a creation.
        origin: Origin(0),
        n: 0,
        time: stamp,
        event: command.event(),
    }
}

impl Chat {
    /// The chat that its first entry makes; `None` if that is no creation with seq 1.
    pub fn create(entry: &Entry) -> Option<Self> {
        let (kind, members, import) = match &entry.event {
            Event::ChatCreated { kind, members } => (*kind, &members[..], None),
            Event::ImportBegun { kind, import } => (*kind, &[][..], Some(*import)),
            Event::MemberAdded { .. }
            | Event::MemberRemoved { .. }
            | Event::MemberLeft
            | Event::MessageSent { .. }
            | Event::RoleSet { .. }
            | Event::ChatRenamed { .. }
            | Event::OwnershipTransferred { .. }
            | Event::MessageEdited(_)
            | Event::MessageDeleted { .. }
            | Event::MessageReacted { .. }
            | Event::ChatPolicySet { .. }
            | Event::MessagePinned { .. }
            | Event::ImportEnded { .. } => return None,
        };
        (entry.seq == 1).then(|| Self {
            id: entry.chat,
            kind,
            creator: entry.sender,
            creation_hash: entry.event.content_hash(),
            creation_time: entry.time,
            head: 1,
            ordinal: 0,
            first_seq: 1,
            last_time: entry.time,
            members: members
                .iter()
                .map(|member| (member.user, MemberState { role: member.role, joined_seq: 1 }))
                .collect(),
            origins: Origins::default(),
            imported: import.map(|import| Imported { import, ended: None }),
            policy: Policy::default(),
            pins: Vec::new(),
        })
    }

    /// Folds the next entry in.
    ///
    /// # Panics
    /// If `entry.seq` is not head + 1: a caller that folds out of order would corrupt the chat silently.
    pub fn apply(&mut self, entry: &Entry) {
        assert_eq!(entry.seq, self.head + 1, "entries of {} are folded in order", self.id);
        self.head = entry.seq;
        self.ordinal = entry.ordinal;
        self.last_time = entry.time;
        match &entry.event {
            // Names and reactions are of no consequence to what may happen: they stand in the models only.
            Event::ChatCreated { .. }
            | Event::ImportBegun { .. }
            | Event::MessageSent { .. }
            | Event::MessageEdited(_)
            | Event::MessageReacted { .. }
            | Event::ChatRenamed { .. } => {}
            Event::MessageDeleted { seq } => {
                self.origins.forget_content(*seq);
                self.pins.retain(|pin| pin != seq);
            }
            Event::ChatPolicySet { policy, .. } => self.policy = *policy,
            Event::MessagePinned { pins, .. } => self.pins.clone_from(pins),
            Event::RoleSet { member } => self.set_role(member.user, member.role),
            Event::OwnershipTransferred { user } => {
                self.set_role(entry.sender, Role::Admin);
                self.set_role(*user, Role::Owner);
            }
            Event::ImportEnded { members } => {
                // What was imported is theirs.
                let member = |member: &Member| (member.user, MemberState { role: member.role, joined_seq: 1 });
                self.members.extend(members.iter().map(member));
                if let Some(imported) = &mut self.imported {
                    imported.ended = Some((entry.seq, entry.time));
                }
            }
            Event::MemberAdded { member } => {
                self.members.insert(member.user, MemberState { role: member.role, joined_seq: entry.seq });
            }
            Event::MemberRemoved { user } => {
                self.members.remove(user);
            }
            Event::MemberLeft => {
                self.members.remove(&entry.sender);
            }
        }
        // Steps of an import are told apart by their seqs.
        if entry.origin != Origin(0) {
            self.origins.remember(entry);
        }
    }

    fn set_role(&mut self, user: UserId, role: Role) {
        if let Some(member) = self.members.get_mut(&user) {
            member.role = role;
        }
    }

    fn repeat_creation(&self, command: &Command) -> Decision {
        if let Event::ChatCreated { kind: ChatKind::Direct, members } = command.event()
            && self.kind == ChatKind::Direct
            && self.imported.is_some()
            && members.iter().all(|member| self.members.contains_key(&member.user))
        {
            // The chat that the two have, wherever it began.
            return Decision::Repeat { seq: 1, time: self.creation_time };
        }
        let same_creator = self.creator == command.sender || self.kind == ChatKind::Direct;
        if same_creator && command.event().content_hash() == self.creation_hash {
            Decision::Repeat { seq: 1, time: self.creation_time }
        } else {
            Decision::Reject { code: Code::Conflict, head: self.head_for(command.sender) }
        }
    }

    /// What dedupe says, before any other rule.
    fn repeat(&self, command: &Command, rules: &Rules) -> Option<Decision> {
        let last_n = match self.origins.get(command.sender, command.origin) {
            Some(origin) if rules.dedupe && command.n <= origin.last_n() => {
                return Some(match origin.recent(command.n) {
                    Some(first) if first.hash == ANY || first.hash == command.event().content_hash() => {
                        Decision::Repeat { seq: first.seq, time: first.time }
                    }
                    Some(_) => self.reject(command, Code::Conflict),
                    None => self.reject(command, Code::Superseded),
                });
            }
            Some(origin) => origin.last_n(),
            // M14: it may be one that was forgotten, and the command stored before that.
            None if rules.m14 && command.basis < self.origins.evicted_through() => {
                return Some(self.reject(command, Code::OriginUnknown));
            }
            None => 0,
        };
        (command.after > last_n).then(|| self.reject(command, Code::PredecessorMissing))
    }

    /// What membership, roles, policy and limits say (N7).
    fn refusal(&self, command: &Command, target: Target, stamp: Micros) -> Option<Decision> {
        let Some(sender) = self.members.get(&command.sender) else {
            return Some(Decision::Reject { code: Code::NotAMember, head: 0 });
        };
        let fixed = self.kind == ChatKind::Direct;
        let target = command.target().filter(|seq| self.has(*seq)).map_or(Target::Missing, |_| target);
        let code = match &command.action {
            Action::CreateChat { .. } => None,
            Action::SendMessage(_) if !self.may_send(sender.role) => Some(Code::Forbidden),
            Action::SendMessage(message) => {
                self.refuse_reference(message).or_else(|| self.refuse_haste(command.sender, sender.role, stamp))
            }
            Action::EditMessage { .. } => match target {
                Target::Said { by, .. } if by != command.sender || !self.may_send(sender.role) => Some(Code::Forbidden),
                Target::Said { .. } => self.refuse_haste(command.sender, sender.role, stamp),
                Target::Missing | Target::Deleted => Some(Code::NoSuchMessage),
            },
            Action::DeleteMessage { .. } => match target {
                Target::Deleted => Some(Code::NoChange),
                Target::Said { by, .. } => {
                    let keeps_order = !fixed && sender.role <= Role::Admin;
                    (by != command.sender && !keeps_order).then_some(Code::Forbidden)
                }
                Target::Missing => Some(Code::NoSuchMessage),
            },
            Action::React { .. } => match target {
                Target::Said { .. } if sender.role == Role::Reader => Some(Code::Forbidden),
                Target::Said { .. } => self.refuse_haste(command.sender, sender.role, stamp),
                Target::Missing | Target::Deleted => Some(Code::NoSuchMessage),
            },
            Action::PinMessage { .. } if !fixed && sender.role > Role::Admin => Some(Code::Forbidden),
            Action::PinMessage { seq, unpin } => match target {
                Target::Said { .. } => self.refuse_pin(*seq, *unpin),
                Target::Missing | Target::Deleted => Some(Code::NoSuchMessage),
            },
            Action::AddMember { .. }
            | Action::RemoveMember { .. }
            | Action::LeaveChat
            | Action::SetRole { .. }
            | Action::RenameChat { .. }
            | Action::TransferOwnership { .. }
            | Action::SetChatPolicy(_)
                if fixed =>
            {
                Some(Code::DirectChatIsFixed)
            }
            Action::AddMember { member } => self.refuse_adding(sender.role, *member),
            Action::RemoveMember { user } => self.refuse_removing(sender.role, *user),
            // With nobody left, nobody misses an owner.
            Action::LeaveChat => {
                (self.members.len() > 1 && self.is_last_owner(command.sender)).then_some(Code::LastOwner)
            }
            Action::SetRole { member } => self.refuse_role(command.sender, sender.role, *member),
            Action::RenameChat { .. } => (sender.role > Role::Admin).then_some(Code::Forbidden),
            Action::SetChatPolicy(_) if sender.role > Role::Admin => Some(Code::Forbidden),
            Action::SetChatPolicy(change) => (self.policy.with(*change) == self.policy).then_some(Code::NoChange),
            Action::TransferOwnership { user } => match self.members.get(user) {
                _ if sender.role != Role::Owner => Some(Code::Forbidden),
                None => Some(Code::NoSuchMember),
                Some(heir) => (heir.role == Role::Owner).then_some(Code::NoChange),
            },
        };
        code.map(|code| self.reject(command, code))
    }

    const fn may_send(&self, role: Role) -> bool {
        match self.kind {
            ChatKind::Direct | ChatKind::Group => !matches!(role, Role::Reader),
            ChatKind::Channel => matches!(role, Role::Owner | Role::Admin),
        }
    }

    /// The chat knows which seqs there are, not what stands there nor who may see it: a client shows what it has.
    fn refuse_reference(&self, message: &Message) -> Option<Code> {
        message.reply_to.is_some_and(|seq| !self.has(seq)).then_some(Code::NoSuchMessage)
    }

    /// Slow mode, by the sender's last entry, while it is remembered.
    fn refuse_haste(&self, sender: UserId, role: Role, stamp: Micros) -> Option<Code> {
        let rest = u64::from(self.policy.slow_mode_s) * 1_000_000;
        if rest == 0 || role <= Role::Admin {
            return None;
        }
        let last = self.origins.last_time_of(sender)?;
        (stamp < last.saturating_add(rest)).then_some(Code::SlowMode)
    }

    fn refuse_pin(&self, seq: Seq, unpin: bool) -> Option<Code> {
        if self.pins.contains(&seq) != unpin {
            Some(Code::NoChange)
        } else {
            (!unpin && self.pins.len() >= PINS_MAX).then_some(Code::TooManyPins)
        }
    }

    fn refuse_adding(&self, by: Role, member: Member) -> Option<Code> {
        // Of members, too: one of theirs or below.
        let is_trusted = self.policy.members_add && by == Role::Member && member.role >= by;
        if !is_trusted && (by > Role::Admin || member.role <= by && by != Role::Owner) {
            Some(Code::Forbidden)
        } else if self.members.contains_key(&member.user) {
            Some(Code::AlreadyAMember)
        } else {
            (self.members.len() >= MEMBERS_MAX).then_some(Code::TooManyMembers)
        }
    }

    fn refuse_removing(&self, by: Role, user: UserId) -> Option<Code> {
        let Some(member) = self.members.get(&user) else {
            return Some(if by > Role::Admin { Code::Forbidden } else { Code::NoSuchMember });
        };
        (by > Role::Admin || member.role <= by).then_some(Code::Forbidden)
    }

    fn is_last_owner(&self, user: UserId) -> bool {
        let mut owners = self.members.iter().filter(|(_, member)| member.role == Role::Owner);
        owners.next().is_some_and(|(owner, _)| *owner == user) && owners.next().is_none()
    }

    /// As with removing: of others only those below are changed. Oneself may step down.
    fn refuse_role(&self, sender: UserId, by: Role, member: Member) -> Option<Code> {
        let Some(before) = self.members.get(&member.user).map(|before| before.role) else {
            return Some(if by > Role::Admin { Code::Forbidden } else { Code::NoSuchMember });
        };
        let (own, gives_own) = (member.user == sender, member.role <= by && by != Role::Owner);
        if by > Role::Admin || (!own && before <= by) {
            Some(Code::Forbidden)
        } else if before == member.role {
            Some(Code::NoChange)
        } else if gives_own {
            Some(Code::Forbidden)
        } else {
            (own && self.is_last_owner(sender)).then_some(Code::LastOwner)
        }
    }

    fn reject(&self, command: &Command, code: Code) -> Decision {
        Decision::Reject { code, head: self.head_for(command.sender) }
    }

    /// Only members learn how far a chat has come.
    fn head_for(&self, user: UserId) -> Seq {
        if self.members.contains_key(&user) { self.head } else { 0 }
    }

    fn next_entry(&self, command: &Command, target: Target, stamp: Micros, rules: &Rules) -> Entry {
        let event = match (command.event(), target) {
            (Event::MessageEdited(edit), Target::Said { edited, .. }) => {
                Event::MessageEdited(Edit { previous: edited, ..edit })
            }
            (Event::ChatPolicySet { change, .. }, _) => {
                Event::ChatPolicySet { policy: self.policy.with(change), change }
            }
            (Event::MessagePinned { seq, unpinned, .. }, _) => {
                let others = self.pins.iter().copied().filter(|pin| *pin != seq);
                Event::MessagePinned { seq, unpinned, pins: others.chain((!unpinned).then_some(seq)).collect() }
            }
            (event, _) => event,
        };
        Entry {
            chat: self.id,
            seq: self.head + 1,
            ordinal: self.ordinal + u64::from(event.is_message()),
            sender: command.sender,
            origin: command.origin,
            n: command.n,
            // M4: strictly monotone, whatever the log's clock did.
            time: if rules.m4 { stamp.max(self.last_time + 1) } else { stamp },
            event,
        }
    }

    /// Its id.
    pub const fn id(&self) -> ChatId {
        self.id
    }

    /// Direct, group or channel.
    pub const fn kind(&self) -> ChatKind {
        self.kind
    }

    /// The highest seq.
    pub const fn head(&self) -> Seq {
        self.head
    }

    /// How many messages there are up to the head.
    pub const fn ordinal(&self) -> Ordinal {
        self.ordinal
    }

    /// The lowest seq that is kept.
    pub const fn first_seq(&self) -> Seq {
        self.first_seq
    }

    /// Whether the seq is of an entry that is kept.
    pub fn has(&self, seq: Seq) -> bool {
        (self.first_seq..=self.head).contains(&seq)
    }

    /// The time of the head.
    pub(crate) const fn last_time(&self) -> Micros {
        self.last_time
    }

    pub(crate) const fn imported(&self) -> Option<Imported> {
        self.imported
    }

    /// Whether an operator is still bringing its history in: seen by nobody.
    pub fn is_importing(&self) -> bool {
        self.imported.is_some_and(|imported| imported.ended.is_none())
    }

    /// What holds in it.
    pub const fn policy(&self) -> Policy {
        self.policy
    }

    /// The messages that are pinned, the latest last.
    pub fn pins(&self) -> &[Seq] {
        &self.pins
    }

    /// Who is in it now.
    pub const fn members(&self) -> &BTreeMap<UserId, MemberState> {
        &self.members
    }

    /// About how many bytes of memory this chat takes.
    pub fn weight(&self) -> usize {
        256 + self.pins.len() * 8 + self.members.len() * 64 + self.origins.len() * 160 + self.origins.remembered() * 40
    }

    /// The state without its members, which have rows of their own.
    pub fn snapshot(&self) -> log::ChatSnapshot {
        let ended = self.imported.and_then(|imported| imported.ended).unwrap_or_default();
        log::ChatSnapshot {
            schema: SCHEMA,
            head: self.head,
            ordinal: self.ordinal,
            first_seq: self.first_seq,
            last_time_us: self.last_time,
            kind: self.kind.to_wire().into(),
            creator: self.creator.to_wire(),
            creation_hash: Bytes::copy_from_slice(&self.creation_hash.to_be_bytes()),
            creation_time_us: self.creation_time,
            evicted_through: self.origins.evicted_through(),
            origins: self.origins.to_wire(),
            import: self.imported.map(|imported| imported.import.to_wire()).unwrap_or_default(),
            import_end_seq: ended.0,
            import_end_time_us: ended.1,
            policy: (self.policy != Policy::default()).then(|| self.policy.to_wire()),
            pins: self.pins.clone(),
        }
    }

    /// The chat of a snapshot and its members as of the snapshot's head.
    ///
    /// # Errors
    /// [`Error::Schema`] for a newer snapshot, else the fault of the field that does not hold what it should.
    pub fn restore(
        id: ChatId,
        snapshot: &log::ChatSnapshot,
        members: impl IntoIterator<Item = (UserId, MemberState)>,
    ) -> Result<Self, Error> {
        if snapshot.schema > SCHEMA {
            return Err(Error::Schema { found: snapshot.schema });
        }
        let hash: [u8; 16] = snapshot.creation_hash[..].try_into().map_err(|_fault| Error::Missing("creation_hash"))?;
        let ended = (snapshot.import_end_seq, snapshot.import_end_time_us);
        let imported = match &snapshot.import[..] {
            [] => None,
            import => Some(Imported {
                import: ImportId::try_from(import)?,
                ended: (snapshot.import_end_seq > 0).then_some(ended),
            }),
        };
        Ok(Self {
            id,
            kind: ChatKind::from_wire(snapshot.kind)?,
            creator: UserId::try_from(&snapshot.creator[..])?,
            creation_hash: u128::from_be_bytes(hash),
            creation_time: snapshot.creation_time_us,
            head: snapshot.head,
            ordinal: snapshot.ordinal,
            first_seq: snapshot.first_seq,
            last_time: snapshot.last_time_us,
            members: members.into_iter().collect(),
            origins: Origins::from_wire(&snapshot.origins, snapshot.evicted_through)?,
            imported,
            policy: snapshot.policy.map(Policy::from_wire).unwrap_or_default(),
            pins: snapshot.pins.clone(),
        })
    }
}
