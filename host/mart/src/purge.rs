//! Marts that go: purged on purpose, beyond a quota, or because whoever made them is gone.

use rex_db::Session;
use rex_deploy::sql;
use rex_htsql::Value;
use rex_yaml::Error;

use crate::cluster::{self, Cluster};
use crate::definition::{BaseKind, Definitions};
use crate::failure::guarded;
use crate::inventory::{Inventory, Mart};
use crate::place;
use crate::settings::Settings;

/// What tells whether a database was there before its mart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) definitions: &'a Definitions,
}

impl Known<'_> {
    /// Whether the database was there before the mart, and goes on without it. Of marts that the
    /// original made this is not noted: then the definition says so, and where that is gone or another
    /// by now, only a name that was made for this mart is that of a database of its own.
    pub(crate) fn is_existing(&self, mart: &Mart) -> bool {
        let settings = self.settings;
        if settings.hosting.with_database(&mart.name) == settings.database {
            return true;
        }
        mart.existing.unwrap_or_else(|| {
            let base = self.definitions.get(&mart.definition).map(|definition| &definition.base);
            let is_named = |name: Option<&String>| name == Some(&mart.name);
            if mart.name == settings.database.database() {
                return true;
            }
            match base {
                Some(base) if base.kind == BaseKind::Existing && is_named(base.target.as_ref()) => {
                    true
                }
                Some(base) if is_named(base.fixed_name.as_ref()) => false,
                _ => !is_generated(&mart.name, mart.code),
            }
        })
    }
}

/// Whether the name of a database ends as names do that are made for marts: in the code and a moment.
fn is_generated(name: &str, code: i64) -> bool {
    let is_moment = |text: &str| text.len() == 14 && text.bytes().all(|b| b.is_ascii_digit());
    let before = name.rsplit_once('_').filter(|(_, moment)| is_moment(moment));
    let token = before.and_then(|(before, _)| before.strip_suffix(&code.to_string()));
    token.is_some_and(|token| !token.ends_with(|c: char| c.is_ascii_digit()))
}

/// Removes a mart as it is by now: its database, unless that was there before the mart or others
/// refer to it, and its record. Whether it was there: not if it was purged or replaced meanwhile, even
/// if another one has its code or name.
///
/// # Errors
/// The server refuses.
pub fn purge(settings: &Settings, definitions: &Definitions, mart: &Mart) -> Result<bool, Error> {
    let mut inventory = Inventory::open(&settings.database)?;
    let mut cluster = Cluster::open(&settings.hosting)?;
    let known = Known { settings, definitions };
    inventory.hold(mart.id, |inventory, now| {
        let Some(now) = now else { return Ok(false) };
        if !known.is_existing(&now) {
            cluster.exists(&now.name).map_err(|error| forgettable(error, now.code))?;
        }
        remove(known, inventory, &mut cluster, &now).map(|()| true)
    })
}

/// An error of the server of a mart, with what helps if that server is gone for good.
fn forgettable(error: Error, code: i64) -> Error {
    error.guard(place::GONE, place::forgetting(code))
}

/// Removes a mart that is held.
pub(crate) fn remove(
    known: Known<'_>,
    inventory: &mut Inventory,
    cluster: &mut Cluster,
    mart: &Mart,
) -> Result<(), Error> {
    if !known.is_existing(mart) {
        place::refuse_elsewhere(cluster, mart)?;
        if let Some(claim) = &mart.claim {
            cluster.refuse_pooling()?;
            cluster.claim(&cluster::making(claim))?;
        }
        let aside = put_aside(inventory, cluster, mart)?;
        let name = match (renamed(cluster, mart)?, &aside) {
            (Some((claim, name)), _) => {
                replace(known, inventory, cluster, mart.id, claim, name)?;
                name
            }
            (None, Some(name)) => name,
            (None, None) => {
                // Without its own database, one of its final name would be taken for it.
                if mart.final_name.is_some() {
                    inventory.forget_final_name(mart.id)?;
                }
                &mart.name
            }
        };
        if place::is_there(cluster, mart, name)? {
            // Nobody refers to one that is not made yet, whatever it is a copy of.
            let is_free = mart.claim.is_some() || release(inventory, cluster, mart, name)? <= 0;
            if is_free {
                cluster.drop(name)?;
            }
        }
    }
    inventory.remove(mart.id)
}

/// The claim and the name of a mart whose database has its name for good, which the inventory may not
/// say yet: whoever made it is gone.
fn renamed<'a>(cluster: &mut Cluster, mart: &'a Mart) -> Result<Option<(&'a str, &'a str)>, Error> {
    let (Some(claim), Some(name)) = (&mart.claim, &mart.final_name) else { return Ok(None) };
    let is_renamed = !place::is_elsewhere(cluster, mart)?
        && !cluster.exists(claim)?
        && place::is_own(cluster, mart, name)?;
    Ok(is_renamed.then_some((claim, name)))
}

