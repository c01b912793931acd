//! The commands `describe` and `pivot`, which work on the product of another query.

use std::collections::HashMap;

use rex_htsql::Error;
use rex_htsql::domain::Domain;
use rex_htsql::literal::plain_text;
use rex_htsql::name::to_name;
use rex_htsql::plan::Plan;
use rex_htsql::profile::Profile;
use rex_htsql::value::Value;

use crate::encode::profile_json;
use crate::exec::writes;
use crate::product::Feed;

/// The profile of a plan, as a JSON value.
pub(crate) fn describe<'a>(plan: &Plan) -> Result<Feed<'a>, Error> {
    let profile = plan.profile().filter(|_| !writes(plan));
    let profile = profile.ok_or_else(|| Error::new("unsupported action"))?;
    Ok(Feed::ready(Profile::bare(Domain::Json), Value::Json(profile_json(&profile).to_string())))
}

/// Turns the values of the column `on` into columns, filled from the column `by`; rows are grouped
/// by the other columns, in the order in which they come. Positions count from 0, negative ones
/// from the end.
pub(crate) async fn pivot<'a>(feed: Feed<'a>, on: i64, by: i64) -> Result<Feed<'a>, Error> {
    let fields: Vec<Profile> = match (&feed.profile.domain, feed.profile.fields()) {
        (Domain::List(_), Some(fields)) => fields.to_vec(),
        (domain, _) => {
            let message = format!("Expected a list of records; got {domain}");
            return Err(Error::new(message));
        }
    };
    let place = |position: i64, name: &str| {
        let count = i64::try_from(fields.len()).unwrap_or(i64::MAX);
        let at = if position < 0 { position + count } else { position };
        let out_of_range = || Error::new(format!("'{name}' is out of range"));
        usize::try_from(at).ok().filter(|at| *at < fields.len()).ok_or_else(out_of_range)
    };
    let (on, by) = (place(on, "on")?, place(by, "by")?);
    if on == by {
        return Err(Error::new("'on' and 'by' should not coincide"));
    }
    let (Some(on_field), Some(by_field)) = (fields.get(on), fields.get(by)) else {
        return Err(Error::new("'on' is out of range"));
    };
    if !on_field.domain.is_scalar() {
        return Err(Error::quoting("Cannot pivot on type", on_field.domain.to_string()));
    }
    if !by_field.domain.is_scalar() {
        return Err(Error::quoting("Cannot use pivot with", by_field.domain.to_string()));
    }
    let (on_domain, by_domain) = (on_field.domain.clone(), by_field.domain.clone());
    let (mut profile, data) = feed.collect().await?;
    let table = Table::fill(data, on, by, &on_domain)?;

    let mut kept: Vec<Profile> = fields
        .into_iter()
        .enumerate()
        .filter(|(at, _)| *at != on && *at != by)
        .map(|(_, field)| field)
        .collect();
    kept.extend(table.columns.iter().map(|header| Profile {
        tag: Some(to_name(header)),
        header: Some(header.clone()),
        domain: by_domain.clone(),
    }));
    profile.domain = Domain::List(Box::new(Domain::Record(kept.into())));
    let n_columns = table.columns.len();
    let rows = table.rows.into_iter().map(|(mut key, mut cells)| {
        cells.resize(n_columns, None);
        key.extend(cells.into_iter().map(|cell| cell.unwrap_or(Value::Null)));
        Value::Record(key)
    });
    Ok(Feed::ready(profile, Value::List(rows.collect())))
}

/// A pivoted table: headers of the new columns, and for each key the cells under them.
#[derive(Default)]
struct Table {
    columns: Vec<String>,
    rows: Vec<(Vec<Value>, Vec<Option<Value>>)>,
}

impl Table {
    fn fill(data: Value, on: usize, by: usize, domain: &Domain) -> Result<Table, Error> {
        let mut table = Table::default();
        let mut positions: HashMap<String, usize> = HashMap::new();
        let mut keys: HashMap<String, usize> = HashMap::new();
        let Value::List(items) = data else { return Ok(table) };
        for item in items {
            let Value::Record(values) = item else { continue };
            let (mut key, mut header, mut cell) = (Vec::new(), String::new(), Value::Null);
            for (at, value) in values.into_iter().enumerate() {
                match at {
                    _ if at == on => header = plain_text(domain, &value).unwrap_or_default(),
                    _ if at == by => cell = value,
                    _ => key.push(value),
                }
            }
            let column = *positions.entry(header.clone()).or_insert_with(|| {
                table.columns.push(header);
                table.columns.len() - 1
            });
            let row = *keys.entry(format!("{key:?}")).or_insert_with(|| {
                table.rows.push((key.clone(), Vec::new()));
                table.rows.len() - 1
            });
            let Some((_, cells)) = table.rows.get_mut(row) else { continue };
            if cells.len() <= column {
                cells.resize(column + 1, None);
            }
            match cells.get_mut(column) {
                Some(place @ None) => *place = Some(cell),
                _ => return Err(Error::new("Got duplicate row")),
            }
        }
        Ok(table)
    }
}
