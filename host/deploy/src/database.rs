//! Databases that are made, and sessions on them for deployment.

use rex_db::Session;
use rex_htsql::Error;

use crate::sql;

/// Makes a database in UTF-8 over a session on another one of its server: a copy of `template`, or as the
/// server makes them. Where it makes them in another encoding, the template is the one that may be of any.
///
/// # Errors
/// The server's text.
pub fn create_database(
    session: &mut Session,
    name: &str,
    template: Option<&str>,
) -> Result<(), Error> {
    let foreign = "SELECT TRUE FROM pg_catalog.pg_database
        WHERE datname = 'template1' AND pg_catalog.pg_encoding_to_char(encoding) <> 'UTF8'";
    let template = match template {
        None if !session.sql_rows(foreign)?.is_empty() => Some("template0"),
        given => given,
    };
    let template =
        template.map_or(String::new(), |from| format!(" TEMPLATE = {}", sql::name(from)));
    let name = sql::name(name);
    session.sql_change(&format!("CREATE DATABASE {name} WITH ENCODING = 'UTF-8'{template};"))
}

/// Prepares a session for facts, before its transaction begins, whatever its database or role has set:
/// names are those of the schema `public`, and who has waited for another deployment sees what that did.
///
/// # Errors
/// The server's text.
pub fn prepare(session: &mut Session) -> Result<(), Error> {
    let set = "SELECT
        pg_catalog.set_config('search_path', pg_catalog.concat_ws(', ', 'public',
            nullif(pg_catalog.current_setting('search_path'), '')), FALSE),
        pg_catalog.set_config('default_transaction_isolation', 'read committed', FALSE)";
    session.sql_rows(set).map(|_| ())
}
