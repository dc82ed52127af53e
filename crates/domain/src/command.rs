//! Commands: what a client asked of one chat, checked for shape and limits.

use bytes::Bytes;
use proto::v1;

use crate::{
    ChatId, ChatKind, Code, Edit, Event, Member, Message, Origin, Policy, PolicyChange, Role, Seq, UserId,
    limits::{BODY_BYTES_MAX, MEMBERS_MAX, NAME_BYTES_MAX, REACTION_BYTES_MAX},
};

/// What a client asked of one chat.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Command {
    /// Which chat.
    pub chat: ChatId,
    /// The authenticated user.
    pub sender: UserId,
    /// The sender's outbox.
    pub origin: Origin,
    /// The outbox's counter in this chat; 0 only for `CreateChat`.
    pub n: u64,
    /// The highest unsettled n below this one; 0: none.
    pub after: u64,
    /// The chat's head as the client knew it when the command was made.
    pub basis: Seq,
    /// What to do.
    pub action: Action,
}

/// What to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Open a chat under the id that the client drew.
    CreateChat {
        /// Direct, group or channel.
        kind: ChatKind,
        /// Without the creator.
        members: Vec<Member>,
    },
    /// Let someone in.
    AddMember {
        /// Who and as what.
        member: Member,
    },
    /// Put someone out.
    RemoveMember {
        /// Who.
        user: UserId,
    },
    /// Go.
    LeaveChat,
    /// Say something.
    SendMessage(Message),
    /// Give a member another role.
    SetRole {
        /// Who and as what.
        member: Member,
    },
    /// Give the chat another name.
    RenameChat {
        /// Checked; empty: none.
        name: Box<str>,
    },
    /// Make another member an owner in one's own place.
    TransferOwnership {
        /// Who.
        user: UserId,
    },
    /// Say something else than one had.
    EditMessage {
        /// The message.
        seq: Seq,
        /// Opaque bytes.
        body: Bytes,
    },
    /// Take back what was said.
    DeleteMessage {
        /// The message.
        seq: Seq,
    },
    /// Set one's reaction to what was said.
    React {
        /// The message.
        seq: Seq,
        /// Checked; empty: none any more.
        reaction: Box<str>,
    },
    /// Change what holds in the chat.
    SetChatPolicy(PolicyChange),
    /// Pin what was said, for everybody.
    PinMessage {
        /// The message.
        seq: Seq,
        /// Take the pin away instead.
        unpin: bool,
    },
}

impl Command {
    /// Checks a client's command for shape and limits.
    ///
    /// # Errors
    /// [`Code::BodyTooLarge`], [`Code::TooManyMembers`], or [`Code::BadRequest`] for any other field that does not
    /// hold what the protocol says.
    pub fn from_wire(sender: UserId, wire: v1::Command) -> Result<Self, Code> {
        use v1::command::Action as Wire;
        let action = match wire.action.ok_or(Code::BadRequest)? {
            Wire::CreateChat(create) => {
                if create.members.len() >= MEMBERS_MAX {
                    return Err(Code::TooManyMembers);
                }
                let members = create.members.iter().map(member).collect::<Result<_, _>>()?;
                Action::CreateChat {
                    kind: ChatKind::from_wire(create.kind).map_err(|_fault| Code::BadRequest)?,
                    members,
                }
            }
            Wire::AddMember(add) => Action::AddMember { member: member(&add.member.ok_or(Code::BadRequest)?)? },
            Wire::RemoveMember(remove) => Action::RemoveMember { user: user(&remove.user)? },
            Wire::LeaveChat(v1::LeaveChat {}) => Action::LeaveChat,
            Wire::SetRole(set) => Action::SetRole {
                member: Member {
                    user: user(&set.user)?,
                    role: Role::from_wire(set.role).map_err(|_fault| Code::BadRequest)?,
                },
            },
            Wire::RenameChat(rename) if is_name(&rename.name) => Action::RenameChat { name: rename.name.into() },
            Wire::RenameChat(_) => return Err(Code::BadRequest),
            Wire::TransferOwnership(transfer) => Action::TransferOwnership { user: user(&transfer.user)? },
            Wire::SendMessage(send) => Action::SendMessage(Message::from_client(send)?),
            Wire::EditMessage(edit) if edit.body.len() > BODY_BYTES_MAX => return Err(Code::BodyTooLarge),
            Wire::EditMessage(edit) => Action::EditMessage { seq: edit.seq, body: edit.body },
            Wire::DeleteMessage(delete) => Action::DeleteMessage { seq: delete.seq },
            Wire::React(v1::React { seq, reaction }) if is_reaction(&reaction) => {
                Action::React { seq, reaction: reaction.into() }
            }
            Wire::React(_) => return Err(Code::BadRequest),
            Wire::SetChatPolicy(set) => Action::SetChatPolicy(PolicyChange::from_client(set.change)?),
            Wire::PinMessage(v1::PinMessage { seq, unpin }) => Action::PinMessage { seq, unpin },
        };
        let chat = ChatId::try_from(&wire.chat[..]).map_err(|_fault| Code::BadRequest)?;
        if !chat.is_well_formed() {
            return Err(Code::BadRequest);
        }
        let command =
            Self { chat, sender, origin: Origin(wire.origin), n: wire.n, after: wire.after, basis: wire.basis, action };
        command.check()?;
        Ok(command)
    }

