//! The settings that marts depend on, as an application has them.

use rex_db::{Address, is_postgresql};
use rex_yaml::Error;
use serde_json::{Map, Value};

/// Where marts are managed and made, and their limits.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The application's own database, which has the inventory.
    pub database: Address,
    /// The server that marts are made on; which of its databases is named does not matter.
    pub hosting: Address,
    /// What the names of marts begin with.
    pub name_prefix: String,
    /// Columns that a table of assessments may have.
    pub max_columns: usize,
    /// Bytes that the name of a mart may have.
    pub max_name_length: usize,
    /// Marts that an owner may keep.
    pub max_marts_per_owner: i64,
    /// Marts of one definition that an owner may keep, where the definition does not say.
    pub default_max_marts_per_owner_definition: i64,
    /// Databases that scripts reach by a command of that name, beside `rexdb`.
    pub gateways: Vec<(String, Address)>,
    /// Whose titles a data dictionary shows first: kinds of presentations, then channels.
    pub presentation_priority: Vec<String>,
    pub channel_priority: Vec<String>,
}

impl Settings {
    /// Takes validated settings by name; `database` is the URI of `db`.
    ///
    /// # Errors
    /// There is no database, or its server is none that can have marts.
    pub fn of(values: &Map<String, Value>, database: Option<&str>) -> Result<Settings, Error> {
        let database = database.ok_or_else(|| Error::with("Missing mandatory setting:", "db"))?;
        let hosting = values.get("mart_hosting_cluster").and_then(Value::as_str);
        let count =
            |name: &str, default: i64| values.get(name).and_then(Value::as_i64).unwrap_or(default);
        let size = |name: &str, default: i64| usize::try_from(count(name, default)).unwrap_or(1);
        let texts = |name: &str| -> Vec<String> {
            let items = values.get(name).and_then(Value::as_array).into_iter().flatten();
            items.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let managing = hosting_server(database)?;
        Ok(Settings {
            hosting: match hosting {
                Some(uri) => hosting_server(uri).map_err(|error| {
                    error.guard("While validating setting:", "mart_hosting_cluster")
                })?,
                None => managing.clone(),
            },
            database: managing,
            name_prefix: values
                .get("mart_name_prefix")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
            max_columns: size("mart_max_columns", 1000),
            max_name_length: size("mart_max_name_length", 63),
            max_marts_per_owner: count("mart_max_marts_per_owner", 10),
            default_max_marts_per_owner_definition: count(
                "mart_default_max_marts_per_owner_definition",
                3,
            ),
            gateways: gateways(values.get("mart_etl_htsql_gateways"))?,
            presentation_priority: texts("mart_dictionary_presentation_priority"),
            channel_priority: texts("mart_dictionary_channel_priority"),
        })
    }
}

fn hosting_server(uri: &str) -> Result<Address, Error> {
    postgresql(uri, "Only PostgreSQL systems can host Marts")
}

/// `other`: what is said of other systems.
fn postgresql(uri: &str, other: &str) -> Result<Address, Error> {
    let scheme = uri.split(':').next().unwrap_or_default();
    if !is_postgresql(scheme) {
        return Err(Error::new(other));
    }
    Address::parse(uri).map_err(|error| Error::new(error.to_string()))
}

/// Gateways by name: a URI, or a mapping of which `htsql.db` is one.
fn gateways(value: Option<&Value>) -> Result<Vec<(String, Address)>, Error> {
    let named = value.and_then(Value::as_object).into_iter().flatten();
    let read = |(name, value): (&String, &Value)| {
        let uri = value.as_str().or_else(|| value.get("htsql")?.get("db")?.as_str());
        let uri = uri.ok_or_else(|| Error::new("Expected the URI of a database"));
        let gateway = |uri| postgresql(uri, "Only PostgreSQL systems can be gateways");
        let address = uri.and_then(gateway).map_err(|error| {
            error
                .guard("While validating mapping value for key:", name)
                .guard("While validating setting:", "mart_etl_htsql_gateways")
        })?;
        Ok((name.clone(), address))
    };
    named.map(read).collect()
}

#[cfg(test)]
mod tests;
