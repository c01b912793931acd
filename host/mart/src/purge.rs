//! Marts that go: purged on purpose, beyond a quota, or because whoever made them is gone.

use rex_htsql::Value;
use rex_yaml::Error;

use crate::cluster::{self, Cluster};
use crate::definition::{BaseKind, Definitions};
use crate::failure::guarded;
use crate::inventory::{Inventory, Mart};
use crate::settings::Settings;

/// Removes a mart: its database, unless that was there before the mart or others refer to it, and
/// its record.
///
/// # Errors
/// The server refuses.
pub fn purge(settings: &Settings, definitions: &Definitions, mart: &Mart) -> Result<(), Error> {
    let mut inventory = Inventory::open(&settings.database)?;
    let mut cluster = Cluster::open(&settings.hosting)?;
    let is_existing = is_existing(settings, definitions, mart);
    if !is_existing {
        cluster.exists(&mart.name).map_err(|error| forgettable(error, mart.code))?;
    }
    remove(&mut inventory, &mut cluster, mart, is_existing)
}

/// An error of the server of a mart, with what helps if that server is gone for good.
fn forgettable(error: Error, code: i64) -> Error {
    error.guard(
        "If that server is gone for good, the Mart is forgotten by this in the application's database:",
        format!("DELETE FROM rexmart_inventory WHERE code = {code};"),
    )
}

/// Whether the database was there before the mart. Of marts that the original made this is not
/// noted: then the definition says so.
fn is_existing(settings: &Settings, definitions: &Definitions, mart: &Mart) -> bool {
    let by_definition = || {
        let is_target = definitions.get(&mart.definition).is_some_and(|definition| {
            definition.base.kind == BaseKind::Existing
                && definition.base.target.as_ref() == Some(&mart.name)
        });
        is_target || mart.name == settings.database.database()
    };
    mart.existing.unwrap_or_else(by_definition)
}

/// As [`purge`], over connections that are there.
pub(crate) fn remove(
    inventory: &mut Inventory,
    cluster: &mut Cluster,
    mart: &Mart,
    is_existing: bool,
) -> Result<(), Error> {
    if !is_existing && cluster.exists(&mart.name)? && release(cluster, &mart.name)? <= 0 {
        cluster.drop(&mart.name)?;
    }
    inventory.remove(mart.code)
}

/// Takes back one reference to a database; how many remain. One where none were ever counted is
/// the only one.
fn release(cluster: &Cluster, name: &str) -> Result<i64, Error> {
    let mut session = cluster::session(&cluster.address(name))?;
    let query = "SELECT pg_catalog.to_regclass('rc.rc') IS NOT NULL";
    let is_counted = guarded(session.sql_rows(query))?;
    if !matches!(is_counted.first().and_then(|row| row.first()), Some(Value::Boolean(true))) {
        return Ok(0);
    }
    let rows = guarded(session.sql_rows("UPDATE rc.rc SET value = value - 1 RETURNING value"))?;
    Ok(match rows.first().and_then(|row| row.first()) {
        Some(Value::Integer(left)) => *left,
        _ => 0,
    })
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
    let Swept { is_all, kept } = sweep(&mut inventory, &mut Cluster::open(&settings.hosting)?)?;
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
pub(crate) fn sweep(inventory: &mut Inventory, cluster: &mut Cluster) -> Result<Swept, Error> {
    let (mut is_all, mut kept) = (true, None);
    for mart in inventory.building()? {
        let Some(claim) = &mart.claim else { continue };
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
        if let Err(error) = settle(inventory, cluster, mart.code) {
            cluster.unclaim(claim)?;
            is_all = false;
            kept = kept.or(Some(error.guard("While removing what is left of Mart:", &mart.name)));
        }
    }
    Ok(Swept { is_all, kept })
}

/// Cleans up after those who died while they gave a mart the name that is claimed for this one.
pub(crate) fn succeed(
    inventory: &mut Inventory,
    cluster: &mut Cluster,
    code: i64,
    name: &str,
) -> Result<(), Error> {
    let heirs = |mart: &Mart| mart.code != code && mart.final_name.as_deref() == Some(name);
    for mart in inventory.building()?.into_iter().filter(heirs) {
        if let Some(claim) = &mart.claim {
            cluster.claim(claim)?;
            settle(inventory, cluster, mart.code)?;
        }
    }
    Ok(())
}

/// Finishes or removes a mart that nobody makes any more and nobody else claims.
fn settle(inventory: &mut Inventory, cluster: &mut Cluster, code: i64) -> Result<(), Error> {
    // Whoever made it may have finished meanwhile: what was noted is told before the lock goes.
    let Some(mart) = inventory.get(code)? else { return Ok(()) };
    let Some(claim) = &mart.claim else { return Ok(()) };
    if mart.is_complete() {
        return inventory.release(code);
    }
    let existing = mart.existing == Some(true);
    match &mart.final_name {
        // The database has its name for good, but the inventory does not say so yet.
        Some(name) if !existing && !cluster.exists(claim)? && cluster.exists(name)? => {
            replace(inventory, cluster, code, claim, name)?;
            let size = cluster.size(name)?;
            inventory.finish(code, size, true)
        }
        _ => remove(inventory, cluster, &mart, existing),
    }
}

/// The mart has taken the name for good: what had it before goes. Where that cannot be dropped it stays
/// under another name in the inventory, to be purged as any mart; why is told.
pub(crate) fn replace(
    inventory: &mut Inventory,
    cluster: &mut Cluster,
    code: i64,
    claim: &str,
    name: &str,
) -> Result<Option<Error>, Error> {
    let aside = aside(claim);
    let kept = cluster.drop(&aside).err();
    for previous in inventory.named(name)?.iter().filter(|previous| previous.code != code) {
        match &kept {
            None => inventory.remove(previous.code)?,
            Some(_) => inventory.set_name(previous.code, &aside)?,
        }
    }
    inventory.set_name(code, name)?;
    Ok(kept.map(|error| error.guard("While purging Mart:", aside)))
}