/// What the database of a mart is called whose name another one has taken, which the inventory does not
/// say yet: whoever made that one is gone.
fn put_aside(
    inventory: &mut Inventory,
    cluster: &mut Cluster,
    mart: &Mart,
) -> Result<Option<String>, Error> {
    let heirs = |heir: &Mart| heir.id != mart.id && heir.final_name.as_ref() == Some(&mart.name);
    for heir in inventory.building()?.into_iter().filter(heirs) {
        if let Some((claim, _)) = renamed(cluster, &heir)? {
            return Ok(Some(aside(claim)));
        }
    }
    Ok(None)
}

/// Takes back the mart's reference to its database, once, whoever died in doing so; how many remain.
/// One where none were ever counted is the only one, and so is that of a database that is half gone.
fn release(
    inventory: &Inventory,
    cluster: &mut Cluster,
    mart: &Mart,
    name: &str,
) -> Result<i64, Error> {
    if cluster.is_half_dropped(name)? {
        return Ok(0);
    }
    let mut session = cluster::session(&cluster.address(name))?;
    if !is_counted(&mut session)? {
        return Ok(0);
    }
    session.begin();
    let left = count_down(&mut session, inventory, cluster, mart);
    let ended = guarded(session.end(left.is_ok()));
    let left = left?;
    ended.map(|()| left)
}

/// Of a copy there is one reference, however many there are of what it was made from.
pub(crate) fn refer_once(cluster: &mut Cluster, name: &str) -> Result<(), Error> {
    let mut session = cluster::session(&cluster.address(name))?;
    if is_counted(&mut session)? {
        guarded(session.sql_change("UPDATE rc.rc SET value = 1 WHERE value <> 1"))?;
    }
    Ok(())
}

/// Refuses a database that others refer to, beside the mart whose it is.
pub(crate) fn refuse_shared(cluster: &mut Cluster, name: &str) -> Result<(), Error> {
    if !cluster.exists(name)? || cluster.is_half_dropped(name)? {
        return Ok(());
    }
    let mut session = cluster::session(&cluster.address(name))?;
    if !is_counted(&mut session)? {
        return Ok(());
    }
    let rows = guarded(session.sql_rows("SELECT value > 1 FROM rc.rc"))?;
    match rows.first().and_then(|row| row.first()) {
        Some(Value::Boolean(true)) => {
            Err(Error::new(format!("Others refer to the database \"{name}\"")))
        }
        _ => Ok(()),
    }
}

/// Whether references to this database are counted.
fn is_counted(session: &mut Session) -> Result<bool, Error> {
    let query = "SELECT pg_catalog.to_regclass('rc.rc') IS NOT NULL";
    let rows = guarded(session.sql_rows(query))?;
    Ok(matches!(rows.first().and_then(|row| row.first()), Some(Value::Boolean(true))))
}

/// Two databases have no transaction in common: which one counts down here is noted in the inventory
/// before it ends, and its server knows whether it did.
fn count_down(
    session: &mut Session,
    inventory: &Inventory,
    cluster: &mut Cluster,
    mart: &Mart,
) -> Result<i64, Error> {
    // Waits for whoever is at it.
    let rows = guarded(session.sql_rows("SELECT value FROM rc.rc FOR UPDATE"))?;
    let Some([Value::Integer(count)]) = rows.first().map(Vec::as_slice) else { return Ok(0) };
    if let Some(transaction) = &mart.released {
        let query = format!(
            "SELECT pg_catalog.pg_xact_status({}::pg_catalog.xid8) = 'committed'",
            sql::text(transaction)
        );
        let rows = guarded(session.sql_rows(&query))?;
        if matches!(rows.first().and_then(|row| row.first()), Some(Value::Boolean(true))) {
            return Ok(*count);
        }
    }
    guarded(session.sql_change("UPDATE rc.rc SET value = value - 1"))?;
    let rows = guarded(session.sql_rows("SELECT pg_catalog.pg_current_xact_id()::text"))?;
    let Some([Value::Text(transaction)]) = rows.first().map(Vec::as_slice) else {
        return Err(Error::new("Got no transaction from the database server"));
    };
    // Else a server that crashes now would give another transaction that number.
    cluster.flush()?;
    inventory.set_released(mart.id, transaction)?;
    Ok(count - 1)
}

/// What the database that a finished mart takes the place of is called until it is dropped.
pub(crate) fn aside(claim: &str) -> String {
    format!("{}_old", crate::name::cut(claim, crate::name::MAX_LENGTH - "_old".len()))
}

/// Removes what those have left who began to make a mart and are gone; whether nobody makes one any
/// more, so that there is nothing to look at again. So it is where marts have no tables.
///
/// # Errors
/// A server does not answer or refuses.
pub fn tidy(settings: &Settings) -> Result<bool, Error> {
    let mut inventory = Inventory::open(&settings.database)?;
    if !inventory.is_deployed()? {
        return Ok(true);
    }
    // Of what is being made it is noted whether the database was there before.
    let known = Known { settings, definitions: &Definitions::default() };
    let mut cluster = Cluster::open(&settings.hosting)?;
    let Swept { is_all, kept } = sweep(known, &mut inventory, &mut cluster)?;
    kept.map_or(Ok(is_all), Err)
}

