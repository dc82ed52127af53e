//! `tickets`: hash.

use std::time::Duration;

use domain::Micros;

use super::super::{
    Cql, TRIES_MAX, kept_for,
    numbers::{big, number, user as user_of},
    statements::Statement,
};
use crate::{Error, TicketRow};

const TABLE: &str = "tickets";
type Row = (Vec<u8>, Box<str>, Box<str>, i64, i64, i64);

/// A ticket is taken within moments of its making; whether it still counts says its end.
fn kept() -> i32 {
    kept_for(Duration::ZERO)
}

impl Cql {
    pub(crate) async fn put_ticket(&self, row: TicketRow) -> Result<(), Error> {
        row.check()?;
        let _turn = self.shared.turns.take(TABLE, &row.hash).await;
        // Conditional, although nothing hangs on who is first: the taking is, and must be ordered behind this.
        for _ in 0..TRIES_MAX {
            let (user, device, sign_in) = (*row.user.as_bytes(), &*row.device, &*row.sign_in);
            let times = (big(row.issued_s), big(row.token_expires_s), big(row.expires_us));
            let values = (user, device, sign_in, times.0, times.1, times.2, row.hash, kept());
            if self.shared.cluster.write_if(Statement::AddTicket, values).await? {
                return Ok(());
            }
            let values = (kept(), user, device, sign_in, times.0, times.1, times.2, row.hash);
            if self.shared.cluster.write_if(Statement::ChangeTicket, values).await? {
                return Ok(());
            }
        }
        Err(Error::Contended { table: TABLE })
    }

    pub(crate) async fn take_ticket(&self, hash: [u8; 32], now_us: Micros) -> Result<Option<TicketRow>, Error> {
        let cluster = &self.shared.cluster;
        // Anybody may ask, with noise: that costs a read and no more.
        let Some(row) = cluster.row::<Row>(Statement::Ticket, (hash,)).await? else { return Ok(None) };
        let _turn = self.shared.turns.take(TABLE, &hash).await;
        if !cluster.write_if(Statement::TakeTicket, (hash,)).await? {
            return Ok(None);
        }
        let (user, device, sign_in, issued_s, token_expires_s, expires_us) = row;
        let row = TicketRow {
            hash,
            user: user_of(TABLE, &user)?,
            device,
            sign_in,
            issued_s: number(issued_s),
            token_expires_s: number(token_expires_s),
            expires_us: number(expires_us),
        };
        Ok((now_us < row.expires_us).then_some(row))
    }
}
