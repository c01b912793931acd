//! The stores that the chaos is tried on: how each is reached, and how it is broken.

use std::path::PathBuf;
use std::time::Duration;

use rex_test_support::amqp::RabbitMq;
use rex_test_support::redis::Redis;
use rex_test_support::server::Server;

use crate::hosts::RESCUE_GRACE;
use crate::seed::Seed;

/// How a promise is weaker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowed {
    /// A connection that is away for longer may cost the host its tasks.
    pub(crate) cut_off: Duration,
    /// A crash may leave both the outcome of a task, with what it asked to be submitted, and the task.
    pub(crate) doubles: bool,
    /// A crash of the server may give a task again although its outcome was recorded.
    pub(crate) repeats: bool,
    /// A host that is stopped may have a queue locked, whose outcomes wait for it.
    pub(crate) locks: bool,
}

/// What may be done to a store beside killing and stopping those who use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Blow {
    /// One connection of a host is ended by the server.
    EndConnection,
    /// All are.
    EndConnections,
    /// The server is stopped in good order, and started.
    Restart,
    /// The server stops as in a crash, and is started.
    Crash,
}

/// A store under test.
pub(crate) trait Ground {
    /// The value of `asynctask_transport`.
    fn uri(&self) -> String;

    /// What `strike` can do here.
    fn blows(&self) -> &'static [Blow];

    /// What it promises less than that a task runs twice only when its host was killed, stopped or
    /// cut off for long.
    fn allows(&self) -> Allowed {
        Allowed { cut_off: RESCUE_GRACE, doubles: false, repeats: false, locks: false }
    }

    /// Breaks something and mends it again; `noticed` returns once the hosts have noticed, and is
    /// called, now and then, between the two.
    fn strike(&mut self, blow: Blow, seed: &mut Seed, noticed: &mut dyn FnMut());
}

/// A server of its own.
pub(crate) struct Pgsql {
    server: Server,
    uri: String,
}

/// The database of the run.
const DATABASE: &str = "chaos";

impl Pgsql {
    /// `None`, which is said, where there is no PostgreSQL.
    pub(crate) fn start() -> Option<Pgsql> {
        let server = Server::start()?;
        let uri = server.create_database(DATABASE).expect("the server answers");
        Some(Pgsql { server, uri })
    }
}

impl Ground for Pgsql {
    fn uri(&self) -> String {
        self.uri.clone()
    }

    fn blows(&self) -> &'static [Blow] {
        &[Blow::EndConnection, Blow::EndConnections, Blow::Restart, Blow::Crash]
    }

    fn strike(&mut self, blow: Blow, seed: &mut Seed, noticed: &mut dyn FnMut()) {
        match blow {
            Blow::EndConnection | Blow::EndConnections => {
                let others = "SELECT pid FROM pg_stat_activity
                    WHERE datname = current_database() AND pid <> pg_backend_pid() ORDER BY pid";
                let mut admin = self.server.client(DATABASE);
                let rows = admin.query(others, &[]).expect("the server answers");
                let mut pids: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
                if blow == Blow::EndConnection && !pids.is_empty() {
                    pids = vec![pids[seed.below(pids.len())]];
                }
                let end = "SELECT pg_terminate_backend(pid) FROM unnest($1::int[]) AS ends (pid)";
                admin.execute(end, &[&pids]).expect("the server answers");
            }
            Blow::Restart | Blow::Crash => {
                self.server.stop(blow == Blow::Crash);
                if seed.rarely(2) {
                    noticed();
                }
                self.server.restart();
            }
        }
    }
}

/// One file for all hosts.
pub(crate) struct Sqlite(pub(crate) PathBuf);

impl Ground for Sqlite {
    fn uri(&self) -> String {
        format!("sqlite:{}", self.0.display())
    }

    fn blows(&self) -> &'static [Blow] {
        &[]
    }

    fn strike(&mut self, _blow: Blow, _seed: &mut Seed, _noticed: &mut dyn FnMut()) {}
}

impl Ground for Redis {
    fn uri(&self) -> String {
        self.uri()
    }

    fn blows(&self) -> &'static [Blow] {
        &[Blow::EndConnections, Blow::Crash]
    }

    fn strike(&mut self, blow: Blow, seed: &mut Seed, noticed: &mut dyn FnMut()) {
        if blow == Blow::EndConnections {
            self.command(&["client", "kill", "type", "normal"]);
            return;
        }
        self.crash();
        if seed.rarely(2) {
            noticed();
        }
        self.restart();
    }
}

impl Ground for RabbitMq {
    fn uri(&self) -> String {
        self.uri.clone()
    }

    fn blows(&self) -> &'static [Blow] {
        &[Blow::Crash]
    }

    fn allows(&self) -> Allowed {
        Allowed { cut_off: Duration::ZERO, doubles: true, repeats: true, locks: false }
    }

    fn strike(&mut self, _blow: Blow, seed: &mut Seed, noticed: &mut dyn FnMut()) {
        self.crash();
        if seed.rarely(2) {
            noticed();
        }
        self.restart();
    }
}

/// Files.
pub(crate) struct FileSys(pub(crate) PathBuf);

impl Ground for FileSys {
    fn uri(&self) -> String {
        format!("filesys:{}", self.0.display())
    }

    fn blows(&self) -> &'static [Blow] {
        &[]
    }

    fn allows(&self) -> Allowed {
        Allowed { cut_off: RESCUE_GRACE, doubles: true, repeats: false, locks: true }
    }

    fn strike(&mut self, _blow: Blow, _seed: &mut Seed, _noticed: &mut dyn FnMut()) {}
}
