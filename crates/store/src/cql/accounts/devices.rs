//! `devices`: user ▸ device, with the generation that bounds them.

use domain::{Micros, UserId};

use super::super::{
    Cql, TRIES_MAX,
    cluster::Values,
    numbers::{big, number},
    statements::Statement,
};
use crate::{DEVICES_MAX, DeviceRow, Error, accounts};

const TABLE: &str = "devices";
/// Generation, device, seen.
type Counted = (Option<i64>, Option<Box<str>>, Option<i64>);

impl Cql {
    pub(crate) async fn see_device(&self, user: UserId, device: &str, now_us: Micros) -> Result<(), Error> {
        accounts::check_device(device)?;
        let (cluster, id) = (&self.shared.cluster, *user.as_bytes());
        let _turn = self.shared.turns.take(TABLE, &id).await;
        for _ in 0..TRIES_MAX {
            // Generation and devices as of one moment: a row of static columns alone has no device.
            let rows: Vec<Counted> = cluster.rows(Statement::DeviceNames, (id,), usize::MAX).await?;
            let stored = rows.iter().find(|(_, name, _)| name.as_deref() == Some(device));
            let is_done = match stored {
                Some((_, _, seen_us)) if seen_us.is_some_and(|seen_us| number(seen_us) >= now_us) => return Ok(()),
                Some((_, _, seen_us)) => {
                    cluster.write_if(Statement::SeeDevice, (big(now_us), id, device, *seen_us)).await?
                }
                None => {
                    if rows.iter().filter(|(_, name, _)| name.is_some()).count() >= DEVICES_MAX {
                        return Err(Error::Full { what: "devices", max: DEVICES_MAX });
                    }
                    let generation = rows.first().and_then(|(generation, ..)| *generation);
                    let values = (id, device.to_owned(), device.to_owned(), big(now_us), big(now_us));
                    let raise = (generation.unwrap_or_default() + 1, id, generation);
                    let parts: Vec<(Statement, Values)> =
                        vec![(Statement::AddDevice, Box::new(values)), (Statement::RaiseDevices, Box::new(raise))];
                    cluster.write_together_if(parts).await?
                }
            };
            if is_done {
                return Ok(());
            }
        }
        Err(Error::Contended { table: TABLE })
    }

    pub(crate) async fn name_device(&self, user: UserId, device: &str, name: &str) -> Result<bool, Error> {
        accounts::check_device(device)?;
        accounts::check_device_name(name)?;
        let _turn = self.shared.turns.take(TABLE, user.as_bytes()).await;
        self.shared.cluster.write_if(Statement::NameDevice, (name, *user.as_bytes(), device)).await
    }

    pub(crate) async fn devices_of(&self, user: UserId) -> Result<Vec<DeviceRow>, Error> {
        type Row = (Option<Box<str>>, Option<Box<str>>, Option<i64>, Option<i64>);
        let rows = self.shared.cluster.rows::<Row>(Statement::Devices, (*user.as_bytes(),), usize::MAX).await?;
        let mut devices = Vec::with_capacity(rows.len());
        for (device, name, created_us, seen_us) in rows {
            // The generation alone.
            let Some(device) = device else { continue };
            let (Some(name), Some(created_us), Some(seen_us)) = (name, created_us, seen_us) else {
                return Err(Error::corrupt(TABLE, "a device lacks a column"));
            };
            devices.push(DeviceRow { user, device, name, created_us: number(created_us), seen_us: number(seen_us) });
        }
        Ok(devices)
    }

    pub(crate) async fn remove_device(&self, user: UserId, device: &str) -> Result<bool, Error> {
        accounts::check_device(device)?;
        let _turn = self.shared.turns.take(TABLE, user.as_bytes()).await;
        self.shared.cluster.write_if(Statement::RemoveDevice, (*user.as_bytes(), device)).await
    }
}
