//! The instances of a root, in SQLite.
//!
//! Every statement is one transaction in write-ahead mode: a process killed at any point leaves the state before
//! or after it.

use std::{net::Ipv4Addr, path::PathBuf, time::Duration};

use rusqlite::{Connection, OptionalExtension, Row, config::DbConfig, params};

use crate::{
    error::{EngineError, Result},
    instance::{Instance, State},
    root::Root,
};

const SCHEMA_VERSION: i64 = 1;
/// Length of the write-ahead log at which it is written back, in pages.
const LOG_PAGES: i64 = 48;
const SCHEMA: &str = "
    CREATE TABLE instance (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        state TEXT NOT NULL,
        created INTEGER NOT NULL,
        digest TEXT NOT NULL,
        spec TEXT NOT NULL,
        monitor_pid INTEGER,
        init_pid INTEGER,
        address TEXT UNIQUE,
        exit_code INTEGER,
        error TEXT
    ) STRICT;
    CREATE TABLE network (subnet TEXT NOT NULL) STRICT;
    PRAGMA user_version = 1;
";
const COLUMNS: &str =
    "id, name, state, created, digest, spec, monitor_pid, init_pid, address, exit_code, error";

/// The database of one root.
#[derive(Debug)]
pub(crate) struct Database {
    connection: Connection,
    root: Root,
}

impl Database {
    pub(crate) fn open(root: &Root) -> Result<Self> {
        let path = root.database();
        let connection = Self::connect(&path).map_err(|source| EngineError::Database { path, source })?;
        let database = Self { connection, root: root.clone() };
        let version: i64 = database
            .run(|c| c.query_row("SELECT user_version FROM pragma_user_version", [], |r| r.get(0)))?;
        match version {
            SCHEMA_VERSION => Ok(database),
            0 => database.create().map(|()| database),
            newer => Err(EngineError::Invalid(format!(
                "{} has version {newer}, which this carve (version {SCHEMA_VERSION}) does not read; use the newer carve",
                root.database().display()
            ))),
        }
    }

