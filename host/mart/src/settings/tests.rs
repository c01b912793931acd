//! Settings as marts read them.

use super::*;

fn of(hosting: Option<&str>, database: Option<&str>) -> Result<Settings, String> {
    let hosting = hosting.map(|uri| ("mart_hosting_cluster".to_owned(), uri.into()));
    Settings::of(&hosting.into_iter().collect(), database).map_err(|error| error.to_string())
}

#[test]
fn where_marts_are_made() {
    let same = of(None, Some("pgsql://me@there/app")).unwrap();
    assert_eq!(same.hosting, same.database);
    let other = of(Some("pgsql://me@marts:5433/any"), Some("pgsql://me@there/app")).unwrap();
    assert_eq!(other.hosting.with_database("x").to_string(), "postgresql://me@marts:5433/x");
    assert_eq!(other.database.database(), "app");
    let only = "Only PostgreSQL systems can host Marts";
    assert_eq!(of(None, Some("sqlite:app.db")).unwrap_err(), only);
    assert_eq!(
        of(Some("mysql://there/marts"), Some("pgsql:app")).unwrap_err(),
        format!("{only}\nWhile validating setting:\n    mart_hosting_cluster")
    );
    assert_eq!(of(None, None).unwrap_err(), "Missing mandatory setting:\n    db");
}
