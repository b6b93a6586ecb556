//! The file `directory.db`: creating, opening, checking and migrating it; the connections to it.
//! What must not live here: what the tables mean.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _, Sqlite, Transaction};

use crate::error::StoreError;
use crate::limits::{DATABASE_WAIT_SECONDS, READERS_MAX};

/// Schema steps in order; the n-th leads to schema version n, kept in `PRAGMA user_version`. An own
/// list instead of sqlx's migrator, whose lock is a no-op for SQLite: two processes that start at
/// the same moment would both migrate.
const MIGRATIONS: &[&str] = &[include_str!("../migrations/0001_directory.sql")];

/// `PRAGMA application_id`: "wMQT".
const APPLICATION_ID: u32 = 0x774d_5154;

/// The file starts with this; the application id follows at byte 68, big endian
/// (https://www.sqlite.org/fileformat2.html, section 1.3).
const SQLITE_MAGIC: &[u8; 16] = b"SQLite format 3\0";
const SQLITE_HEADER_BYTES: u64 = 100;

/// An open `directory.db`: one connection that writes, a few that read.
pub(crate) struct Database {
    path: PathBuf,
    writer: SqlitePool,
    readers: SqlitePool,
}

impl Database {
    /// Makes a new file, readable by its owner only. Refuses to touch an existing one.
    pub(crate) async fn create(path: &Path) -> Result<Self, StoreError> {
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(
            |error| {
                if error.kind() != io::ErrorKind::NotFound {
                    return StoreError::from_io(&error, "create", path);
                }
                let detail = "its folder does not exist".to_owned();
                StoreError::Failed { action: "create", path: path.to_path_buf(), detail }
            },
        )?;
        match Self::fill(path).await {
            Ok(()) => Self::connect(path).await,
            Err(error) => {
                // Best effort: an empty file is refused by `open` with words that say what to do.
                let _ = fs::remove_file(path);
                Err(error)
            }
        }
    }

    /// Opens a file that `create` made, checks it, and brings it to this program's schema version.
    pub(crate) async fn open(path: &Path) -> Result<Self, StoreError> {
        check_header(path)?;
        check_content(path).await?;
        let database = Self::connect(path).await?;
        let mut connection = database.writer.acquire().await.map_err(database.failed("open"))?;
        migrate(&mut connection, path).await?;
        drop(connection);
        Ok(database)
    }

    /// Writes the schema with a rollback journal, so that the application id is in the file's
    /// header and not in a write-ahead log before anything else can see it.
    async fn fill(path: &Path) -> Result<(), StoreError> {
        let failed = |error: sqlx::Error| StoreError::from_sqlx(&error, "create", path);
        let mut connection = plain_options(path).connect().await.map_err(failed)?;
        migrate(&mut connection, path).await?;
        // Here and not by the first who opens it: the switch cannot wait for other connections.
        sqlx::query("PRAGMA journal_mode = WAL").execute(&mut connection).await.map_err(failed)?;
        connection.close().await.map_err(failed)
    }

    async fn connect(path: &Path) -> Result<Self, StoreError> {
        let failed = |error: sqlx::Error| StoreError::from_sqlx(&error, "open", path);
        let options = plain_options(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .pragma("trusted_schema", "OFF")
            .pragma("cell_size_check", "ON");
        let pool = |connections_max: u32| {
            // A connection to a file does not go stale: no ping before each use.
            SqlitePoolOptions::new()
                .max_connections(connections_max)
                .min_connections(1)
                .acquire_timeout(Duration::from_secs(DATABASE_WAIT_SECONDS))
                .idle_timeout(None)
                .max_lifetime(None)
                .test_before_acquire(false)
        };
        let writer = pool(1).connect_with(options.clone()).await.map_err(failed)?;
        let readers = pool(READERS_MAX)
            .connect_with(options.pragma("query_only", "ON"))
            .await
            .map_err(failed)?;
        Ok(Self { path: path.to_path_buf(), writer, readers })
    }

    /// Waits until every connection is closed; the last one folds the write-ahead log into the file.
    pub(crate) async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    /// Where the file is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A connection that can only read.
    pub(crate) async fn read(&self) -> Result<PoolConnection<Sqlite>, StoreError> {
        self.readers.acquire().await.map_err(self.failed("read"))
    }

    /// Starts a change: the only way to write.
    pub(crate) async fn change(&self) -> Result<Change<'_>, StoreError> {
        // IMMEDIATE: a transaction that reads first and then writes would fail, not wait, when
        // another process wrote in between.
        let transaction =
            self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(self.failed("write"))?;
        Ok(Change { database: self, transaction })
    }

    /// The counter of committed changes, by whatever process.
    pub(crate) async fn generation(&self) -> Result<i64, StoreError> {
        let mut connection = self.read().await?;
        sqlx::query("SELECT generation FROM meta")
            .fetch_one(&mut *connection)
            .await
            .and_then(|row| row.try_get(0))
            .map_err(self.failed("read"))
    }

