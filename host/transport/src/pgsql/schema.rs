//! The tables: the original's, made as the original makes it, and ours beside it, made by numbered
//! steps that are safe when many hosts start at once.

use super::additions;
use super::address::Address;
use super::failure::Trouble;
use super::locks::{self, ENSURE};
use super::session::Session;
use crate::{Kind, TransportError};

/// Our steps: name and statements; an entry is never changed once released, only added to.
const STEPS: [(&str, &str); 5] = [
    ("owners, claims, attributes and dead letters", include_str!("steps/1.sql")),
    ("schedules", include_str!("steps/2.sql")),
    ("indexes without ties", include_str!("steps/3.sql")),
    ("claims compressed quickly", include_str!("steps/4.sql")),
    ("claims know whose keys they have", include_str!("steps/5.sql")),
];

/// Sees that all tables are there; reads only when they are.
pub(super) fn prepare(
    session: &mut Session,
    address: &Address,
    needs_ours: bool,
) -> Result<(), Trouble> {
    /// Whether the original's table is there; whether its schema is ours to see.
    const THERE: &str = "SELECT to_regclass('asynctask.asynctask_queue') IS NOT NULL";
    let there: bool = session.one(THERE, &[])?.get(0);
    if there && session.has_tables && version(session)? == STEPS.len() {
        return Ok(());
    }
    let made = session.transaction(|session| {
        session.lock(address, ENSURE)?;
        original(session)?;
        ours(session)
    });
    match made {
        Ok(()) => (session.has_tables, session.sees_attributed) = (true, true),
        // Whoever only submits needs the original's table alone.
        Err(trouble) if there && !needs_ours && !trouble.ends_session() => {
            session.roll_back()?;
            tracing::debug!("PostgreSQL: our tables cannot be made here: {trouble:?}");
        }
        Err(trouble) => return Err(trouble),
    }
    Ok(())
}

/// The original's own. Who owns the schema may lack the right to make one.
const CREATE: &str = "
DO $schema$
BEGIN
    IF to_regnamespace('asynctask') IS NULL THEN
        CREATE SCHEMA asynctask;
    END IF;
END
$schema$;
CREATE TABLE IF NOT EXISTS asynctask.asynctask_queue (
    id bigserial PRIMARY KEY,
    queue_name text NOT NULL,
    payload json NOT NULL,
    date_submitted timestamp DEFAULT current_timestamp
);
CREATE INDEX IF NOT EXISTS idx_asynctask_queue_name
    ON asynctask.asynctask_queue (queue_name);";

/// Takes the schema over, which the original leaves alone once it has any comment: what waits in the
/// table of its first release is moved. The ids are new, the order is kept. Who is just putting tasks
/// in is waited for, as the statement after the lock sees what was committed before.
const TAKE_OVER: &str = "
DO $over$
BEGIN
    IF obj_description('asynctask'::regnamespace, 'pg_namespace') IS NULL THEN
        IF to_regclass('public.asynctask_queue') IS NOT NULL THEN
            LOCK TABLE public.asynctask_queue IN ACCESS EXCLUSIVE MODE;
            INSERT INTO asynctask.asynctask_queue (queue_name, payload, date_submitted)
            SELECT queue_name, payload, date_submitted
            FROM public.asynctask_queue
            ORDER BY id;
            DROP TABLE public.asynctask_queue;
        END IF;
        COMMENT ON SCHEMA asynctask IS 'version: 1';
    END IF;
END
$over$;";

const MIGRATIONS: &str = "
CREATE TABLE IF NOT EXISTS asynctask.rex_migrations (
    number integer PRIMARY KEY,
    name text NOT NULL,
    applied timestamptz NOT NULL DEFAULT clock_timestamp()
);";

/// Everything that a host makes in a database, as a script for an administrator: it may be run again,
/// and beside hosts.
pub fn script() -> String {
    let key = locks::queue_key(ENSURE);
    let alone = locks::our_key(additions::ADDITIONS);
    // Whoever waits must have no snapshot for long: the index waits for all that are older.
    let mut script = format!(
        "-- One at a time.\nDO $alone$\nBEGIN\n    WHILE NOT pg_try_advisory_lock({alone}) LOOP\n        \
         COMMIT;\n        PERFORM pg_sleep(0.1);\n        COMMIT;\n    END LOOP;\nEND\n$alone$;\n\n\
         BEGIN ISOLATION LEVEL READ COMMITTED;\nSELECT pg_advisory_xact_lock({}, {key});\n{}\n{}\n{}\n",
        super::address::MASTER_LOCK,
        CREATE.trim(),
        TAKE_OVER.trim(),
        MIGRATIONS.trim()
    );
    for (number, (name, statements)) in (1..).zip(&STEPS) {
        script.push_str(&format!(
            "\n-- {number}: {name}\nDO $step$\nBEGIN\n    IF EXISTS (SELECT FROM \
             asynctask.rex_migrations WHERE number = {number}) THEN\n        RETURN;\n    END IF;\n    \
             EXECUTE $statements$\n{statements}$statements$;\n    INSERT INTO \
             asynctask.rex_migrations (number, name) VALUES ({number}, '{name}');\nEND\n$step$;\n"
        ));
    }
    script.push_str("COMMIT;\n\n-- What a host adds to the original's table unless ");
    script.push_str("asynctask_schema_additions is false:\n");
    script.push_str(&additions::script());
    script.push_str(&format!("\nSELECT pg_advisory_unlock({alone});\n"));
    script
}

fn original(session: &mut Session) -> Result<(), Trouble> {
    /// Whether the schema is there, its comment, whether an old table waits to be moved.
    const LOOK: &str = "
SELECT oid IS NOT NULL, obj_description(oid, 'pg_namespace'),
    to_regclass('public.asynctask_queue') IS NOT NULL
FROM (SELECT to_regnamespace('asynctask')::oid AS oid) AS schema";
    let look = session.one(LOOK, &[])?;
    let (there, comment): (bool, Option<String>) = (look.get(0), look.get(1));
    // The original leaves a schema with any comment alone.
    if there && comment.is_some() {
        return Ok(());
    }
    session.run(CREATE)?;
    if look.get(2) {
        tracing::info!("Moving the tasks of public.asynctask_queue to asynctask.asynctask_queue");
    }
    session.run(TAKE_OVER)
}

fn ours(session: &mut Session) -> Result<(), Trouble> {
    /// `$1` number, `$2` name.
    const APPLIED: &str = "INSERT INTO asynctask.rex_migrations (number, name) VALUES ($1, $2)";
    session.run(MIGRATIONS)?;
    // Under the lock: another host may have been faster.
    let version = version(session)?;
    for (number, (name, statements)) in (1i32..).zip(&STEPS).skip(version) {
        session.run(statements)?;
        session.change(APPLIED, &[&number, name])?;
    }
    Ok(())
}

/// How many of our steps the database has.
fn version(session: &mut Session) -> Result<usize, Trouble> {
    const VERSION: &str = "SELECT coalesce(max(number), 0) FROM asynctask.rex_migrations";
    let version: i32 = session.one(VERSION, &[])?.get(0);
    let version = usize::try_from(version).unwrap_or_default();
    if version > STEPS.len() {
        let text = format!(
            "The tables in schema asynctask are of a later release: their version is {version}, \
             this program knows up to {}",
            STEPS.len()
        );
        return Err(TransportError::new(Kind::Config, text).into());
    }
    Ok(version)
}
