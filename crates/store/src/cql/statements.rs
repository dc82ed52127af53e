//! Every statement of this engine, prepared once at the start.
//!
//! `?` in the order in which they stand. No statement writes a null: what is not known is not named, what is none has a
//! value that says so.

/// How a statement is run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// By a quorum; may be repeated.
    Plain,
    /// A read that sees every conditional write; may be repeated.
    Serial,
    /// A conditional write: done once or not at all.
    Conditional,
}

macro_rules! statements {
    ($($name:ident: $kind:ident of $table:literal = $text:literal;)*) => {
        /// A statement, by name.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(super) enum Statement { $($name,)* }

        /// Kind, table and text of each statement, in the order of [`Statement`].
        pub(super) const STATEMENTS: &[(Kind, &str, &str)] = &[$((Kind::$kind, $table, $text),)*];

        impl Statement {
            /// The table that it reads or writes.
            pub(super) const fn table(self) -> &'static str {
                match self { $(Self::$name => $table,)* }
            }
        }
    };
}

statements! {
    // chat_log
    PutEntry: Plain of "chat_log" = "INSERT INTO chat_log (chat, bucket, seq, kind, ordinal, sender, origin, n, time_us, entry) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";
    Entries: Plain of "chat_log" = "SELECT seq, entry FROM chat_log WHERE chat = ? AND bucket = ? AND seq >= ? AND seq <= ?";
    HasEntry: Plain of "chat_log" = "SELECT seq FROM chat_log WHERE chat = ? AND bucket = ? AND seq = ?";
    LastEntry: Plain of "chat_log" = "SELECT seq FROM chat_log WHERE chat = ? AND bucket = ? AND seq <= ? ORDER BY seq DESC LIMIT 1";
    LoggedBuckets: Plain of "chat_log" = "SELECT DISTINCT chat, bucket FROM chat_log";
    // chat_members
    PutStay: Plain of "chat_members" = "INSERT INTO chat_members (chat, user_id, joined_seq, role) VALUES (?, ?, ?, ?) USING TIMESTAMP ?";
    EndStay: Plain of "chat_members" = "UPDATE chat_members USING TIMESTAMP ? SET left_seq = ? WHERE chat = ? AND user_id = ? AND joined_seq = ?";
    Members: Plain of "chat_members" = "SELECT user_id, joined_seq, role, left_seq FROM chat_members WHERE chat = ?";
    MembersAfter: Plain of "chat_members" = "SELECT user_id, joined_seq, role, left_seq FROM chat_members WHERE chat = ? AND user_id > ?";
    Stays: Plain of "chat_members" = "SELECT user_id, joined_seq, role, left_seq FROM chat_members WHERE chat = ? AND user_id = ?";
    AnyMember: Plain of "chat_members" = "SELECT user_id FROM chat_members WHERE chat = ? LIMIT 1";
    // chat_snapshots
    PutSnapshot: Plain of "chat_snapshots" = "INSERT INTO chat_snapshots (chat, head, first_seq, state) VALUES (?, ?, ?, ?) USING TIMESTAMP ?";
    Snapshot: Plain of "chat_snapshots" = "SELECT state FROM chat_snapshots WHERE chat = ?";
    SnapshotHead: Plain of "chat_snapshots" = "SELECT head, first_seq FROM chat_snapshots WHERE chat = ?";
    // partitions
    PutPosition: Plain of "partitions" = "INSERT INTO partitions (partition, epoch, events, writer, batch_number, commands, command_count, command_time_ns, command_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";
    Position: Plain of "partitions" = "SELECT epoch, events, writer, batch_number, commands, command_count, command_time_ns, command_id FROM partitions WHERE partition = ? LIMIT 1";
    // direct_chats, meta
    ClaimDirect: Conditional of "direct_chats" = "INSERT INTO direct_chats (lower, higher, chat) VALUES (?, ?, ?) IF NOT EXISTS";
    Direct: Plain of "direct_chats" = "SELECT chat FROM direct_chats WHERE lower = ? AND higher = ?";
    DirectSerial: Serial of "direct_chats" = "SELECT chat FROM direct_chats WHERE lower = ? AND higher = ?";
    ClaimMeta: Conditional of "meta" = "INSERT INTO meta (name, value) VALUES (?, ?) IF NOT EXISTS";
    MetaSerial: Serial of "meta" = "SELECT value FROM meta WHERE name = ?";
    // chats_by_user
    PutUserChat: Plain of "chats_by_user" = "UPDATE chats_by_user USING TIMESTAMP ? SET joined_seq = ? WHERE user_id = ? AND partition = ? AND chat = ?";
    LeaveUserChat: Plain of "chats_by_user" = "UPDATE chats_by_user USING TIMESTAMP ? SET left_seq = ? WHERE user_id = ? AND partition = ? AND chat = ?";
    UserChats: Plain of "chats_by_user" = "SELECT chat, joined_seq, left_seq FROM chats_by_user WHERE user_id = ?";
    UserChatsAfter: Plain of "chats_by_user" = "SELECT chat, joined_seq, left_seq FROM chats_by_user WHERE user_id = ? AND (partition, chat) > (?, ?)";
    UserChatsOfPartition: Plain of "chats_by_user" = "SELECT chat, joined_seq, left_seq FROM chats_by_user WHERE user_id = ? AND partition = ?";
    UserChatsOfPartitionAfter: Plain of "chats_by_user" = "SELECT chat, joined_seq, left_seq FROM chats_by_user WHERE user_id = ? AND partition = ? AND chat > ?";
    // chat_summaries
    PutSummary: Plain of "chat_summaries" = "INSERT INTO chat_summaries (chat, head, ordinal, first_seq, activity_us, kind, preview_seq, preview_sender, preview_time_us, preview_length, preview_body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";
    Summary: Plain of "chat_summaries" = "SELECT chat, head, ordinal, first_seq, activity_us, kind, preview_seq, preview_sender, preview_time_us, preview_length, preview_body FROM chat_summaries WHERE chat = ?";
    Summaries: Plain of "chat_summaries" = "SELECT chat, head, ordinal, first_seq, activity_us, kind, preview_seq, preview_sender, preview_time_us, preview_length, preview_body FROM chat_summaries";
    SummariesFrom: Plain of "chat_summaries" = "SELECT chat, head, ordinal, first_seq, activity_us, kind, preview_seq, preview_sender, preview_time_us, preview_length, preview_body FROM chat_summaries WHERE token(chat) >= token(?)";
    // chat_names
    PutName: Plain of "chat_names" = "INSERT INTO chat_names (chat, seq, name) VALUES (?, ?, ?) USING TIMESTAMP ?";
    Name: Plain of "chat_names" = "SELECT seq, name FROM chat_names WHERE chat = ?";
    // chat_facts, reactions
    PutFact: Plain of "chat_facts" = "INSERT INTO chat_facts (chat, kind, seq, value) VALUES (?, ?, ?, ?) USING TIMESTAMP ?";
    Facts: Plain of "chat_facts" = "SELECT kind, value FROM chat_facts WHERE chat = ?";
    PutReaction: Plain of "reactions" = "INSERT INTO reactions (chat, bucket, seq, user_id, by_seq, reaction) VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";
    EraseReactions: Plain of "reactions" = "DELETE FROM reactions USING TIMESTAMP ? WHERE chat = ? AND bucket = ? AND seq = ?";
    Reactions: Plain of "reactions" = "SELECT seq, user_id, by_seq, reaction FROM reactions WHERE chat = ? AND bucket = ? AND seq > ? AND seq <= ?";
    // watermarks
    Deliver: Plain of "watermarks" = "UPDATE watermarks USING TIMESTAMP ? SET delivered = ? WHERE chat = ? AND user_id = ?";
    See: Plain of "watermarks" = "UPDATE watermarks USING TIMESTAMP ? SET seen = ? WHERE chat = ? AND user_id = ?";
    SeeOrdinal: Plain of "watermarks" = "UPDATE watermarks USING TIMESTAMP ? SET seen_ordinal = ? WHERE chat = ? AND user_id = ?";
    Watermarks: Plain of "watermarks" = "SELECT user_id, delivered, seen, seen_ordinal FROM watermarks WHERE chat = ? AND user_id IN ?";
    // checkpoints
    ReachEvents: Plain of "checkpoints" = "UPDATE checkpoints USING TIMESTAMP ? SET events = ? WHERE reader = ? AND partition = ? AND epoch = ?";
    ReachStatuses: Plain of "checkpoints" = "UPDATE checkpoints USING TIMESTAMP ? SET statuses = ? WHERE reader = ? AND partition = ? AND epoch = ?";
    Checkpoint: Plain of "checkpoints" = "SELECT epoch, events, statuses FROM checkpoints WHERE reader = ? AND partition = ? LIMIT 1";
    // users
    AddUser: Conditional of "users" = "INSERT INTO users (version, state, handle, display_name, avatar, password, created_us, signed_out_us, user_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) IF NOT EXISTS";
    ChangeUser: Conditional of "users" = "UPDATE users SET version = ?, state = ?, handle = ?, display_name = ?, avatar = ?, password = ?, created_us = ?, signed_out_us = ? WHERE user_id = ? IF version = ?";
    User: Plain of "users" = "SELECT version, state, handle, display_name, avatar, password, created_us, signed_out_us FROM users WHERE user_id = ?";
    PutLeaving: Plain of "leaving_users" = "INSERT INTO leaving_users (shard, user_id, version) VALUES (0, ?, ?)";
    RemoveLeaving: Plain of "leaving_users" = "DELETE FROM leaving_users WHERE shard = 0 AND user_id = ? AND version = ?";
    Leaving: Plain of "leaving_users" = "SELECT user_id, version FROM leaving_users WHERE shard = 0";
    // handles
    ClaimHandle: Conditional of "handles" = "INSERT INTO handles (first_byte, handle, user_id) VALUES (?, ?, ?) IF NOT EXISTS";
    ReleaseHandle: Conditional of "handles" = "DELETE FROM handles WHERE first_byte = ? AND handle = ? IF user_id = ?";
    Handle: Plain of "handles" = "SELECT user_id FROM handles WHERE first_byte = ? AND handle = ?";
    HandleSerial: Serial of "handles" = "SELECT user_id FROM handles WHERE first_byte = ? AND handle = ?";
    HandlesFrom: Plain of "handles" = "SELECT handle, user_id FROM handles WHERE first_byte = ? AND handle >= ?";
    HandlesAfter: Plain of "handles" = "SELECT handle, user_id FROM handles WHERE first_byte = ? AND handle > ?";
    // refresh_families
    AddFamily: Conditional of "refresh_families" = "INSERT INTO refresh_families (version, device, live, spent, created_us, expires_us, user_id, family) VALUES (?, ?, ?, ?, ?, ?, ?, ?) IF NOT EXISTS USING TTL ?";
    RaiseFamilies: Conditional of "refresh_families" = "UPDATE refresh_families SET generation = ? WHERE user_id = ? IF generation = ?";
    ChangeFamily: Conditional of "refresh_families" = "UPDATE refresh_families USING TTL ? SET version = ?, device = ?, live = ?, spent = ?, created_us = ?, expires_us = ? WHERE user_id = ? AND family = ? IF version = ?";
    RemoveFamily: Conditional of "refresh_families" = "DELETE FROM refresh_families WHERE user_id = ? AND family = ? IF version = ?";
    Family: Plain of "refresh_families" = "SELECT version, device, live, spent, created_us, expires_us FROM refresh_families WHERE user_id = ? AND family = ?";
    FamilySerial: Serial of "refresh_families" = "SELECT version, device, live, spent, created_us, expires_us FROM refresh_families WHERE user_id = ? AND family = ?";
    Families: Plain of "refresh_families" = "SELECT family, version, device, live, spent, created_us, expires_us FROM refresh_families WHERE user_id = ?";
    FamilyNames: Serial of "refresh_families" = "SELECT generation, family FROM refresh_families WHERE user_id = ?";
    EraseFamilies: Plain of "refresh_families" = "DELETE FROM refresh_families WHERE user_id = ?";
    ClaimFamily: Conditional of "refresh_family_users" = "INSERT INTO refresh_family_users (family, user_id) VALUES (?, ?) IF NOT EXISTS USING TTL ?";
    KeepFamily: Plain of "refresh_family_users" = "INSERT INTO refresh_family_users (family, user_id) VALUES (?, ?) USING TTL ?";
    FamilyUser: Plain of "refresh_family_users" = "SELECT user_id FROM refresh_family_users WHERE family = ?";
    FamilyUserSerial: Serial of "refresh_family_users" = "SELECT user_id FROM refresh_family_users WHERE family = ?";
    // devices
    AddDevice: Conditional of "devices" = "INSERT INTO devices (user_id, device, name, created_us, seen_us) VALUES (?, ?, ?, ?, ?) IF NOT EXISTS";
    RaiseDevices: Conditional of "devices" = "UPDATE devices SET generation = ? WHERE user_id = ? IF generation = ?";
    SeeDevice: Conditional of "devices" = "UPDATE devices SET seen_us = ? WHERE user_id = ? AND device = ? IF seen_us = ?";
    NameDevice: Conditional of "devices" = "UPDATE devices SET name = ? WHERE user_id = ? AND device = ? IF EXISTS";
    RemoveDevice: Conditional of "devices" = "DELETE FROM devices WHERE user_id = ? AND device = ? IF EXISTS";
    DeviceNames: Serial of "devices" = "SELECT generation, device, seen_us FROM devices WHERE user_id = ?";
    Devices: Plain of "devices" = "SELECT device, name, created_us, seen_us FROM devices WHERE user_id = ?";
    EraseDevices: Plain of "devices" = "DELETE FROM devices WHERE user_id = ?";
    // blocks
    Block: Plain of "blocks" = "INSERT INTO blocks (user_id, other, at_us) VALUES (?, ?, ?) USING TIMESTAMP ?";
    Unblock: Plain of "blocks" = "DELETE FROM blocks USING TIMESTAMP ? WHERE user_id = ? AND other = ?";
    IsBlocked: Plain of "blocks" = "SELECT other FROM blocks WHERE user_id = ? AND other = ?";
    Blocks: Plain of "blocks" = "SELECT other FROM blocks WHERE user_id = ?";
    BlocksAfter: Plain of "blocks" = "SELECT other FROM blocks WHERE user_id = ? AND other > ?";
    EraseBlocks: Plain of "blocks" = "DELETE FROM blocks USING TIMESTAMP ? WHERE user_id = ?";
    // chat_settings
    AddSetting: Conditional of "chat_settings" = "INSERT INTO chat_settings (version, muted_until_us, pinned, archived, user_id, chat) VALUES (?, ?, ?, ?, ?, ?) IF NOT EXISTS";
    ChangeSetting: Conditional of "chat_settings" = "UPDATE chat_settings SET version = ?, muted_until_us = ?, pinned = ?, archived = ? WHERE user_id = ? AND chat = ? IF version = ?";
    Setting: Plain of "chat_settings" = "SELECT chat, version, muted_until_us, pinned, archived FROM chat_settings WHERE user_id = ? AND chat = ?";
    Settings: Plain of "chat_settings" = "SELECT chat, version, muted_until_us, pinned, archived FROM chat_settings WHERE user_id = ?";
    SettingsAfter: Plain of "chat_settings" = "SELECT chat, version, muted_until_us, pinned, archived FROM chat_settings WHERE user_id = ? AND chat > ?";
    EraseSettings: Plain of "chat_settings" = "DELETE FROM chat_settings WHERE user_id = ?";
    // send_claims
    AddClaim: Conditional of "send_claims" = "INSERT INTO send_claims (chat, origin, n, basis, fingerprint, at_us, outcome, user_id, name) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) IF NOT EXISTS USING TTL ?";
    ChangeClaim: Conditional of "send_claims" = "UPDATE send_claims USING TTL ? SET chat = ?, origin = ?, n = ?, basis = ?, fingerprint = ?, at_us = ?, outcome = ? WHERE user_id = ? AND name = ? IF origin = ? AND at_us = ? AND outcome = ?";
    RemoveClaim: Conditional of "send_claims" = "DELETE FROM send_claims WHERE user_id = ? AND name = ? IF EXISTS";
    Claim: Plain of "send_claims" = "SELECT chat, origin, n, basis, fingerprint, at_us, outcome FROM send_claims WHERE user_id = ? AND name = ?";
    ClaimSerial: Serial of "send_claims" = "SELECT chat, origin, n, basis, fingerprint, at_us, outcome FROM send_claims WHERE user_id = ? AND name = ?";
    PutClaimName: Plain of "send_claims_by_user" = "INSERT INTO send_claims_by_user (user_id, name) VALUES (?, ?) USING TTL ?";
    ClaimNames: Plain of "send_claims_by_user" = "SELECT name FROM send_claims_by_user WHERE user_id = ?";
    RemoveClaimName: Plain of "send_claims_by_user" = "DELETE FROM send_claims_by_user WHERE user_id = ? AND name = ?";
    // tickets
    AddTicket: Conditional of "tickets" = "INSERT INTO tickets (user_id, device, sign_in, issued_s, token_expires_s, expires_us, hash) VALUES (?, ?, ?, ?, ?, ?, ?) IF NOT EXISTS USING TTL ?";
    ChangeTicket: Conditional of "tickets" = "UPDATE tickets USING TTL ? SET user_id = ?, device = ?, sign_in = ?, issued_s = ?, token_expires_s = ?, expires_us = ? WHERE hash = ? IF EXISTS";
    TakeTicket: Conditional of "tickets" = "DELETE FROM tickets WHERE hash = ? IF EXISTS";
    Ticket: Plain of "tickets" = "SELECT user_id, device, sign_in, issued_s, token_expires_s, expires_us FROM tickets WHERE hash = ?";
    // invites
    AddInvite: Conditional of "invites" = "UPDATE invites USING TTL ? SET chat = ?, inviter = ?, created_us = ?, expires_us = ?, uses_max = ?, uses = 0, removed = false WHERE hash = ? IF created_us = null";
    AddUse: Conditional of "invites" = "INSERT INTO invites (hash, user_id, origin, basis, at_us) VALUES (?, ?, ?, ?, ?) IF NOT EXISTS USING TTL ?";
    CountUse: Conditional of "invites" = "UPDATE invites USING TTL ? SET uses = ? WHERE hash = ? IF uses = ? AND removed = false";
    RemoveInvite: Conditional of "invites" = "UPDATE invites USING TTL ? SET removed = true WHERE hash = ? IF removed = false";
    EraseInvite: Plain of "invites" = "DELETE FROM invites WHERE hash = ?";
    Invite: Plain of "invites" = "SELECT chat, inviter, created_us, expires_us, uses_max, uses, removed FROM invites WHERE hash = ? LIMIT 1";
    InviteSerial: Serial of "invites" = "SELECT chat, inviter, created_us, expires_us, uses_max, uses, removed FROM invites WHERE hash = ? LIMIT 1";
    Use: Plain of "invites" = "SELECT origin, basis, at_us, removed FROM invites WHERE hash = ? AND user_id = ?";
    UseSerial: Serial of "invites" = "SELECT origin, basis, at_us, removed FROM invites WHERE hash = ? AND user_id = ?";
    AddPlace: Conditional of "invites_by_chat" = "INSERT INTO invites_by_chat (chat, hash) VALUES (?, ?) IF NOT EXISTS USING TTL ?";
    RaisePlaces: Conditional of "invites_by_chat" = "UPDATE invites_by_chat SET generation = ? WHERE chat = ? IF generation = ?";
    RemovePlace: Conditional of "invites_by_chat" = "DELETE FROM invites_by_chat WHERE chat = ? AND hash = ? IF EXISTS";
    Places: Serial of "invites_by_chat" = "SELECT generation, hash FROM invites_by_chat WHERE chat = ?";
    PutMade: Plain of "invites_by_maker" = "INSERT INTO invites_by_maker (user_id, hash) VALUES (?, ?) USING TTL ?";
    RemoveMade: Plain of "invites_by_maker" = "DELETE FROM invites_by_maker WHERE user_id = ? AND hash = ?";
    Made: Plain of "invites_by_maker" = "SELECT hash FROM invites_by_maker WHERE user_id = ?";
    MadeAfter: Plain of "invites_by_maker" = "SELECT hash FROM invites_by_maker WHERE user_id = ? AND hash > ?";
}

