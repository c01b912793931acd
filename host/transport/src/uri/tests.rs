//! Addresses, their parts and what is shown of them.

use super::{Parts, Uri};

#[track_caller]
fn server(text: &str) -> Parts {
    Uri::parse(text).unwrap().server().unwrap()
}

#[test]
fn the_originals_forms() {
    let some = |text: &str| Some(text.to_owned());
    assert!(server("pgsql:db") == Parts { database: some("db"), ..Parts::default() });
    assert!(server("pgsql://db") == Parts { database: some("db"), ..Parts::default() });
    assert!(server("pgsql:///db") == Parts { database: some("db"), ..Parts::default() });
    assert!(
        server("pgsql://host/db")
            == Parts { host: some("host"), database: some("db"), ..Parts::default() }
    );
    assert!(
        server("pgsql://u%40x:p%3Aw@host:5433/d%20b?master_lock_id=9")
            == Parts {
                user: some("u@x"),
                password: some("p:w"),
                host: some("host"),
                port: Some(5433),
                database: some("d b"),
                query: vec![("master_lock_id".to_owned(), "9".to_owned())],
            }
    );
    assert!(
        server("pgsql://[::1]:5433/db")
            == Parts {
                host: some("::1"),
                port: Some(5433),
                database: some("db"),
                ..Parts::default()
            }
    );
    assert!(
        server("pgsql://%2Frun%2Fpg/db")
            == Parts { host: some("/run/pg"), database: some("db"), ..Parts::default() }
    );
}

#[test]
fn passwords_are_masked() {
    let masked = |text: &str| Uri::parse(text).unwrap().to_string();
    assert_eq!(masked("pgsql://u:secret@host:1/db"), "pgsql://u:***@host:1/db");
    assert_eq!(masked("pgsql:u:secret@host:1/db"), "pgsql:***@host:1/db");
    assert_eq!(masked("u:secret@host"), "u:***@host");
    assert_eq!(masked("sqlite:/a:b@c"), "sqlite:/a:b@c");
    assert_eq!(masked("pgsql://u:se/c@r?et@host/db?a=1"), "pgsql://u:***@host/db?a=1");
    assert_eq!(masked("redis://:secret@host"), "redis://:***@host");
    assert_eq!(masked("pgsql:db?password=secret&a=1"), "pgsql:db?password=***&a=1");
    assert_eq!(masked("pgsql://host:1/db"), "pgsql://host:1/db");
    assert_eq!(masked("sqlite:/a@b:c"), "sqlite:/a@b:c");
    let uri = Uri::parse("pgsql://u:secret@host/db").unwrap();
    assert_eq!(format!("{uri:?}"), "\"pgsql://u:***@host/db\"");
}

#[test]
fn what_is_no_address() {
    for text in ["", "nothing", "/tmp/x:y", "UPPER:x", "://u:secret@h"] {
        let error = Uri::parse(text).unwrap_err().to_string();
        assert!(error.ends_with("does not resolve to a known AsyncTransport"), "{error}");
        assert!(!error.contains("secret"));
    }
    let bad = |text: &str| Uri::parse(text).unwrap().server().map(|_| ()).unwrap_err();
    assert!(bad("pgsql://h:x/db").to_string().contains("port"));
    for text in ["redis://h:99999", "redis://u:secret@h:0?db=1", "redis://h:80#x"] {
        let error = Uri::parse(text).unwrap().network().map(|_| ()).unwrap_err().to_string();
        let shown = text.replace("secret", "***");
        let told = "the port is not a number from 1 to 65535";
        assert_eq!(error, format!("Bad transport address \"{shown}\": {told}"));
    }
    assert!(bad("pgsql:d%zz").to_string().contains("hex"));
    assert!(bad("pgsql:d%ff").to_string().contains("UTF-8"));
}

#[test]
fn paths() {
    let path = |text: &str| Uri::parse(text).unwrap().path().unwrap().0;
    assert_eq!(path("sqlite:/srv/q.db"), "/srv/q.db");
    assert_eq!(path("sqlite:q%20x.db"), "q x.db");
    assert_eq!(path("sqlite:///srv/q.db"), "/srv/q.db");
    assert!(Uri::parse("sqlite:").unwrap().path().is_err());
    for path in ["/srv/100%25?/ü b#1/queue.db", "relative.db"] {
        assert_eq!(Uri::of_file(std::path::Path::new(path)).path().unwrap().0, path);
    }
}
