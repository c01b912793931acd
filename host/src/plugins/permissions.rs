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
mod tests;
