//! `handles`: (first byte) ▸ handle. The key here is the handle alone, since its first byte changes no order.

use domain::UserId;

use super::super::{
    batch::Batch,
    codec::{Fields, text_of, value},
    read::View,
    tables::Table,
};
use crate::Error;

const TABLE: Table = Table::Handles;

fn encode(user: UserId) -> Vec<u8> {
    let mut value = value(16);
    value.extend_from_slice(user.as_bytes());
    value
}

fn decode(bytes: &[u8]) -> Result<UserId, Error> {
    let mut fields = Fields::of(TABLE.name(), bytes)?;
    let user = UserId::new(fields.array()?);
    fields.end(user)
}

impl Batch<'_> {
    pub(super) fn claim_handle(&mut self, handle: &str, user: UserId) -> Result<UserId, Error> {
        if let Some(stored) = self.newest(TABLE, handle.as_bytes())? {
            return decode(&stored);
        }
        self.stage(TABLE, handle.as_bytes(), encode(user));
        self.sync = true;
        Ok(user)
    }

    pub(super) fn release_handle(&mut self, handle: &str, user: UserId) -> Result<bool, Error> {
        let stored = self.newest(TABLE, handle.as_bytes())?.map(|value| decode(&value)).transpose()?;
        if stored != Some(user) {
            return Ok(false);
        }
        self.remove(TABLE, handle.as_bytes());
        self.sync = true;
        Ok(true)
    }
}

impl View<'_> {
    pub(super) fn user_of_handle(&self, handle: &str) -> Result<Option<UserId>, Error> {
        self.get(TABLE, handle.as_bytes())?.map(|value| decode(&value)).transpose()
    }

    pub(super) fn handles(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(Box<str>, UserId)>, Error> {
        self.page(TABLE, prefix.as_bytes(), after.map(str::as_bytes))
            .take(limit)
            .map(|row| {
                let (key, value) = row?;
                Ok((text_of(TABLE.name(), &key)?, decode(&value)?))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_these() {
        let bytes = encode(UserId::new([7; 16]));
        assert_eq!(bytes, [&[1][..], &[7; 16]].concat());
        assert_eq!(decode(&bytes).unwrap(), UserId::new([7; 16]));
        assert!(decode(&bytes[..16]).is_err());
        assert!(decode(&[&bytes[..], &[0]].concat()).is_err());
    }
}
