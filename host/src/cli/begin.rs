//! What works the table of jobs, from the start of a host on or from a reload.

use rex_transport::Transport;

use super::failure::Failure;
use super::job::{address, failed};
use super::plan::Reader;
use crate::dispatch::plan::Plan;
use crate::dispatch::{Around, BeginJobs, Jobs, Purpose};
use crate::jobs::{Book, Desk, JobTransport, Means, Table};
use crate::settings::Settings;

impl Reader {
    /// Makes ready what works the table of jobs, as far as that may fail or take long. A check changes
    /// nothing, and makes nothing.
    pub(super) fn jobs(
        &self,
        plan: &Plan,
        settings: &Settings,
        purpose: Purpose,
    ) -> Result<Option<BeginJobs>, Failure> {
        let address = address(settings).map_err(Failure::configuration)?;
        let table = Table::new(address.clone(), settings.rescue_grace).for_runs();
        let host = table.host().unwrap_or_default();
        let mut own = Table::new(address.clone(), settings.rescue_grace);
        let ready = match purpose {
            Purpose::Force => own.prepare(),
            Purpose::Check => own.is_complete().map(|_| ()),
        };
        ready.and_then(|()| own.refuse_pooling()).map_err(|error| match error.away {
            true => failed(error),
            false => failed(error).configuration(),
        })?;
        if purpose == Purpose::Check {
            return Ok(None);
        }
        let book = Book::default();
        let means = Means {
            address,
            table: own,
            transport: self.place.open_for_many(settings)?,
            book: book.clone(),
            host,
            queues_at_once: self.only.is_none(),
        };
        let rules = plan.rules.clone();
        Ok(Some(Box::new(move || {
            let (desk, events) = Desk::start(means, rules)?;
            let jobs = Jobs { desk: desk.clone(), book: book.clone(), events };
            let around = move |transport| -> Box<dyn Transport> {
                // What is there already is queued before it is looked whether anything is.
                desk.flush();
                Box::new(JobTransport::new(transport, table, book, desk))
            };
            Ok((jobs, Box::new(around) as Around))
        })))
    }
}