    fn connect(path: &PathBuf) -> rusqlite::Result<Connection> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(Duration::from_secs(10))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        // Whoever closes last would write the log back and remove it, only for the next command to make it anew. It is
        // kept, and kept short, because each first reader reads all of it.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.pragma_update(None, "wal_autocheckpoint", LOG_PAGES)?;
        Ok(connection)
    }

    /// Two first commands may race to create the tables; the second finds them made.
    fn create(&self) -> Result<()> {
        self.run(|c| {
            let tx = rusqlite::Transaction::new_unchecked(c, rusqlite::TransactionBehavior::Immediate)?;
            let version: i64 =
                tx.query_row("SELECT user_version FROM pragma_user_version", [], |r| r.get(0))?;
            if version == 0 {
                tx.execute_batch(SCHEMA)?;
            }
            tx.commit()
        })
    }

    fn run<T>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        query(&self.connection).map_err(|source| EngineError::Database { path: self.root.database(), source })
    }

    /// Records a new instance; the name must be free.
    pub(crate) fn insert(&self, instance: &Instance) -> Result<()> {
        let spec = serde_json::to_string(&instance.spec).expect("a run spec has string keys only");
        let inserted = self.run(|c| {
            c.execute(
                "INSERT INTO instance (id, name, state, created, digest, spec) VALUES (?, ?, ?, ?, ?, ?)
                 ON CONFLICT (name) DO NOTHING",
                params![
                    instance.id,
                    instance.name,
                    instance.state.as_str(),
                    i64::try_from(instance.created).unwrap_or(i64::MAX),
                    instance.digest,
                    spec
                ],
            )
        })?;
        if inserted == 0 {
            let id = self.find(&instance.name)?.id;
            return Err(EngineError::NameTaken { name: instance.name.clone(), id });
        }
        Ok(())
    }

    /// All instances, oldest first.
    pub(crate) fn list(&self) -> Result<Vec<Instance>> {
        self.run(|c| {
            c.prepare(&format!("SELECT {COLUMNS} FROM instance ORDER BY created, id"))?
                .query_map([], |row| self.instance(row))?
                .collect()
        })
    }

    /// The instance with this name, id, or beginning of an id that fits no other.
    pub(crate) fn find(&self, name: &str) -> Result<Instance> {
        let exact = self.run(|c| {
            c.query_row(
                &format!("SELECT {COLUMNS} FROM instance WHERE name = ?1 OR id = ?1"),
                [name],
                |row| self.instance(row),
            )
            .optional()
        })?;
        if let Some(instance) = exact {
            return Ok(instance);
        }
        let no_such = || EngineError::NoSuchInstance(name.to_owned());
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(no_such());
        }
        let mut matching: Vec<_> = self.list()?.into_iter().filter(|i| i.id.starts_with(name)).collect();
        if matching.len() > 1 {
            return Err(EngineError::Invalid(format!(
                "{name} is the beginning of several ids; write more of it"
            )));
        }
        matching.pop().ok_or_else(no_such)
    }

    pub(crate) fn delete(&self, id: &str) -> Result<()> {
        self.run(|c| c.execute("DELETE FROM instance WHERE id = ?", [id])).map(drop)
    }

    pub(crate) fn set_monitor(&self, id: &str, pid: u32) -> Result<()> {
        self.run(|c| c.execute("UPDATE instance SET monitor_pid = ? WHERE id = ?", params![pid, id]))
            .map(drop)
    }

    /// The app runs.
    pub(crate) fn set_running(&self, id: &str, init_pid: Option<u32>) -> Result<()> {
        self.run(|c| {
            c.execute(
                "UPDATE instance SET state = 'running', init_pid = ? WHERE id = ?",
                params![init_pid, id],
            )
        })
        .map(drop)
    }

    /// The instance ended; its address is free again.
    pub(crate) fn set_exited(&self, id: &str, exit_code: i32, error: Option<&str>) -> Result<()> {
        self.run(|c| {
            c.execute(
                "UPDATE instance SET state = 'exited', monitor_pid = NULL, init_pid = NULL, address = NULL,
                 exit_code = ?, error = ? WHERE id = ?",
                params![exit_code, error, id],
            )
        })
        .map(drop)
    }

    /// Gives an instance an address, or takes it away.
    pub(crate) fn set_address(&self, id: &str, address: Option<Ipv4Addr>) -> Result<()> {
        let address = address.map(|a| a.to_string());
        self.run(|c| c.execute("UPDATE instance SET address = ? WHERE id = ?", params![address, id]))
            .map(drop)
    }

    /// The network's subnet, as it was last chosen.
    pub(crate) fn subnet(&self) -> Result<Option<String>> {
        self.run(|c| c.query_row("SELECT subnet FROM network", [], |r| r.get(0)).optional())
    }

    pub(crate) fn set_subnet(&self, subnet: Option<&str>) -> Result<()> {
        self.run(|c| {
            c.execute("DELETE FROM network", [])?;
            subnet.map_or(Ok(0), |s| c.execute("INSERT INTO network (subnet) VALUES (?)", [s]))
        })
        .map(drop)
    }

    fn instance(&self, row: &Row<'_>) -> rusqlite::Result<Instance> {
        let id: String = row.get("id")?;
        let spec: String = row.get("spec")?;
        let spec = serde_json::from_str(&spec).map_err(|e| {
            rusqlite::Error::FromSqlConversionFailure(5, rusqlite::types::Type::Text, Box::new(e))
        })?;
        Ok(Instance {
            dir: Instance::dir_in(&self.root, &id),
            name: row.get("name")?,
            state: match row.get::<_, String>("state")?.as_str() {
                "created" => State::Created,
                "running" => State::Running,
                _ => State::Exited,
            },
            created: row.get::<_, i64>("created")?.unsigned_abs(),
            digest: row.get("digest")?,
            spec,
            monitor_pid: row.get("monitor_pid")?,
            init_pid: row.get("init_pid")?,
            address: row.get::<_, Option<String>>("address")?.and_then(|a| a.parse().ok()),
            exit_code: row.get("exit_code")?,
            error: row.get("error")?,
            id,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::spec::{Model, NetworkMode, RunSpec};

    pub(crate) fn spec() -> RunSpec {
        RunSpec {
            image: "demo".into(),
            model: Model::Container,
            name: None,
            command: Vec::new(),
            entrypoint: None,
            env: Vec::new(),
            user: None,
            workdir: None,
            ports: Vec::new(),
            network: NetworkMode::None,
            memory: None,
            cpus_milli: None,
            interactive: false,
            auto_remove: false,
            events: None,
            guest: None,
        }
    }

    fn instance(root: &Root, id: &str, name: &str) -> Instance {
        let instance = Instance::new(root, id.into(), "sha256:0".into(), spec());
        Instance { name: name.into(), created: 1, ..instance }
    }

    #[test]
    fn finds_by_name_id_and_beginning_of_an_id() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::new(dir.path());
        let database = Database::open(&root).unwrap();
        database.insert(&instance(&root, "aa1111111111", "web")).unwrap();
        database.insert(&instance(&root, "aa2222222222", "store")).unwrap();
        assert_eq!(database.find("web").unwrap().id, "aa1111111111");
        assert_eq!(database.find("aa2222222222").unwrap().name, "store");
        assert_eq!(database.find("aa2").unwrap().name, "store");
        assert!(matches!(database.find("aa"), Err(EngineError::Invalid(_))));
        assert!(matches!(database.find("zz"), Err(EngineError::NoSuchInstance(_))));
    }

    #[test]
    fn refuses_a_name_that_is_taken_and_says_by_whom() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::new(dir.path());
        let database = Database::open(&root).unwrap();
        database.insert(&instance(&root, "aa1111111111", "web")).unwrap();
        let error = database.insert(&instance(&root, "aa2222222222", "web")).unwrap_err();
        assert!(error.to_string().contains("aa1111111111"), "{error}");
    }

    #[test]
    fn keeps_what_was_recorded_across_openings() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::new(dir.path());
        Database::open(&root).unwrap().insert(&instance(&root, "aa1111111111", "web")).unwrap();
        let database = Database::open(&root).unwrap();
        database.set_running("aa1111111111", Some(7)).unwrap();
        database.set_address("aa1111111111", Some(Ipv4Addr::new(10, 0, 0, 2))).unwrap();
        database.set_exited("aa1111111111", 3, Some("why")).unwrap();
        let found = database.find("web").unwrap();
        assert_eq!((found.state, found.exit_code, found.address), (State::Exited, Some(3), None));
        assert_eq!(found.spec, spec());
    }

    #[test]
    fn refuses_a_database_of_a_newer_version() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::new(dir.path());
        drop(Database::open(&root).unwrap());
        Connection::open(root.database()).unwrap().pragma_update(None, "user_version", 99).unwrap();
        assert!(Database::open(&root).unwrap_err().to_string().contains("version 99"));
    }
}
