//! `chat_settings`: user ▸ chat.

use domain::{ChatId, UserId};

use super::super::{
    Cql,
    numbers::{big, chat as chat_of, number},
    statements::Statement,
};
use crate::{ChatSetting, Error, LIST_ROWS_MAX};

const TABLE: &str = "chat_settings";
type Row = (Vec<u8>, i64, i64, bool, bool);

fn setting(user: UserId, (chat, version, muted_until_us, pinned, archived): Row) -> Result<ChatSetting, Error> {
    Ok(ChatSetting {
        user,
        chat: chat_of(TABLE, &chat)?,
        muted_until_us: number(muted_until_us),
        pinned,
        archived,
        version: number(version),
    })
}

impl Cql {
    pub(crate) async fn put_chat_setting(&self, row: ChatSetting, expected: u64) -> Result<bool, Error> {
        let Some(version) = expected.checked_add(1) else { return Ok(false) };
        let (user, chat) = (*row.user.as_bytes(), *row.chat.as_bytes());
        let _turn = self.shared.turns.take(TABLE, &user).await;
        let values = (big(version), big(row.muted_until_us), row.pinned, row.archived, user, chat);
        if expected == 0 {
            return self.shared.cluster.write_if(Statement::AddSetting, values).await;
        }
        let (version, muted, pinned, archived, user, chat) = values;
        let values = (version, muted, pinned, archived, user, chat, big(expected));
        self.shared.cluster.write_if(Statement::ChangeSetting, values).await
    }

    pub(crate) async fn chat_setting(&self, user: UserId, chat: ChatId) -> Result<Option<ChatSetting>, Error> {
        let key = (*user.as_bytes(), *chat.as_bytes());
        let row = self.shared.cluster.row::<Row>(Statement::Setting, key).await?;
        row.map(|row| setting(user, row)).transpose()
    }

    pub(crate) async fn chat_settings_of(
        &self,
        user: UserId,
        after: Option<ChatId>,
        limit: usize,
    ) -> Result<Vec<ChatSetting>, Error> {
        let limit = limit.clamp(1, LIST_ROWS_MAX);
        let (cluster, id) = (&self.shared.cluster, *user.as_bytes());
        let rows: Vec<Row> = match after {
            Some(after) => cluster.rows(Statement::SettingsAfter, (id, *after.as_bytes()), limit).await?,
            None => cluster.rows(Statement::Settings, (id,), limit).await?,
        };
        rows.into_iter().map(|row| setting(user, row)).collect()
    }
}
