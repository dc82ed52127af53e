//! `users`, and `leaving_users`: hints which users may be leaving, each with the version of the row that says so.

use domain::UserId;

use super::super::{
    Cql,
    numbers::{big, code, number, user as user_of},
    statements::Statement,
};
use crate::{
    Error, LIST_ROWS_MAX, UserRow, UserState,
    codes::{state_code, state_of},
};

const TABLE: &str = "users";
type Row = (i64, i16, Box<str>, Box<str>, Box<str>, Box<str>, i64, i64);

impl Cql {
    pub(crate) async fn user(&self, user: UserId) -> Result<Option<UserRow>, Error> {
        let row = self.shared.cluster.row::<Row>(Statement::User, (*user.as_bytes(),)).await?;
        let Some((version, state, handle, display_name, avatar, password, created_us, signed_out_us)) = row else {
            return Ok(None);
        };
        Ok(Some(UserRow {
            user,
            handle,
            display_name,
            avatar,
            password,
            created_us: number(created_us),
            state: state_of(TABLE, code(TABLE, state)?)?,
            signed_out_us: number(signed_out_us),
            version: number(version),
        }))
    }

    pub(crate) async fn put_user(&self, row: UserRow, expected: u64) -> Result<bool, Error> {
        row.check()?;
        let Some(version) = expected.checked_add(1) else { return Ok(false) };
        let (cluster, id) = (&self.shared.cluster, *row.user.as_bytes());
        let _turn = self.shared.turns.take(TABLE, &id).await;
        if row.state == UserState::Leaving {
            // Before the row: a crash between leaves a hint too many, never one too few.
            cluster.write(Statement::PutLeaving, (id, big(version))).await?;
        }
        let state = i16::from(state_code(row.state));
        let texts = (&*row.handle, &*row.display_name, &*row.avatar, &*row.password);
        let times = (big(row.created_us), big(row.signed_out_us));
        if expected == 0 {
            let values = (big(version), state, texts.0, texts.1, texts.2, texts.3, times.0, times.1, id);
            return cluster.write_if(Statement::AddUser, values).await;
        }
        let values = (big(version), state, texts.0, texts.1, texts.2, texts.3, times.0, times.1, id, big(expected));
        cluster.write_if(Statement::ChangeUser, values).await
    }

    pub(crate) async fn leaving_users(&self, limit: usize) -> Result<Vec<UserId>, Error> {
        let limit = limit.clamp(1, LIST_ROWS_MAX);
        let cluster = &self.shared.cluster;
        let mut users = Vec::new();
        let mut at = scylla::response::PagingState::start();
        loop {
            let (hints, next) = cluster.page::<(Vec<u8>, i64)>(Statement::Leaving, &(), at).await?;
            for (id, version) in hints {
                let user = user_of("leaving_users", &id)?;
                let row = self.user(user).await?;
                let (stored, is_leaving) = row.map_or((0, false), |row| (row.version, row.state == UserState::Leaving));
                if is_leaving && stored == number(version) {
                    users.push(user);
                    if users.len() == limit {
                        return Ok(users);
                    }
                } else if stored >= number(version) {
                    // What it stands for is past. One of a higher version may be just about to be written.
                    cluster.write(Statement::RemoveLeaving, (id, version)).await?;
                }
            }
            match next {
                Some(next) => at = next,
                None => return Ok(users),
            }
        }
    }
}
