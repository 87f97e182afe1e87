//! A node as users run it: the binary, in a process of its own, over a directory that goes away.
#![allow(dead_code, reason = "each test crate takes what it needs")]

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

/// How long a node may take to say that it is ready, or to end: a debug build on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(10);
const ANY_PORT: &str = "127.0.0.1:0";
const DATA: &str = "data";
const STDERR: &str = "stderr.log";

/// What a node is started with, besides its addresses and directory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings(Vec<(String, String)>);

impl Settings {
    /// Sets a broker configuration by its key, such as `num.partitions`.
    pub(crate) fn with(mut self, key: &str, value: &str) -> Self {
        let variable = format!("MILLSTREAM_CONFIG_{}", key.to_ascii_uppercase().replace('.', "_"));
        self.0.push((variable, value.to_owned()));
        self
    }
}

/// A running node. Dropped, it is killed and its directory removed.
pub(crate) struct Node {
    child: Child,
    kafka: SocketAddr,
    admin: SocketAddr,
    settings: Settings,
    home: TempDir,
}

/// A node that has ended: its directory and its addresses, to start it again.
pub(crate) struct StoppedNode {
    pub(crate) status: ExitStatus,
    kafka: SocketAddr,
    admin: SocketAddr,
    settings: Settings,
    home: TempDir,
}

impl Node {
    /// A node over an empty directory, on free ports.
    pub(crate) fn start() -> Self {
        Self::start_with(Settings::default())
    }

    pub(crate) fn start_with(settings: Settings) -> Self {
        let home = TempDir::new().expect("a temporary directory");
        Self::launch(home, settings, ANY_PORT, ANY_PORT)
    }

    fn launch(home: TempDir, settings: Settings, kafka: &str, admin: &str) -> Self {
        let log = OpenOptions::new().create(true).append(true).open(home.path().join(STDERR));
        let mut child = command(&home.path().join(DATA), kafka, admin)
            .envs(settings.0.iter().map(|(variable, value)| (variable, value)))
            .stdout(Stdio::piped())
            .stderr(log.expect("the directory is writable"))
            .spawn()
            .expect("the node's binary runs");
        let stdout = child.stdout.take().expect("stdout is piped");
        let ready = ready_line(stdout).and_then(|line| addresses(&line));
        let Some((kafka, admin)) = ready else {
            let _ = child.kill();
            let status = child.wait().expect("a child can be waited for");
            let said = fs::read_to_string(home.path().join(STDERR)).unwrap_or_default();
            panic!("the node did not become ready ({status}); it said:\n{said}");
        };
        Self { child, kafka, admin, settings, home }
    }

    /// Where Kafka clients connect.
    pub(crate) fn kafka(&self) -> SocketAddr {
        self.kafka
    }