    /// Turns a failure of the database into one of the store: `.map_err(database.failed("read"))`.
    pub(crate) fn failed(&self, action: &'static str) -> impl Fn(sqlx::Error) -> StoreError {
        move |error| StoreError::from_sqlx(&error, action, &self.path)
    }
}

/// A write transaction. Dropped without [`Change::commit`], nothing of it remains.
pub(crate) struct Change<'d> {
    database: &'d Database,
    transaction: Transaction<'static, Sqlite>,
}

impl Change<'_> {
    /// What statements are executed on.
    pub(crate) fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.transaction
    }

    /// Makes it durable and counts it, so that readers notice.
    pub(crate) async fn commit(mut self) -> Result<(), StoreError> {
        let failed = self.database.failed("write");
        sqlx::query("UPDATE meta SET generation = generation + 1")
            .execute(&mut *self.transaction)
            .await
            .map_err(&failed)?;
        self.transaction.commit().await.map_err(failed)
    }
}

fn plain_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .busy_timeout(Duration::from_secs(DATABASE_WAIT_SECONDS))
        .disable_statement_logging()
}

/// Reads the header without SQLite, which could write to a file that is not ours.
fn check_header(path: &Path) -> Result<(), StoreError> {
    let failed = |error: io::Error| StoreError::from_io(&error, "open", path);
    let file = fs::File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let foreign = |detail: String| StoreError::Foreign { path: path.to_path_buf(), detail };
    if !metadata.is_file() {
        return Err(foreign("it is not a regular file".to_owned()));
    }
    if metadata.len() == 0 {
        return Err(StoreError::Damaged {
            path: path.to_path_buf(),
            detail: "the file is empty; if its creation was interrupted, remove it and create it \
                     again"
                .to_owned(),
        });
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        tracing::warn!(
            path = %path.display(),
            mode = format_args!("{mode:03o}"),
            "others than its owner may open the directory file: `chmod 600` it"
        );
    }
    let mut header = Vec::new();
    file.take(SQLITE_HEADER_BYTES).read_to_end(&mut header).map_err(failed)?;
    let application_id = match header.get(68..72).map(<[u8; 4]>::try_from) {
        Some(Ok(bytes)) if header.starts_with(SQLITE_MAGIC) => u32::from_be_bytes(bytes),
        _ => return Err(foreign("it does not begin like an SQLite file".to_owned())),
    };
    if application_id != APPLICATION_ID {
        return Err(foreign(format!(
            "an SQLite file of another program, application id {application_id:#010x}"
        )));
    }
    Ok(())
}

/// Looks at version and health on a connection that changes no setting of the file.
async fn check_content(path: &Path) -> Result<(), StoreError> {
    let failed = |error: sqlx::Error| StoreError::from_sqlx(&error, "open", path);
    let mut connection = plain_options(path).connect().await.map_err(failed)?;
    // The version first: what a newer program calls healthy is not ours to judge.
    check_version(schema_version(&mut connection).await.map_err(failed)?, path)?;
    let verdict: String = sqlx::query("PRAGMA quick_check(1)")
        .fetch_one(&mut connection)
        .await
        .and_then(|row| row.try_get(0))
        .map_err(failed)?;
    if verdict != "ok" {
        return Err(StoreError::Damaged { path: path.to_path_buf(), detail: verdict });
    }
    connection.close().await.map_err(failed)
}

/// Applies the steps that are missing, all of them or none.
async fn migrate(connection: &mut SqliteConnection, path: &Path) -> Result<(), StoreError> {
    let failed = |error: sqlx::Error| StoreError::from_sqlx(&error, "migrate", path);
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
    let found = schema_version(&mut transaction).await.map_err(failed)?;
    let applied = check_version(found, path)?;
    if applied == MIGRATIONS.len() {
        return transaction.rollback().await.map_err(failed);
    }
    for step in &MIGRATIONS[applied..] {
        sqlx::raw_sql(*step).execute(&mut *transaction).await.map_err(failed)?;
    }
    let marks = format!(
        "PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {}",
        MIGRATIONS.len()
    );
    sqlx::raw_sql(AssertSqlSafe(marks)).execute(&mut *transaction).await.map_err(failed)?;
    transaction.commit().await.map_err(failed)?;
    tracing::info!(
        path = %path.display(), from = found, to = MIGRATIONS.len(), "directory schema migrated"
    );
    Ok(())
}

async fn schema_version(connection: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    sqlx::query("PRAGMA user_version").fetch_one(connection).await?.try_get(0)
}

/// How many steps a file of that schema version has seen.
fn check_version(found: i64, path: &Path) -> Result<usize, StoreError> {
    match usize::try_from(found) {
        Ok(applied) if applied <= MIGRATIONS.len() => Ok(applied),
        Ok(_) => Err(StoreError::Newer {
            found,
            known: i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX),
            path: path.to_path_buf(),
        }),
        Err(_) => Err(StoreError::Damaged {
            path: path.to_path_buf(),
            detail: format!("schema version {found}"),
        }),
    }
}
