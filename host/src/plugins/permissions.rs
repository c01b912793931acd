//! Whose files the host will load: code that is loaded runs with the host's rights.
//!
//! A plugin, the copies of plugins in the state directory, and every directory above them, must belong to root, to the host's user or to the owner
//! of the rex-host binary, and nobody else may be able to write to it. Write permission for a group
//! passes when the group is the owner's private one (the usual `umask 002`); for a directory also
//! when it is sticky, as `/tmp` is. Directories that lead to the rex-host binary itself are not
//! judged: who can write to those can replace rex-host, and gains nothing by a plugin.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::reason::Reason;
use crate::shell::quote;

const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;
const STICKY: u32 = 0o1000;

/// Whom this host trusts.
#[derive(Debug, Clone)]
pub struct Trust {
    owners: Vec<u32>,
    /// The host's user: what `chown` is advised to make the owner.
    user: u32,
    /// Directories that lead to the rex-host binary.
    own: Vec<PathBuf>,
    accounts: Accounts,
}

impl Trust {
    /// The trust of a host whose binary is `exe`.
    pub fn of_host(exe: &Path) -> Trust {
        let user = rustix::process::geteuid().as_raw();
        let mut owners = vec![0, user];
        let exe = fs::canonicalize(exe).unwrap_or_else(|_| exe.to_owned());
        if let Ok(meta) = fs::metadata(&exe) {
            owners.push(meta.uid());
        }
        owners.sort_unstable();
        owners.dedup();
        let own = exe.ancestors().skip(1).map(Path::to_owned).collect();
        Trust { owners, user, own, accounts: Accounts::read() }
    }

    /// Judges an open plugin file.
    ///
    /// # Errors
    /// What is wrong, and the command that mends it.
    pub fn check_file(&self, path: &Path, meta: &Metadata) -> Result<(), Reason> {
        self.judge(Facts::of(meta)).map_err(|fault| self.explain(path, "", fault))
    }

    /// Judges a directory and all above it. `dir` must be absolute.
    ///
    /// # Errors
    /// As for [`check_file`](Self::check_file); the text names the directory at fault.
    pub fn check_parents(&self, dir: &Path) -> Result<(), Reason> {
        for dir in dir.ancestors() {
            if self.own.iter().any(|own| own == dir) {
                // And so are all above it.
                return Ok(());
            }
            let meta = fs::metadata(dir)
                .map_err(|e| Reason::new(format_args!("{}: {e}", dir.display())))?;
            let name = format!("directory {} ", dir.display());
            self.judge(Facts::of(&meta)).map_err(|fault| self.explain(dir, &name, fault))?;
        }
        Ok(())
    }

    fn judge(&self, facts: Facts) -> Result<(), Fault> {
        if !self.owners.contains(&facts.uid) {
            return Err(Fault::Owner(facts.uid));
        }
        if facts.is_dir && facts.mode & STICKY != 0 {
            return Ok(());
        }
        if facts.mode & OTHERS_WRITE != 0 {
            return Err(Fault::OthersWrite(facts.mode));
        }
        if facts.mode & GROUP_WRITES != 0 && !self.accounts.is_private(facts.uid, facts.gid) {
            return Err(Fault::GroupWrites(facts.gid));
        }
        Ok(())
    }

    fn explain(&self, path: &Path, what: &str, fault: Fault) -> Reason {
        let path = quote(path);
        match fault {
            Fault::Owner(uid) => Reason::new(format_args!(
                "{what}belongs to {}, whom the host does not trust (it trusts {})",
                self.accounts.user(uid),
                self.owners.iter().map(|o| self.accounts.user(*o)).collect::<Vec<_>>().join(", ")
            ))
            .hint(format_args!("chown {} {path}", self.accounts.user_name(self.user))),
            Fault::OthersWrite(mode) if mode & GROUP_WRITES != 0 => {
                Reason::new(format_args!("{what}can be written to by everybody"))
                    .hint(format_args!("chmod go-w {path}"))
            }
            Fault::OthersWrite(_) => {
                Reason::new(format_args!("{what}can be written to by everybody"))
                    .hint(format_args!("chmod o-w {path}"))
            }
            Fault::GroupWrites(gid) => Reason::new(format_args!(
                "{what}can be written to by the group {}",
                self.accounts.group(gid)
            ))
            .hint(format_args!("chmod g-w {path}")),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Facts {
    uid: u32,
    gid: u32,
    mode: u32,
    is_dir: bool,
}

impl Facts {
    fn of(meta: &Metadata) -> Facts {
        Facts { uid: meta.uid(), gid: meta.gid(), mode: meta.mode(), is_dir: meta.is_dir() }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Fault {
    Owner(u32),
    OthersWrite(u32),
    GroupWrites(u32),
}

/// The local users and groups. Others (a directory service's) are known by number only.
#[derive(Debug, Clone, Default)]
struct Accounts {
    users: Vec<User>,
    groups: Vec<Group>,
}

#[derive(Debug, Clone)]
struct User {
    name: String,
    uid: u32,
    gid: u32,
}

#[derive(Debug, Clone)]
struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

impl Accounts {
    fn read() -> Accounts {
        // Without them only groups of the user's own number pass as private.
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let group = fs::read_to_string("/etc/group").unwrap_or_default();
        Accounts::parse(&passwd, &group)
    }

    fn parse(passwd: &str, group: &str) -> Accounts {
        let users = passwd.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?.to_owned();
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            Some(User { name, uid, gid })
        });
        let groups = group.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?.to_owned();
            let gid = fields.nth(1)?.parse().ok()?;
            let members = fields.next().unwrap_or_default();
            let members = members.split(',').filter(|m| !m.is_empty()).map(str::to_owned).collect();
            Some(Group { name, gid, members })
        });
        Accounts { users: users.collect(), groups: groups.collect() }
    }

    /// Whether nobody but `uid` is in the group `gid`.
    fn is_private(&self, uid: u32, gid: u32) -> bool {
        let names: Vec<&str> =
            self.users.iter().filter(|u| u.uid == uid).map(|u| u.name.as_str()).collect();
        let is_own = if names.is_empty() {
            uid == gid
        } else {
            self.users.iter().any(|u| u.uid == uid && u.gid == gid)
        };
        is_own
            && self.users.iter().all(|u| u.gid != gid || u.uid == uid)
            && self
                .groups
                .iter()
                .filter(|group| group.gid == gid)
                .all(|group| group.members.iter().all(|member| names.contains(&member.as_str())))
    }

    fn user_name(&self, uid: u32) -> String {
        self.users
            .iter()
            .find(|user| user.uid == uid)
            .map_or_else(|| uid.to_string(), |user| user.name.clone())
    }

    fn user(&self, uid: u32) -> String {
        match self.users.iter().find(|user| user.uid == uid) {
            Some(user) => user.name.clone(),
            None => format!("user {uid}"),
        }
    }

    fn group(&self, gid: u32) -> String {
        match self.groups.iter().find(|group| group.gid == gid) {
            Some(group) => group.name.clone(),
            None => gid.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
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
}
