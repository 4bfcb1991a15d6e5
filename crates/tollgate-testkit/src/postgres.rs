//! Real PostgreSQL servers for tests. Each has its own folder and a free port, and ends when it is dropped or when this
//! process ends.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tempfile::TempDir;

/// How long a server may take to start.
const START: Duration = Duration::from_mins(2);
/// The time between two attempts.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Runs the server until its standard input ends, which happens however this process ends. SIGINT is PostgreSQL's fast
/// shutdown; it also frees its shared memory.
const KEEPER: &str = r#"folder=$1; shift; "$@" >/dev/null & echo $!; cat >/dev/null; kill -INT $!; wait $!; rm -rf "$folder""#;

/// A real PostgreSQL server that accepts every local user and does not wait for the disk.
#[derive(Debug)]
pub struct PostgresServer {
    keeper: Child,
    /// Open for as long as the server should run.
    keeper_input: Option<ChildStdin>,
    pid: String,
    port: u16,
    binaries: PathBuf,
    databases: AtomicU32,
    folder: TempDir,
}

impl PostgresServer {
    /// A server without any database of ours.
    pub fn start() -> Self {
        let binaries = binaries();
        let folder = tempfile::tempdir().unwrap();
        let account = Account::of_servers();
        account.own(folder.path());
        let data = folder.path().join("data");
        let mut initdb = account.command(&binaries.join("initdb"));
        initdb.args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"]);
        initdb.args(["--no-sync", "--pgdata"]).arg(&data);
        let made = initdb.output().unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));

        let port = free_port();
        let mut command = account.command(Path::new("sh"));
        command.args(["-c", KEEPER, "sh"]).arg(&data).arg(binaries.join("postgres"));
        command.arg("-D").arg(&data).arg("-k").arg(folder.path());
        command.args(["-p", &port.to_string()]);
        for setting in ["listen_addresses=127.0.0.1", "fsync=off", "full_page_writes=off"] {
            command.args(["-c", setting]);
        }
        let mut keeper = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(folder.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let keeper_input = keeper.stdin.take();
        let mut pid = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut pid).unwrap();
        let pid = pid.trim().to_owned();
        let databases = AtomicU32::new(0);
        let server = Self { keeper, keeper_input, pid, port, binaries, databases, folder };
        server.wait_until_ready();
        server
    }

    /// `postgres://…` of a new, empty database.
    pub fn new_database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        format!("postgres://postgres@127.0.0.1:{}/{name}", self.port)
    }

    /// Runs statements in the database of `url`, or of this name, and returns their output.
    pub fn sql(&self, database: &str, statements: &str) -> String {
        let name = database.rsplit('/').next().unwrap_or(database);
        let output = self.psql(name, statements);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn psql(&self, name: &str, statements: &str) -> std::process::Output {
        let mut psql = Command::new(self.binaries.join("psql"));
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1"]);
        psql.args(["-p", &self.port.to_string(), "-U", "postgres", "-d", name, "-c", statements]);
        psql.output().unwrap()
    }

    /// Ends the process at once, like a crash. Its children notice and end too.
    pub fn kill(&self) {
        let status = Command::new("kill").args(["-KILL", &self.pid]).status().unwrap();
        assert!(status.success());
    }

    fn wait_until_ready(&self) {
        let looks = START.as_millis() / LOOK_EVERY.as_millis();
        for _ in 0..looks {
            if self.psql("postgres", "SELECT 1").status.success() {
                return;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        panic!("waited {START:?} for postgres to start (scripts/setup installs it):\n{log}");
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        drop(self.keeper_input.take());
        let _ = self.keeper.wait();
    }
}

/// The folder of PostgreSQL's programs: Debian's folder of the newest version, else that of `initdb` in PATH.
fn binaries() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions
        .filter_map(|version| {
            let number: u32 = version.file_name().to_str()?.parse().ok()?;
            let folder = version.path().join("bin");
            folder.join("initdb").exists().then_some((number, folder))
        })
        .max();
    if let Some((_, folder)) = newest {
        return folder;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path);
    folders
        .find(|folder| folder.join("initdb").exists())
        .expect("PostgreSQL is missing: scripts/setup installs it")
}

/// The user who runs the servers, because PostgreSQL refuses to run as root.
enum Account {
    Own,
    Other { user: u32, group: u32 },
}

impl Account {
    fn of_servers() -> Self {
        let is_root = id(&["-u"]) == Some(0);
        if !is_root {
            return Self::Own;
        }
        let user = id(&["-u", "nobody"]).expect("the user `nobody`");
        let group = id(&["-g", "nobody"]).expect("the group of `nobody`");
        Self::Other { user, group }
    }

    /// Gives `folder` to that user; everyone may enter it, for the socket.
    fn own(&self, folder: &Path) {
        if let Self::Other { user, group } = self {
            std::os::unix::fs::chown(folder, Some(*user), Some(*group)).unwrap();
        }
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if let Self::Other { user, group } = self {
            command.gid(*group).uid(*user);
        }
        // That user may have no access to the working directory of the test.
        command.current_dir("/");
        command
    }
}

/// The output of `id`.
fn id(arguments: &[&str]) -> Option<u32> {
    let output = Command::new("id").args(arguments).output().ok()?;
    String::from_utf8_lossy(&output.stdout).trim().parse().ok()
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}
