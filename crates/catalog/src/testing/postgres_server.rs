//! A PostgreSQL server of a test process's own: no port, no password, gone when the process is gone.
//!
//! A shell runs it and waits for the end of its standard input, which this process holds open. However this process ends, the
//! shell then stops the server by its pid file and removes the files. Without fsync: what is tested is SQL, not the disk.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The user that runs the server when the tests run as root, which PostgreSQL refuses. Debian's package makes it.
const USER: &str = "postgres";

/// `$1` is the folder of programs, `$2` the folder for everything else.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
PATH="$1:$PATH"
cd "$2" || exit 1
initdb -D data -U drystone -A trust -N --no-locale -E UTF8 >log 2>&1 &&
pg_ctl start -w -D data -l log -o "-k '$2' -c listen_addresses= -c fsync=off -c full_page_writes=off \
  -c max_connections=200 -c shared_buffers=32MB" >/dev/null 2>&1 &&
echo ready || { cat log; echo failed; }
read -r _
pg_ctl stop -m immediate -D data >/dev/null 2>&1
cd / && rm -rf "$2"
"#;

/// The connection string of an empty database on this process's server; nothing where PostgreSQL is not installed.
pub(super) fn fresh_database() -> Option<String> {
    static SERVER: OnceLock<Option<PostgresServer>> = OnceLock::new();
    static NEXT: AtomicU32 = AtomicU32::new(0);

    let server = SERVER.get_or_init(PostgresServer::start).as_ref()?;
    Some(server.create_database(&format!("fresh_{}", NEXT.fetch_add(1, Ordering::Relaxed))))
}

struct PostgresServer {
    programs: PathBuf,
    directory: PathBuf,
    // The server ends when the standard input in here closes.
    _shell: Child,
}

impl PostgresServer {
    /// Starts one, or says why not.
    fn start() -> Option<PostgresServer> {
        let Some(programs) = installed() else {
            #[allow(
                clippy::disallowed_methods,
                reason = "CI must not leave out half of the tests"
            )]
            let required = std::env::var_os("CI").is_some();
            assert!(
                !required,
                "CI is set, so PostgreSQL must be installed in /usr/lib/postgresql"
            );
            eprintln!("left out: no PostgreSQL in /usr/lib/postgresql");
            return None;
        };
        let directory = tempfile::Builder::new().prefix("drystone-pg-").tempdir();
        let directory = directory.expect("a place for temporary files").keep();
        let mut shell = shell_for(&directory);
        let mut shell = shell
            .args(["-c", SCRIPT, "sh"])
            .args([&programs, &directory])
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell can be started");
        let said = BufReader::new(shell.stdout.take().expect("its standard output is a pipe"));
        let mut log = Vec::new();
        for line in said.lines() {
            match line.expect("the shell says UTF-8").as_str() {
                "ready" => {
                    return Some(PostgresServer {
                        programs,
                        directory,
                        _shell: shell,
                    });
                }
                "failed" => break,
                other => log.push(other.to_owned()),
            }
        }
        panic!("PostgreSQL does not start:\n{}", log.join("\n"));
    }

    /// Makes an empty database and answers its connection string. By a program of its own, since CREATE DATABASE refuses to
    /// run inside a transaction, which is all that the seam offers.
    fn create_database(&self, name: &str) -> String {
        let created = Command::new(self.programs.join("createdb"))
            .arg("-h")
            .arg(&self.directory)
            .args(["-U", "drystone", name])
            .status();
        assert!(
            created.is_ok_and(|status| status.success()),
            "createdb {name} failed"
        );
        format!(
            "host={} user=drystone dbname={name}",
            self.directory.display()
        )
    }
}

/// A shell as a user that PostgreSQL accepts, who then owns `directory`.
fn shell_for(directory: &Path) -> Command {
    if !is_root(directory) {
        return Command::new("sh");
    }
    let given = Command::new("chown").arg(USER).arg(directory).status();
    assert!(
        given.is_ok_and(|status| status.success()),
        "chown {USER} failed"
    );
    let mut shell = Command::new("setpriv");
    shell.args(["--reuid", USER, "--regid", USER, "--clear-groups", "sh"]);
    shell
}

/// Whether this process is root's: it has just made `directory`.
fn is_root(directory: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(directory).is_ok_and(|made| made.uid() == 0)
}

/// The programs of the newest PostgreSQL that is installed.
fn installed() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    versions
        .filter_map(|version| Some(version.ok()?.path().join("bin")))
        .filter(|programs| programs.join("initdb").exists())
        .max_by_key(|programs| {
            let version = programs.parent().and_then(Path::file_name);
            version.and_then(|version| version.to_str()?.parse::<u32>().ok())
        })
}
