//! How many marts an owner may keep: of one definition, and in all.

use rex_yaml::Error;

use crate::cluster::Cluster;
use crate::definition::Definition;
use crate::inventory::{Inventory, Mart};
use crate::purge::{self, Known};
use crate::settings::Settings;

/// Refuses a mart for which no other could make room: pinned ones are never purged.
pub(crate) fn check(
    inventory: &mut Inventory,
    settings: &Settings,
    definition: &Definition,
    owner: &str,
) -> Result<(), Error> {
    let marts = inventory.complete_of(owner)?;
    let pinned = || marts.iter().filter(|mart| mart.pinned);
    let of_definition = pinned().filter(|mart| mart.definition == definition.id).count();
    let reached = |count: usize, limit: i64| i64::try_from(count).is_ok_and(|n| n >= limit);
    if reached(of_definition, definition.per_owner)
        || reached(pinned().count(), settings.max_marts_per_owner)
    {
        let id = &definition.id;
        return Err(Error::new(format!(
            "Creating a \"{id}\" Mart for \"{owner}\" would exceed their quota"
        )));
    }
    Ok(())
}

/// Purges what is beyond the quotas, the oldest first; one that cannot be purged keeps no other.
pub(crate) fn reap(
    known: Known<'_>,
    inventory: &mut Inventory,
    cluster: &mut Cluster,
    definition: &Definition,
    owner: &str,
) -> Result<(), Error> {
    let is_of = |mart: &Mart| mart.definition == definition.id;
    let mut first = Ok(());
    for mart in beyond(inventory.complete_of(owner)?, definition.per_owner, is_of) {
        first = first.and(remove(known, inventory, cluster, &mart));
    }
    for mart in beyond(inventory.complete_of(owner)?, known.settings.max_marts_per_owner, |_| true)
    {
        first = first.and(remove(known, inventory, cluster, &mart));
    }
    first
}

/// Removes a mart that is still there and to go: another maker may have done so, somebody may have
/// pinned it.
fn remove(
    known: Known<'_>,
    inventory: &mut Inventory,
    cluster: &mut Cluster,
    mart: &Mart,
) -> Result<(), Error> {
    let removed = inventory.hold(mart.id, |inventory, now| match now {
        Some(now) if now.is_complete() && !now.pinned => {
            purge::remove(known, inventory, cluster, &now)
        }
        _ => Ok(()),
    });
    removed.map_err(|error| error.guard("While purging Mart:", &mart.name))
}

/// Those of the chosen marts that have to go for no more than `limit` to remain.
fn beyond(marts: Vec<Mart>, limit: i64, is_chosen: impl Fn(&Mart) -> bool) -> Vec<Mart> {
    let chosen: Vec<Mart> = marts.into_iter().filter(is_chosen).collect();
    let limit = usize::try_from(limit).unwrap_or(0);
    let excess = chosen.len().saturating_sub(limit);
    chosen.into_iter().filter(|mart| !mart.pinned).take(excess).collect()
}
