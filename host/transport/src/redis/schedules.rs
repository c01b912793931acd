//! Schedules: the last occasion of each, so that of many hosts one fires the next.

use super::Redis;
use super::scripts::call;
use super::tasks::add_to;
use crate::{NewTask, Timestamp, TransportError};

impl Redis {
    pub(super) fn last(
        &mut self,
        schedule: &str,
        since: Timestamp,
    ) -> Result<Timestamp, TransportError> {
        self.with_connection(|redis, connection| {
            let mut last = call(&redis.scripts.last, &redis.address);
            Ok(Timestamp(last.arg(schedule).arg(since.0).invoke(connection)?))
        })
    }

    pub(super) fn record_due(
        &mut self,
        schedule: &str,
        at: Timestamp,
        due: &[NewTask],
    ) -> Result<bool, TransportError> {
        self.with_connection(|redis, connection| {
            let mut occasion = call(&redis.scripts.occasion, &redis.address);
            occasion.arg(schedule).arg(at.0);
            for task in due {
                add_to(&mut occasion, task);
            }
            let recorded: i64 = occasion.invoke(connection)?;
            Ok(recorded == 1)
        })
    }
}