    /// Where the admin interface listens.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin
    }

    pub(crate) fn bootstrap(&self) -> String {
        self.kafka.to_string()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.home.path().join(DATA)
    }

    /// A raw connection to the Kafka listener, on which no read waits for ever.
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.kafka).expect("the node accepts connections");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        stream.set_nodelay(true).expect("the socket is open");
        stream
    }

    /// Everything the node said on stderr, over all its lives.
    pub(crate) fn stderr(&self) -> String {
        fs::read_to_string(self.home.path().join(STDERR)).expect("stderr is kept in a file")
    }

    /// Memory resident now, in bytes.
    pub(crate) fn rss_bytes(&self) -> u64 {
        self.memory_bytes("VmRSS:")
    }

    /// The most memory that was resident at any time, in bytes.
    pub(crate) fn rss_bytes_peak(&self) -> u64 {
        self.memory_bytes("VmHWM:")
    }

    fn memory_bytes(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the node runs");
        let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("Linux counts memory");
        let kib = line.trim().strip_suffix(" kB").expect("it counts in kB");
        kib.parse::<u64>().expect("it is a number") * 1024
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child can be asked").is_none()
    }

    /// Ends the node as a power cut would: it gets to do nothing more.
    pub(crate) fn kill(mut self) -> StoppedNode {
        self.child.kill().expect("the node runs");
        self.ended()
    }

    /// Asks the node to end (SIGTERM), and waits until it has.
    pub(crate) fn stop(self) -> StoppedNode {
        let pid = self.pid().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs");
        assert!(sent.success(), "the node is gone already; it said:\n{}", self.stderr());
        self.ended()
    }

    fn ended(mut self) -> StoppedNode {
        let ended = wait(&mut self.child);
        let status = ended.unwrap_or_else(|| panic!("the node did not end; it said:\n{}", self.stderr()));
        // The fields leave one by one, because a node has a destructor.
        let home = std::mem::replace(&mut self.home, TempDir::new().expect("a temporary directory"));
        let settings = std::mem::take(&mut self.settings);
        StoppedNode { status, kafka: self.kafka, admin: self.admin, settings, home }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl StoppedNode {
    /// With these settings in the place of those that it had.
    pub(crate) fn with_settings(self, settings: Settings) -> Self {
        Self { settings, ..self }
    }

    /// The node again, on its directory and its addresses.
    pub(crate) fn start(self) -> Node {
        let (kafka, admin) = (self.kafka.to_string(), self.admin.to_string());
        Node::launch(self.home, self.settings, &kafka, &admin)
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.home.path().join(DATA)
    }

    pub(crate) fn stderr(&self) -> String {
        fs::read_to_string(self.home.path().join(STDERR)).expect("stderr is kept in a file")
    }
}

/// `millstream up`, not started yet.
pub(crate) fn command(data_dir: &Path, kafka: &str, admin: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command.args(["up", "--json", "--listen", kafka, "--admin", admin, "--data-dir"]).arg(data_dir);
    // What the tests' own environment sets must not decide what they see.
    command.env_remove("RUST_LOG");
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("MILLSTREAM_") {
            command.env_remove(variable);
        }
    }
    command
}

/// What a process that ends by itself left behind.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs `command` to its end, which it must reach by itself.
pub(crate) fn run_to_end(command: &mut Command) -> Ended {
    let mut stdout = tempfile::tempfile().expect("a temporary file");
    let mut stderr = tempfile::tempfile().expect("a temporary file");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(stdout.try_clone().expect("a file has more than one handle"))
        .stderr(stderr.try_clone().expect("a file has more than one handle"))
        .spawn()
        .expect("the binary runs");
    let status = wait(&mut child);
    if status.is_none() {
        child.kill().expect("it runs");
        child.wait().expect("a child can be waited for");
    }
    let (stdout, stderr) = (whole(&mut stdout), whole(&mut stderr));
    let status = status.unwrap_or_else(|| panic!("it did not end; it said:\n{stdout}\n{stderr}"));
    Ended { status, stdout, stderr }
}

fn whole(file: &mut File) -> String {
    let mut text = String::new();
    file.seek(SeekFrom::Start(0)).expect("a file can be read again");
    file.read_to_string(&mut text).expect("the output is text");
    text
}

/// Waits for a child's end, as long as patience lasts.
pub(crate) fn wait(child: &mut Child) -> Option<ExitStatus> {
    let mut status = None;
    until(|| {
        status = child.try_wait().expect("a child can be asked");
        status.is_some()
    });
    status
}

/// Polls `condition` until it holds; `false` where patience ran out first.
pub(crate) fn until(mut condition: impl FnMut() -> bool) -> bool {
    let polls = PATIENCE.as_millis() / POLL.as_millis();
    for _ in 0..polls {
        if condition() {
            return true;
        }
        thread::sleep(POLL);
    }
    condition()
}

/// The first line of `stdout`; the rest is read and dropped, so that its writer never waits.
fn ready_line(stdout: ChildStdout) -> Option<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines() {
            let Ok(line) = line else { return };
            let _ = sender.send(line);
        }
    });
    receiver.recv_timeout(PATIENCE).ok()
}

fn addresses(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let ready: serde_json::Value = serde_json::from_str(line).ok()?;
    if ready["ready"] != true {
        return None;
    }
    Some((ready["kafka"].as_str()?.parse().ok()?, ready["admin"].as_str()?.parse().ok()?))
}
