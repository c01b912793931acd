//! Which database is a mart's: the server's and the database's own numbers are noted when it is made,
//! since a name may come to be another's, on the same server or on another one. Of what the original
//! made nothing is noted, and where nothing is, the name has to do.

use rex_deploy::sql;
use rex_yaml::Error;

use crate::cluster::Cluster;
use crate::inventory::{Inventory, Mart};

/// Whether the mart was made on another server than this one.
pub(crate) fn is_elsewhere(cluster: &mut Cluster, mart: &Mart) -> Result<bool, Error> {
    let Some(noted) = &mart.server else { return Ok(false) };
    Ok(cluster.identifier()?.is_some_and(|here| here != *noted))
}

/// Refuses a mart of another server: there is no telling what has its name here.
pub(crate) fn refuse_elsewhere(cluster: &mut Cluster, mart: &Mart) -> Result<(), Error> {
    let (Some(noted), Some(here)) = (&mart.server, cluster.identifier()?) else { return Ok(()) };
    if here == *noted {
        return Ok(());
    }
    let error =
        Error::new("The Mart was made on another database server than Marts are made on now")
            .guard("What helps:", "mart_hosting_cluster as it was then")
            .guard(GONE, forgetting(mart.code));
    Err(known_again(error, noted, &here))
}

/// An error about marts of a server, with what helps if that is the one that is here.
fn known_again(error: Error, noted: &str, here: &str) -> Error {
    error.guard(
        "If it is the same server, upgraded or restored, its Marts are known again by this in \
         the application's database:",
        format!(
            "UPDATE rexmart_building SET server = {}, database_oid = NULL WHERE server = {};",
            sql::text(here),
            sql::text(noted)
        ),
    )
}

pub(crate) const GONE: &str =
    "If that server is gone for good, the Mart is forgotten by this in the application's database:";

/// What forgets a mart.
pub(crate) fn forgetting(code: i64) -> String {
    format!("DELETE FROM rexmart_inventory WHERE code = {code};")
}

/// Whether the mart's own database, if it is on this server, has this name.
pub(crate) fn is_own(cluster: &mut Cluster, mart: &Mart, name: &str) -> Result<bool, Error> {
    let Some(oid) = cluster.oid(name)? else { return Ok(false) };
    Ok(mart.database_oid.is_none_or(|noted| noted == oid))
}

/// Whether the mart's database, called so, is there.
///
/// # Errors
/// That is another one, or the mart is on another server.
pub(crate) fn is_there(cluster: &mut Cluster, mart: &Mart, name: &str) -> Result<bool, Error> {
    refuse_elsewhere(cluster, mart)?;
    let Some(oid) = cluster.oid(name)? else { return Ok(false) };
    if mart.database_oid.is_none_or(|noted| noted == oid) {
        return Ok(true);
    }
    let known = format!(
        "UPDATE rexmart_building SET database_oid = {oid} WHERE rexmart_inventory__id = {};",
        mart.id
    );
    Err(Error::with("The database of this name is not the one that was made for the Mart:", name)
        .guard(
            "If the Mart's own is gone, the Mart is forgotten by this in the application's database:",
            forgetting(mart.code),
        )
        .guard(
            "If it is the Mart's own, restored, it is known again by this in the application's \
             database:",
            known,
        ))
}

/// Those of the marts that are on this server, as far as is known.
pub(crate) fn on(cluster: &mut Cluster, marts: Vec<Mart>) -> Result<Vec<Mart>, Error> {
    let here = cluster.identifier()?;
    let is_here = |mart: &Mart| here.is_none() || mart.server.is_none() || mart.server == here;
    Ok(marts.into_iter().filter(is_here).collect())
}

/// As [`on`], of all marts of a name.
///
/// # Errors
/// A database has the name here that was not made for them.
pub(crate) fn of_name(
    cluster: &mut Cluster,
    marts: Vec<Mart>,
    name: &str,
) -> Result<Vec<Mart>, Error> {
    let here = on(cluster, marts.clone())?;
    if cluster.exists(name)? {
        if here.is_empty() {
            return Err(taken(cluster, &marts, name)?);
        }
        for mart in &here {
            is_there(cluster, mart, name)?;
        }
    }
    Ok(here)
}

/// Refuses a name that a database has here which is no mart's, while nobody gives it to one.
pub(crate) fn refuse_taken(
    cluster: &mut Cluster,
    inventory: &mut Inventory,
    name: &str,
) -> Result<(), Error> {
    // In this order: who renames a mart's database has noted before that he would, and notes that he
    // has before he forgets it.
    if !cluster.exists(name)? {
        return Ok(());
    }
    let mut building = inventory.building()?.into_iter();
    if building.any(|mart| mart.final_name.as_deref() == Some(name)) {
        return Ok(());
    }
    let marts = inventory.named(name)?;
    match on(cluster, marts.clone())?.is_empty() {
        true => Err(taken(cluster, &marts, name)?),
        false => Ok(()),
    }
}

/// What says that the name is that of a database which is none of these marts': they are on another
/// server, or there are none.
fn taken(cluster: &mut Cluster, marts: &[Mart], name: &str) -> Result<Error, Error> {
    let error = Error::new(format!(
        "Cannot set name of Mart to \"{name}\" because a database of that name is there that \
         is not known to be a Mart's"
    ));
    let noted = marts.iter().find_map(|mart| mart.server.as_deref());
    Ok(match (noted, cluster.identifier()?) {
        (Some(noted), Some(here)) => known_again(error, noted, &here),
        _ => error,
    })
}
