//! Schedules: the last occasion of each, so that of many hosts one fires the next.

use super::failure::Trouble;
use super::session::Session;
use super::tasks;
use super::types::Micros;
use crate::{NewTask, Timestamp};

pub(super) fn last(
    session: &mut Session,
    schedule: &str,
    since: Timestamp,
) -> Result<Timestamp, Trouble> {
    /// `$1` schedule: its last occasion.
    const LOOK: &str = "SELECT occasion FROM asynctask.rex_schedules WHERE schedule = $1";
    /// `$1` schedule, `$2` microseconds since 1970.
    const BEGIN: &str = "
INSERT INTO asynctask.rex_schedules (schedule, occasion)
VALUES ($1, timestamptz 'epoch' + $2 * interval '1 microsecond')
ON CONFLICT (schedule) DO NOTHING";
    if let Some(row) = session.rows(LOOK, &[&schedule])?.first() {
        return Ok(row.get::<_, Micros>(0).0);
    }
    session.change(BEGIN, &[&schedule, &(since.0 as f64)])?;
    // Another host may have been faster.
    Ok(session.one(LOOK, &[&schedule])?.get::<_, Micros>(0).0)
}

pub(super) fn record(
    session: &mut Session,
    schedule: &str,
    at: Timestamp,
    due: &[NewTask],
) -> Result<bool, Trouble> {
    /// `$1` schedule, `$2` microseconds since 1970. The row's lock makes others wait for the tasks.
    const RECORD: &str = "
INSERT INTO asynctask.rex_schedules AS schedules (schedule, occasion)
VALUES ($1, timestamptz 'epoch' + $2 * interval '1 microsecond')
ON CONFLICT (schedule) DO UPDATE SET occasion = excluded.occasion
WHERE schedules.occasion < excluded.occasion";
    session.transaction(|session| {
        if session.change(RECORD, &[&schedule, &(at.0 as f64)])? == 0 {
            return Ok(false);
        }
        tasks::put(session, due)?;
        Ok(true)
    })
}