/// The text with the keyspace before its table: a name that does not hang on what a session uses.
pub(super) fn qualified(text: &str, table: &str, keyspace: &str) -> String {
    text.replacen(&format!(" {table}"), &format!(" {keyspace}.{table}"), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_statement_names_its_table_once_and_with_its_keyspace() {
        for (_, table, text) in STATEMENTS {
            let qualified = format!("{} ", qualified(text, table, "ks"));
            let places = ["FROM", "INTO", "UPDATE"].map(|before| format!("{before} ks.{table} "));
            assert_eq!(places.iter().filter(|place| qualified.contains(&***place)).count(), 1, "{qualified}");
            assert_eq!(qualified.matches("ks.").count(), 1, "{qualified}");
        }
    }

    #[test]
    fn a_conditional_text_is_of_a_conditional_kind_and_no_other() {
        for (kind, _, text) in STATEMENTS {
            assert_eq!(text.contains(" IF "), *kind == Kind::Conditional, "{text}");
            // Of a conditional write the cluster sets the timestamp.
            assert!(*kind != Kind::Conditional || !text.contains("TIMESTAMP"), "{text}");
            assert!(!text.starts_with("SELECT *"), "{text}");
        }
    }

    #[test]
    fn what_the_log_can_replay_has_a_timestamp_of_its_own() {
        let replayed = [
            "chat_log",
            "chat_members",
            "chat_snapshots",
            "partitions",
            "chats_by_user",
            "chat_summaries",
            "chat_names",
            "chat_facts",
            "reactions",
            "watermarks",
            "checkpoints",
        ];
        for (_, table, text) in STATEMENTS {
            let is_write = !text.starts_with("SELECT");
            if is_write && replayed.contains(table) {
                assert!(text.contains("USING TIMESTAMP ?"), "{text}");
            }
        }
    }
}