/// What was found of marts that somebody began to make.
pub(crate) struct Swept {
    /// Whether nobody makes one any more.
    is_all: bool,
    /// Why the first that could not be removed was not: somebody uses it, say.
    pub(crate) kept: Option<Error>,
}

/// Cleans up after those who began to make a mart and are gone.
pub(crate) fn sweep(
    known: Known<'_>,
    inventory: &mut Inventory,
    cluster: &mut Cluster,
) -> Result<Swept, Error> {
    let (mut is_all, mut kept) = (true, None);
    for mart in inventory.building()? {
        let Some(claim) = &mart.claim else { continue };
        // Who makes it, or does so no more, is known where it is made.
        if place::is_elsewhere(cluster, &mart)? {
            continue;
        }
        if !cluster.is_abandoned(claim)? {
            is_all = false;
            continue;
        }
        // Whoever is about to give that name to another mart looks after this one.
        if let Some(name) = &mart.final_name
            && !cluster.is_abandoned(name)?
        {
            cluster.unclaim(claim)?;
            is_all = false;
            continue;
        }
        if let Err(error) = settle(known, inventory, cluster, mart.id) {
            cluster.unclaim(claim)?;
            is_all = false;
            kept = kept.or(Some(error.guard("While removing what is left of Mart:", &mart.name)));
        }
    }
    Ok(Swept { is_all, kept })
}

/// Cleans up after those who died while they gave a mart the name that is claimed for this one.
pub(crate) fn succeed(
    known: Known<'_>,
    inventory: &mut Inventory,
    cluster: &mut Cluster,
    id: i64,
    name: &str,
) -> Result<(), Error> {
    let heirs = |mart: &Mart| mart.id != id && mart.final_name.as_deref() == Some(name);
    for mart in inventory.building()?.into_iter().filter(heirs) {
        if let Some(claim) = &mart.claim
            && !place::is_elsewhere(cluster, &mart)?
        {
            cluster.claim(claim)?;
            settle(known, inventory, cluster, mart.id)?;
        }
    }
    Ok(())
}

/// Finishes or removes a mart that nobody makes any more and nobody else claims.
fn settle(
    known: Known<'_>,
    inventory: &mut Inventory,
    cluster: &mut Cluster,
    id: i64,
) -> Result<(), Error> {
    inventory.hold(id, |inventory, mart| {
        // Whoever made it may have finished meanwhile: what was noted is told before the lock goes.
        let Some(mart) = mart.filter(|mart| mart.claim.is_some()) else { return Ok(()) };
        if mart.is_complete() {
            return inventory.release(id);
        }
        match renamed(cluster, &mart)? {
            Some((claim, name)) if !known.is_existing(&mart) => {
                replace(known, inventory, cluster, id, claim, name)?;
                let size = cluster.size(name)?;
                inventory.finish(id, size, !mart.left_open).map(|_| ())
            }
            _ => remove(known, inventory, cluster, &mart),
        }
    })
}

/// The mart, which is held, has taken the name for good: what had it before goes. Where that cannot be
/// dropped, or was there before its mart, it stays under another name in the inventory, to be purged as
/// any mart; why is told.
pub(crate) fn replace(
    known: Known<'_>,
    inventory: &mut Inventory,
    cluster: &mut Cluster,
    id: i64,
    claim: &str,
    name: &str,
) -> Result<Option<Error>, Error> {
    let aside = aside(claim);
    let mut previous = place::on(cluster, inventory.hold_named(name)?)?;
    previous.retain(|previous| previous.id != id);
    // Whoever has come to refer to it meanwhile keeps it.
    let kept = refuse_existing(known, &previous, name, cluster.exists(&aside)?)
        .and_then(|()| refuse_shared(cluster, &aside))
        .and_then(|()| cluster.drop(&aside))
        .err();
    for previous in &previous {
        match &kept {
            None => inventory.remove(previous.id)?,
            // By the other name its definition does not know it.
            Some(_) => inventory.put_aside(previous.id, &aside, known.is_existing(previous))?,
        }
    }
    inventory.set_name(id, name)?;
    Ok(kept.map(|error| error.guard("While purging Mart:", aside)))
}

/// Refuses to take a name from marts whose database was there before them, if it still is.
pub(crate) fn refuse_existing(
    known: Known<'_>,
    marts: &[Mart],
    name: &str,
    is_there: bool,
) -> Result<(), Error> {
    match is_there && marts.iter().any(|mart| known.is_existing(mart)) {
        true => Err(Error::new(format!(
            "Cannot set name of Mart to \"{name}\" because the database of that name was there \
             before the Mart that uses it"
        ))),
        false => Ok(()),
    }
}
