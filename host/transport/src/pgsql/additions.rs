//! What we add to the original's table where we may: an index in the order of claims, and a trigger
//! that tells listeners. Announced in the log; without the rights everything works, only slower.

use postgres::error::SqlState;

use super::failure::Trouble;
use super::locks::our_key;
use super::session::Session;

/// Makes what is missing; leaves it to another host that is at it.
pub(super) fn make(session: &mut Session) -> Result<(), Trouble> {
    /// Whether the index is there, and whether it is whole: one row or none.
    const INDEX: &str = "
SELECT indisvalid
FROM pg_index
WHERE indexrelid = to_regclass('asynctask.rex_queue_order')";
    /// `$1` key: whether nobody else is at it.
    const LOCK: &str = "SELECT pg_try_advisory_lock($1)";
    /// `$1` key.
    const UNLOCK: &str = "SELECT pg_advisory_unlock($1)";
    let whole = session.rows(INDEX, &[])?.first().map(|row| row.get::<_, bool>(0));
    if whole == Some(true) && session.has_trigger {
        return Ok(());
    }
    let key = our_key(ADDITIONS);
    if !session.one(LOCK, &[&key])?.get::<_, bool>(0) {
        return Ok(());
    }
    // Seen again under the lock.
    let whole = session.rows(INDEX, &[])?.first().map(|row| row.get::<_, bool>(0));
    let index = if whole == Some(true) { Ok(()) } else { make_index(session, whole.is_some()) };
    go_on(session, index, "the index rex_queue_order", "claims may slow down behind other queues")?;
    if !session.has_trigger {
        let trigger = make_trigger(session);
        session.has_trigger = trigger.is_ok();
        go_on(session, trigger, "the trigger rex_notify", "old producers' tasks wait for a poll")?;
    }
    session.one(UNLOCK, &[&key])?;
    Ok(())
}

fn make_index(session: &mut Session, remains: bool) -> Result<(), Trouble> {
    const DROP: &str = "DROP INDEX IF EXISTS asynctask.rex_queue_order";
    if remains {
        session.run(DROP)?;
    }
    tracing::info!(
        "Adding the index rex_queue_order (queue_name, id) to asynctask.asynctask_queue"
    );
    let made = session.run(CREATE);
    if made.as_ref().is_err_and(|trouble| !trouble.ends_session()) {
        // A half-made index costs every producer and helps nobody.
        session.run(DROP)?;
    }
    made
}

fn make_trigger(session: &mut Session) -> Result<(), Trouble> {
    tracing::info!("Adding the trigger rex_notify to asynctask.asynctask_queue");
    session.transaction(|session| session.run(FUNCTION))
}

/// Our name of the lock under which the additions are made.
pub(super) const ADDITIONS: &str = "additions";

/// Concurrently: producers and consumers go on meanwhile. Not in a transaction.
const CREATE: &str =
    "CREATE INDEX CONCURRENTLY rex_queue_order ON asynctask.asynctask_queue (queue_name, id)";

/// One notification a queue and statement. Names too long for a notification are no queue
/// names anyway, and an error here would hit the producer.
const FUNCTION: &str = "
CREATE OR REPLACE FUNCTION asynctask.rex_notify() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    PERFORM pg_catalog.pg_notify('rex_asynctask', queue_name)
    FROM (SELECT DISTINCT queue_name FROM rex_new WHERE length(queue_name) < 1000) AS queues;
    RETURN NULL;
END
$body$;
DROP TRIGGER IF EXISTS rex_notify ON asynctask.asynctask_queue;
CREATE TRIGGER rex_notify
    AFTER INSERT ON asynctask.asynctask_queue
    REFERENCING NEW TABLE AS rex_new
    FOR EACH STATEMENT EXECUTE FUNCTION asynctask.rex_notify();";

/// Both additions, for an administrator. An index that was cut off while it was made is in the way of
/// the next one, and of no use.
pub(super) fn script() -> String {
    const REPAIR: &str = "
DO $repair$
BEGIN
    IF EXISTS (
        SELECT FROM pg_index
        WHERE indexrelid = to_regclass('asynctask.rex_queue_order') AND NOT indisvalid
    ) THEN
        DROP INDEX asynctask.rex_queue_order;
    END IF;
END
$repair$;";
    let create = CREATE.replace("CONCURRENTLY", "CONCURRENTLY IF NOT EXISTS");
    format!("{}\n{create};\n{}\n", REPAIR.trim(), FUNCTION.trim())
}

/// Goes on without an addition that may not or cannot be made now.
fn go_on(
    session: &mut Session,
    made: Result<(), Trouble>,
    what: &str,
    without: &str,
) -> Result<(), Trouble> {
    let Err(trouble) = made else { return Ok(()) };
    if trouble.ends_session() {
        return Err(trouble);
    }
    session.roll_back()?;
    let reason = match &trouble {
        trouble if trouble.has_code(&SqlState::INSUFFICIENT_PRIVILEGE) => "no rights".to_owned(),
        trouble if trouble.has_code(&SqlState::LOCK_NOT_AVAILABLE) => {
            "another session keeps the table locked".to_owned()
        }
        Trouble::Database(error) => {
            error.as_db_error().map_or_else(|| error.to_string(), |e| e.message().to_owned())
        }
        Trouble::Said(error) => error.to_string(),
    };
    tracing::info!("Going on without {what} ({reason}): {without}");
    Ok(())
}
