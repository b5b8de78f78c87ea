//! Turns an image's `User` string into numbers, by the `passwd` and `group` of the root file system.
//!
//! The rules are Docker's (moby `sys/user`, `GetExecUser`), so that an image means the same user here as there:
//! a number is always an id and need not be listed; a name must be; a group given explicitly replaces the user's
//! group and drops the supplementary ones. Both files come from the image and may hold anything: lines that are not
//! understood are passed over.

/// The largest id that may be asked for by number (`minID`/`maxID` of moby's `sys/user`).
const MAX_ID: u32 = i32::MAX as u32;

/// A user as the kernel knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary group ids.
    pub additional_gids: Vec<u32>,
    /// Home directory, `/` when none is listed.
    pub home: String,
}

/// Why a `User` string names nobody.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UserError {
    /// The name has no entry.
    #[error("user {0:?} is not in /etc/passwd of the image; use a listed name or a numeric id")]
    UnknownUser(String),
    /// The group's name has no entry.
    #[error(
        "group {group:?} of user {user:?} is not in /etc/group of the image; use a listed name or a numeric id"
    )]
    UnknownGroup {
        /// The whole `User` string.
        user: String,
        /// Its part after the colon.
        group: String,
    },
    /// An id beyond what the kernel takes.
    #[error("id {id} of user {user:?} is out of range; ids go from 0 to {MAX_ID}")]
    OutOfRange {
        /// The whole `User` string.
        user: String,
        /// The id.
        id: String,
    },
}

/// Finds the user that `spec` (`name`, `uid`, `name:group`, `uid:gid`, or empty for root) names.
///
/// `passwd` and `group` are the texts of the image's files, empty where it has none.
///
/// # Errors
/// [`UserError`], when a name is not listed or a number is out of range.
pub fn resolve(spec: &str, passwd: &str, group: &str) -> Result<User, UserError> {
    let (user_part, group_part) = spec.split_once(':').unwrap_or((spec, ""));
    let listed = passwd.lines().filter_map(Account::parse).find(|account| match user_part {
        "" => account.uid == 0,
        part => number(part).map_or(account.name == part, |uid| uid == u64::from(account.uid)),
    });
    let mut user = match (&listed, number(user_part)) {
        (Some(account), _) => account.user(),
        (None, _) if user_part.is_empty() => Account::default().user(),
        (None, Some(id)) => User { uid: in_range(id, spec)?, ..Account::default().user() },
        (None, None) => return Err(UserError::UnknownUser(user_part.to_owned())),
    };
    if group_part.is_empty() {
        if let Some(account) = listed {
            user.additional_gids = groups(group).filter(|g| g.has(account.name)).map(|g| g.gid).collect();
        }
    } else {
        user.gid = explicit_group(group_part, group, spec)?;
    }
    Ok(user)
}

fn explicit_group(part: &str, group: &str, spec: &str) -> Result<u32, UserError> {
    match number(part) {
        Some(id) => in_range(id, spec),
        None => groups(group)
            .find(|g| g.name == part)
            .map(|g| g.gid)
            .ok_or_else(|| UserError::UnknownGroup { user: spec.to_owned(), group: part.to_owned() }),
    }
}

/// `text` as an id of any size, or `None` when it is a name.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

fn in_range(id: u64, spec: &str) -> Result<u32, UserError> {
    let small = u32::try_from(id).ok().filter(|&id| id <= MAX_ID);
    small.ok_or_else(|| UserError::OutOfRange { user: spec.to_owned(), id: id.to_string() })
}

/// One line of `passwd`.
#[derive(Default)]
struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

impl<'a> Account<'a> {
    /// `name:password:uid:gid:comment:home:shell` (passwd(5)).
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.trim().split(':');
        let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Self { name, uid, gid, home: fields.nth(1).unwrap_or("") })
    }

    fn user(&self) -> User {
        let home = if self.home.is_empty() { "/" } else { self.home };
        User { uid: self.uid, gid: self.gid, additional_gids: Vec::new(), home: home.to_owned() }
    }
}

/// One line of `group`.
struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

impl<'a> Group<'a> {
    /// `name:password:gid:member,member` (group(5)).
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.trim().split(':');
        let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some(Self { name, gid, members: fields.next().unwrap_or("") })
    }

    fn has(&self, user: &str) -> bool {
        self.members.split(',').any(|member| member == user)
    }
}

fn groups(text: &str) -> impl Iterator<Item = Group<'_>> {
    text.lines().filter_map(Group::parse)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# comment:x:7:7::/:\nbroken:x:many:1::/:\n\
                          www:x:33:33:www:/var/www:/bin/false\nbare:x:40:41\n";
    const GROUP: &str = "root:x:0:\nwww:x:33:\nlogs:x:50:other,www\nbackup:x:60:www\nwheel:x:70:wwwx\n";

    fn user(uid: u32, gid: u32, additional_gids: &[u32], home: &str) -> User {
        User { uid, gid, additional_gids: additional_gids.to_vec(), home: home.to_owned() }
    }

    #[test]
    fn follows_dockers_rules() {
        let cases = [
            ("", user(0, 0, &[], "/root")),
            ("root", user(0, 0, &[], "/root")),
            ("www", user(33, 33, &[50, 60], "/var/www")),
            ("33", user(33, 33, &[50, 60], "/var/www")),
            ("bare", user(40, 41, &[], "/")),
            ("1234", user(1234, 0, &[], "/")),
            ("1234:5", user(1234, 5, &[], "/")),
            ("www:logs", user(33, 50, &[], "/var/www")),
            ("www:99", user(33, 99, &[], "/var/www")),
            (":logs", user(0, 50, &[], "/root")),
            ("2147483647", user(2_147_483_647, 0, &[], "/")),
        ];
        for (spec, expected) in cases {
            assert_eq!(resolve(spec, PASSWD, GROUP), Ok(expected), "{spec:?}");
        }
    }

    #[test]
    fn an_image_without_the_files_has_root_and_numbers_only() {
        assert_eq!(resolve("", "", ""), Ok(user(0, 0, &[], "/")));
        assert_eq!(resolve("5:6", "", ""), Ok(user(5, 6, &[], "/")));
        assert_eq!(resolve("root", "", ""), Err(UserError::UnknownUser("root".into())));
    }

    #[test]
    fn errors_name_the_user() {
        for (spec, part) in [
            ("nobody", "nobody"),
            ("broken", "broken"),
            ("www:nogroup", "www:nogroup"),
            ("2147483648", "2147483648"),
            ("99999999999999999999999", "99999999999999999999999"),
            ("-1", "-1"),
            ("0:4294967296", "0:4294967296"),
        ] {
            let error = resolve(spec, PASSWD, GROUP).expect_err(spec).to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics_on_any_text(spec: String, passwd: String, group: String) {
            let _ = resolve(&spec, &passwd, &group);
        }
    }
}
