//! Schedules: the last occasion of each, so that of several hosts one fires the next.

use rusqlite::params;

use super::Sqlite;
use super::tasks::insert;
use crate::{NewTask, Timestamp, TransportError};

impl Sqlite {
    pub(super) fn last(
        &mut self,
        schedule: &str,
        since: Timestamp,
    ) -> Result<Timestamp, TransportError> {
        /// `?1` schedule, `?2` microseconds since 1970: the last occasion, which is `?2` for one
        /// that is new.
        const LAST: &str = "
INSERT INTO schedules (schedule, occasion) VALUES (?1, ?2)
ON CONFLICT (schedule) DO UPDATE SET occasion = occasion
RETURNING occasion";
        let say = self.say();
        let change = self.write()?;
        let last =
            change.query_row(LAST, params![schedule, since.0], |row| row.get(0)).map_err(&say)?;
        change.commit().map_err(&say)?;
        Ok(Timestamp(last))
    }

    pub(super) fn record_due(
        &mut self,
        schedule: &str,
        at: Timestamp,
        due: &[NewTask],
    ) -> Result<bool, TransportError> {
        /// `?1` schedule, `?2` microseconds since 1970.
        const RECORD: &str = "
INSERT INTO schedules AS known (schedule, occasion) VALUES (?1, ?2)
ON CONFLICT (schedule) DO UPDATE SET occasion = excluded.occasion
WHERE known.occasion < excluded.occasion";
        let say = self.say();
        let change = self.write()?;
        if change.execute(RECORD, params![schedule, at.0]).map_err(&say)? == 0 {
            return Ok(false);
        }
        insert(&change, due).map_err(&say)?;
        change.commit().map_err(&say)?;
        let queues: std::collections::BTreeSet<_> = due.iter().map(|task| &task.queue).collect();
        self.wake.touch(queues);
        Ok(true)
    }
}
