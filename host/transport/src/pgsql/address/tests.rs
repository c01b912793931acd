//! Addresses of queues in PostgreSQL.

use super::Address;
use crate::Uri;

#[test]
fn options_and_label() {
    let address = |text: &str| Address::resolve(&Uri::parse(text).unwrap());
    let all = address("pgsql://u:p@h:1/d?master_lock_id=-5&sslmode=require").ok().unwrap();
    assert_eq!(all.server.to_string(), "postgresql://u@h:1/d");
    assert_eq!(all.master_lock, -5);
    assert_eq!(all.label, "PostgresAsyncTransport(h/d)");
    let several = address("pgsql://u@a:1,b:2/d?master_lock_id=7").ok().unwrap();
    assert_eq!(several.server.to_string(), "postgresql://u@a:1,b:2/d");
    assert_eq!(
        (several.master_lock, several.label.as_str()),
        (7, "PostgresAsyncTransport(a:1,b:2/d)")
    );
    let local = address("pgsql:asynctask_demo").ok().unwrap();
    assert_eq!(local.label, "PostgresAsyncTransport(localhost/asynctask_demo)");
    assert_eq!(local.master_lock, 1_234_567_890);
    for bad in ["pgsql:d?sslmode=maybe", "pgsql:d?master_lock_id=x", "pgsql:d?colour=red"] {
        assert!(address(bad).is_err(), "{bad}");
    }
}