    fn check(&self) -> Result<(), Code> {
        if let Action::CreateChat { kind, members } = &self.action {
            let mut users: Vec<_> = members.iter().map(|member| member.user).chain([self.sender]).collect();
            users.sort_unstable();
            let distinct = users.windows(2).all(|pair| pair[0] != pair[1]);
            let sized = *kind != ChatKind::Direct || members.len() == 1;
            // The creator owns it; a second owner is made by one who may, later.
            let ranked = members.iter().all(|member| member.role != Role::Owner);
            return if distinct && sized && ranked { Ok(()) } else { Err(Code::BadRequest) };
        }
        if self.target() == Some(0) {
            return Err(Code::BadRequest);
        }
        if self.n == 0 || self.after >= self.n || self.origin.0 == 0 { Err(Code::BadRequest) } else { Ok(()) }
    }

    /// The message that it is about, whose [`Target`](crate::Target) it is judged by.
    pub const fn target(&self) -> Option<Seq> {
        match &self.action {
            Action::EditMessage { seq, .. }
            | Action::DeleteMessage { seq }
            | Action::React { seq, .. }
            | Action::PinMessage { seq, .. } => Some(*seq),
            Action::CreateChat { .. }
            | Action::AddMember { .. }
            | Action::RemoveMember { .. }
            | Action::LeaveChat
            | Action::SendMessage(_)
            | Action::SetRole { .. }
            | Action::RenameChat { .. }
            | Action::TransferOwnership { .. }
            | Action::SetChatPolicy(_) => None,
        }
    }

