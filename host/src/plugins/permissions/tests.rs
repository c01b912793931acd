//! Whose files and directories are trusted.

use std::path::Path;

use super::{Accounts, Facts, Fault, Trust};

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
                      ada:x:1000:1000::/srv/ada:/bin/sh\n\
                      bob:x:1001:100::/srv/bob:/bin/sh\n\
                      cyd:x:1002:1002::/srv/cyd:/bin/sh\n\
                      broken line\n";
const GROUP: &str = "root:x:0:\nusers:x:100:\nada:x:1000:ada\ncyd:x:1002:bob\nstaff:x:50:ada";

fn trust() -> Trust {
    Trust {
        owners: vec![0, 1000, 1001, 1002, 4000],
        user: 1000,
        own: vec![],
        accounts: Accounts::parse(PASSWD, GROUP),
    }
}

fn file(uid: u32, gid: u32, mode: u32) -> Result<(), Fault> {
    trust().judge(Facts { uid, gid, mode, is_dir: false })
}

fn dir(uid: u32, gid: u32, mode: u32) -> Result<(), Fault> {
    trust().judge(Facts { uid, gid, mode, is_dir: true })
}

#[test]
fn only_trusted_owners() {
    assert_eq!(file(0, 0, 0o755), Ok(()));
    assert_eq!(file(1000, 50, 0o755), Ok(()));
    assert_eq!(file(3000, 0, 0o555), Err(Fault::Owner(3000)));
    assert_eq!(dir(3000, 0, 0o1777), Err(Fault::Owner(3000)));
}

#[test]
fn nobody_else_may_write() {
    assert_eq!(file(0, 0, 0o646), Err(Fault::OthersWrite(0o646)));
    assert_eq!(file(0, 0, 0o1646), Err(Fault::OthersWrite(0o1646)));
    assert_eq!(dir(0, 0, 0o777), Err(Fault::OthersWrite(0o777)));
    assert_eq!(dir(0, 0, 0o1777), Ok(()));
    assert_eq!(dir(0, 50, 0o1775), Ok(()));
}

#[test]
fn a_group_may_write_when_only_the_owner_is_in_it() {
    assert_eq!(file(1000, 1000, 0o664), Ok(()));
    assert_eq!(file(0, 0, 0o664), Ok(()));
    assert_eq!(dir(1000, 1000, 0o775), Ok(()));
    // Not the owner's first group; another's too; another is a member; unknown.
    assert_eq!(file(1000, 50, 0o664), Err(Fault::GroupWrites(50)));
    assert_eq!(file(1000, 0, 0o664), Err(Fault::GroupWrites(0)));
    assert_eq!(file(1002, 1002, 0o664), Err(Fault::GroupWrites(1002)));
    assert_eq!(dir(1000, 77, 0o775), Err(Fault::GroupWrites(77)));
    // A user without an account, as in containers.
    assert_eq!(file(4000, 4000, 0o664), Ok(()));
    assert_eq!(file(4000, 1000, 0o664), Err(Fault::GroupWrites(1000)));
}

#[test]
fn a_refusal_names_the_command_that_mends_it() {
    let path = Path::new("/a b/it's.so");
    let hint = |fault| trust().explain(path, "", fault).hint.unwrap();
    assert_eq!(hint(Fault::OthersWrite(0o666)), r"chmod go-w '/a b/it'\''s.so'");
    assert_eq!(hint(Fault::OthersWrite(0o646)), r"chmod o-w '/a b/it'\''s.so'");
    assert_eq!(hint(Fault::GroupWrites(50)), r"chmod g-w '/a b/it'\''s.so'");
    assert_eq!(hint(Fault::Owner(3000)), r"chown ada '/a b/it'\''s.so'");
    let reason = trust().explain(Path::new("/d"), "directory /d ", Fault::GroupWrites(50));
    assert_eq!(reason.text, "directory /d can be written to by the group staff");
}
