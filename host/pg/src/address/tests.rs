//! Addresses as they are written, read and shown.

use super::{Address, BadAddress};
use crate::tls::Protection;

#[track_caller]
fn check(text: &str, expect: &str) {
    assert_eq!(Address::parse(text).unwrap().to_string(), expect);
}

#[test]
fn addresses() {
    check("postgresql://u:p%40ss@db.example:5433/x", "postgresql://u@db.example:5433/x");
    check("postgresql:///x?host=/run/pg&user=me", "postgresql://me@/x?host=/run/pg");
    check("pgsql:x?host=/run/pg&user=me&port=1", "postgresql://me@/x?host=/run/pg&port=1");
    check("host=localhost dbname='a b' user=me password='it\\'s'", "postgresql://me@localhost/a b");
    check("pgsql://me@localhost/x", "postgresql://me@localhost/x");
    check("pgsql://me@[::1]:7/x", "postgresql://me@[::1]:7/x");
    check("postgresql://me@a:1,b/x?keepalives=0", "postgresql://me@a:1,b/x");
    check("host=a,b port=3 user=me dbname=x", "postgresql://me@a:3,b:3/x");
}

#[test]
fn passwords_stay_hidden() {
    let address = Address::parse("postgresql://u:secret@h/x?sslmode=require").unwrap();
    assert_eq!(address.password.as_deref(), Some("secret"));
    assert!(!format!("{address} {address:?}").contains("secret"));
    let error = Address::parse("postgresql://u:secret@h:port/x").unwrap_err();
    assert!(!format!("{error:?} {error}").contains("secret"));
    assert!(Address::parse("mysql://u:secret@h/x").unwrap_err().to_string().contains("`mysql`"));
}

#[test]
fn options() {
    let mode = |text: &str| Address::parse(text).unwrap().protection;
    assert_eq!(mode("postgresql://h/x?sslmode=verify-full"), Protection::VerifyFull);
    assert_eq!(mode("postgresql://h/x?ssl=true"), Protection::Require);
    let bad = |text: &str| Address::parse(text).unwrap_err();
    assert_eq!(bad("pgsql:d?sslmode=maybe"), BadAddress::SslMode("maybe".to_owned()));
    assert_eq!(bad("pgsql:d?colour=red"), BadAddress::Unknown("colour".to_owned()));
    assert_eq!(bad("pgsql:d?service=x"), BadAddress::Unknown("service".to_owned()));
    assert_eq!(bad("pgsql:d?connect_timeout=x"), BadAddress::Timeout);
    assert_eq!(bad("pgsql:d?keepalives_idle=x"), BadAddress::Value("keepalives_idle".to_owned()));
    assert_eq!(bad("pgsql:d?x"), BadAddress::NoValue("x".to_owned()));
    assert_eq!(bad("host='h"), BadAddress::Unfinished("host".to_owned()));
    assert_eq!(bad("pgsql://h/%zz"), BadAddress::Escape);
    assert_eq!(bad("host=a,b port=1,2,3"), BadAddress::Count);
}