    /// The command as a client sends it.
    pub fn to_wire(&self) -> v1::Command {
        use v1::command::Action as Wire;
        let action = match &self.action {
            Action::CreateChat { kind, members } => Wire::CreateChat(v1::CreateChat {
                kind: kind.to_wire().into(),
                members: members.iter().map(|member| member.to_wire()).collect(),
            }),
            Action::AddMember { member } => Wire::AddMember(v1::AddMember { member: Some(member.to_wire()) }),
            Action::RemoveMember { user } => Wire::RemoveMember(v1::RemoveMember { user: user.to_wire() }),
            Action::LeaveChat => Wire::LeaveChat(v1::LeaveChat {}),
            Action::SendMessage(message) => Wire::SendMessage(message.to_client()),
            Action::SetRole { member } => {
                Wire::SetRole(v1::SetRole { user: member.user.to_wire(), role: member.role.to_wire().into() })
            }
            Action::RenameChat { name } => Wire::RenameChat(v1::RenameChat { name: name.to_string() }),
            Action::TransferOwnership { user } => {
                Wire::TransferOwnership(v1::TransferOwnership { user: user.to_wire() })
            }
            Action::EditMessage { seq, body } => Wire::EditMessage(v1::EditMessage { seq: *seq, body: body.clone() }),
            Action::DeleteMessage { seq } => Wire::DeleteMessage(v1::DeleteMessage { seq: *seq }),
            Action::React { seq, reaction } => Wire::React(v1::React { seq: *seq, reaction: reaction.to_string() }),
            Action::SetChatPolicy(change) => Wire::SetChatPolicy(v1::SetChatPolicy { change: Some(change.to_wire()) }),
            Action::PinMessage { seq, unpin } => Wire::PinMessage(v1::PinMessage { seq: *seq, unpin: *unpin }),
        };
        v1::Command {
            chat: self.chat.to_wire(),
            origin: self.origin.0,
            n: self.n,
            after: self.after,
            basis: self.basis,
            action: Some(action),
        }
    }

    /// What happens if this command is granted; what a repeat is compared by. An edit as if it were
    /// the first, a policy and pins as if the chat had none before.
    pub fn event(&self) -> Event {
        match &self.action {
            Action::CreateChat { kind, members } => {
                Event::ChatCreated { kind: *kind, members: self.first_members(*kind, members) }
            }
            Action::AddMember { member } => Event::MemberAdded { member: *member },
            Action::RemoveMember { user } => Event::MemberRemoved { user: *user },
            Action::LeaveChat => Event::MemberLeft,
            Action::SendMessage(message) => Event::MessageSent(message.clone()),
            Action::SetRole { member } => Event::RoleSet { member: *member },
            Action::RenameChat { name } => Event::ChatRenamed { name: name.clone() },
            Action::TransferOwnership { user } => Event::OwnershipTransferred { user: *user },
            Action::EditMessage { seq, body } => {
                Event::MessageEdited(Edit { seq: *seq, body: body.clone(), previous: 0, erased: false })
            }
            Action::DeleteMessage { seq } => Event::MessageDeleted { seq: *seq },
            Action::React { seq, reaction } => Event::MessageReacted { seq: *seq, reaction: reaction.clone() },
            Action::SetChatPolicy(change) => {
                Event::ChatPolicySet { policy: Policy::default().with(*change), change: *change }
            }
            Action::PinMessage { seq, unpin } => Event::MessagePinned { seq: *seq, unpinned: *unpin, pins: Vec::new() },
        }
    }

    /// All first members in order of user. Both of a direct chat are plain members: it does not matter who opened it.
    fn first_members(&self, kind: ChatKind, others: &[Member]) -> Vec<Member> {
        let direct = kind == ChatKind::Direct;
        let mut members: Vec<_> = others
            .iter()
            .map(|member| if direct { Member { user: member.user, role: Role::Member } } else { *member })
            .collect();
        members.push(Member { user: self.sender, role: if direct { Role::Member } else { Role::Owner } });
        members.sort_unstable();
        members
    }
}

/// Whether a chat may be called so: one line that a list can show, or nothing.
pub fn is_name(name: &str) -> bool {
    name.len() <= NAME_BYTES_MAX && name.trim() == name && !name.chars().any(char::is_control)
}

/// Whether a client may show this as a reaction, or as none.
pub fn is_reaction(reaction: &str) -> bool {
    reaction.len() <= REACTION_BYTES_MAX && !reaction.chars().any(|it| it.is_control() || it.is_whitespace())
}

fn member(wire: &v1::Member) -> Result<Member, Code> {
    Member::from_wire(wire).map_err(|_fault| Code::BadRequest)
}

fn user(bytes: &Bytes) -> Result<UserId, Code> {
    UserId::try_from(&bytes[..]).map_err(|_fault| Code::BadRequest)
}
