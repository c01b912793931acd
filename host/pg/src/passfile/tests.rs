//! Which line of a file of passwords counts, and which files are not used.

use std::os::unix::fs::PermissionsExt;

use super::{password, read};

#[test]
fn lines() {
    let lines = "# comment\nh:5432:db:u:one\n*:*:other:u:t\\:w\\\\o\nlocalhost:1:*:*:three:x\n";
    let find = |host, port, db, user| password(lines, [host, port, db, user]);
    assert_eq!(find("h", "5432", "db", "u").as_deref(), Some("one"));
    assert_eq!(find("h", "1", "other", "u").as_deref(), Some("t:w\\o"));
    assert_eq!(find("localhost", "1", "db", "x").as_deref(), Some("three:x"));
    assert_eq!(find("h", "5432", "db", "nobody"), None);
}

#[test]
fn a_file_that_others_may_read_is_not_used() {
    let file = std::env::temp_dir().join(format!("rex-passfile-{}", std::process::id()));
    assert_eq!(read(&file).as_deref(), Ok(""));
    std::fs::write(&file, "*:*:*:*:secret\n").unwrap();
    for (mode, is_used) in [(0o600, true), (0o640, false), (0o604, false)] {
        std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
        assert_eq!(read(&file).is_ok(), is_used, "{mode:o}");
    }
    let trouble = read(&file).unwrap_err();
    assert!(trouble.contains("group or world access") && !trouble.contains("secret"));
    std::fs::remove_file(&file).unwrap();
}
