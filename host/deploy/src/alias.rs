//! Aliases: calculated fields of HTSQL, kept in the comment of their table.

use rex_yaml::Error;

use crate::comment::Comment;
use crate::deployer::Deployer;
use crate::fact::{AliasFact, alias_key};
use crate::table;

pub(crate) fn deploy(d: &mut Deployer<'_>, fact: &AliasFact) -> Result<(), Error> {
    let Some(table) = table::find(d, &fact.table)? else {
        return match fact.body {
            Some(_) => Err(Error::with("Discovered missing table:", &fact.table)),
            None => Ok(()),
        };
    };
    let key = (fact.label.clone(), fact.parameters.as_ref().map(Vec::len));
    let old = Comment::read(d.table(table)?.comment.as_deref());
    let mut aliases = old.aliases.clone();
    aliases.retain(|alias| alias_key(alias).as_ref() != Some(&key));
    if let Some(body) = &fact.body {
        let parameters = fact.parameters.as_ref().map(|names| {
            let names: Vec<String> = names.iter().map(|name| format!("${name}")).collect();
            format!("({})", names.join(","))
        });
        aliases.push(format!("{}{} := {body}", fact.label, parameters.unwrap_or_default()));
    }
    aliases.sort_by_cached_key(|alias| alias_key(alias));
    let new = Comment { aliases, ..old.clone() };
    if new != old {
        d.comment_table(table, new.write())?;
    }
    match &fact.body {
        Some(body) if d.is_locked() => {
            let (catalog, parameters) = (d.catalog()?, fact.parameters.as_deref());
            rex_htsql::check_field(&fact.table, parameters.unwrap_or_default(), body, &catalog)
                .map_err(|error| Error::with("Failed to compile HTSQL expression:", error))
        }
        _ => Ok(()),
    }
}
