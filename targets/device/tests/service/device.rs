//! A device: a folder with slots and a configuration, and the service on it.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use dynamax_session::Source;
use dynamax_slots::{Directory, Disk, Image, Slot, Slots};
use serde_json::Value;
use tempfile::TempDir;

/// A bundle that the command line carries.
pub(crate) fn demo(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/cli/demo").join(name)
}

/// How a slot remembers a bundle.
pub(crate) fn image(path: &Path) -> Image {
    let source = Source::open(path).unwrap();
    let bundle = source.bundle().unwrap();
    let counter = bundle.signature().map_or(0, |signature| signature.counter);
    Image { hash: bundle.hash(), bytes: source.bytes().len() as u64, counter }
}

/// A folder with slots and a configuration.
pub(crate) struct Board {
    pub(crate) folder: TempDir,
}

impl Board {
    /// A board with nothing in its slots; `more` goes into the configuration.
    pub(crate) fn empty(more: &str) -> Self {
        let board = Self { folder: TempDir::new().unwrap() };
        board.configure(more);
        board
    }

    /// A board with the Mamba-2 demo.
    pub(crate) fn new(more: &str) -> Self {
        let board = Self::empty(more);
        board.flash(&demo("mamba2.dmx"));
        board
    }

    /// Writes the configuration. One thread: tests run beside each other, and each would wait for its team.
    pub(crate) fn configure(&self, more: &str) {
        self.configure_device("", more);
    }

    /// As [`Self::configure`], with more about the device too.
    pub(crate) fn configure_device(&self, device: &str, more: &str) {
        self.write_config(device, Some(512), more);
    }

    /// Plans for another context, or for the bundle's own.
    pub(crate) fn configure_context(&self, context: Option<u32>) {
        self.write_config("", context, "");
    }

    fn write_config(&self, device: &str, context: Option<u32>, more: &str) {
        let (slots, socket) = (self.slots_folder(), self.socket());
        let context = context.map_or_else(String::new, |context| format!("context = {context}"));
        let text = format!(
            "[device]\nthreads = 1\n{device}\n[model]\nslots = {slots:?}\n{context}\n\n[server]\n\
             socket = {socket:?}\n{more}"
        );
        std::fs::write(self.config(), text).unwrap();
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("device.toml")
    }

    /// Where the board's files are: no sensor but those that a test puts there.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("d.sock")
    }

    pub(crate) fn slots_folder(&self) -> PathBuf {
        self.folder.path().join("slots")
    }

    pub(crate) fn slots(&self) -> Slots<Directory> {
        Slots::new(Directory::create(&self.slots_folder()).unwrap())
    }

    /// Puts a bundle into a slot, without a check.
    pub(crate) fn flash(&self, path: &Path) -> Slot {
        let mut slots = self.slots();
        let mut transfer = slots.offer(image(path)).unwrap();
        slots.write(&mut transfer, &std::fs::read(path).unwrap()).unwrap();
        slots.finish(transfer, |_, _| Ok(())).unwrap().slot
    }

    /// Changes one byte of a slot.
    pub(crate) fn alter(&self, slot: Slot) {
        let path = self.slots().disk().path(slot.file());
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::remove_file(&path).unwrap();
        let mut disk = Directory::create(&self.slots_folder()).unwrap();
        disk.truncate(slot.file(), 0).unwrap();
        disk.append(slot.file(), &bytes).unwrap();
    }

    /// Runs a command of the service's binary.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dynamaxd"));
        command.arg("--config").arg(self.config()).args(arguments);
        command.arg("--root").arg(self.root());
        command.env_remove("NOTIFY_SOCKET");
        command
    }

    /// Starts the service and waits until it answers.
    pub(crate) fn start(&self) -> Service<'_> {
        self.start_with(|_| ())
    }

    /// The same, with a command that was changed.
    pub(crate) fn start_with(&self, change: impl FnOnce(&mut Command)) -> Service<'_> {
        let mut command = self.command(&[]);
        change(&mut command);
        let child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut service = Service { board: self, child, lines: Vec::new(), errors: None };
        let mut errors = BufReader::new(service.child.stderr.take().unwrap());
        loop {
            let mut line = String::new();
            assert!(errors.read_line(&mut line).unwrap() > 0, "it ended: {:?}", service.lines);
            let listens = line.contains("listening");
            service.lines.push(line);
            if listens {
                break;
            }
        }
        service.errors = Some(errors);
        service
    }
}

/// The running service; it is killed when it is dropped.
pub(crate) struct Service<'b> {
    pub(crate) board: &'b Board,
    pub(crate) child: Child,
    /// What it has said.
    pub(crate) lines: Vec<String>,
    errors: Option<BufReader<std::process::ChildStderr>>,
}

impl Drop for Service<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Service<'_> {
    pub(crate) fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.board.socket()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        let request = format!("GET {path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n");
        exchange(self.connect(), request.as_bytes())
    }

    pub(crate) fn send(&self, method: &str, path: &str, body: &str) -> Reply {
        exchange(self.connect(), request(method, path, body).as_bytes())
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Reply {
        self.send("POST", path, &body.to_string())
    }

    /// An answer that must be there.
    pub(crate) fn ask(&self, path: &str, body: &Value) -> Value {
        let reply = self.post(path, body);
        assert_eq!(reply.status, 200, "{body}: {}", reply.text());
        reply.json()
    }

    /// The value of a metric.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").text();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("dynamax_{name} ")));
        line.unwrap_or_else(|| panic!("{name} in {text}")).parse().unwrap()
    }

    /// Waits until `is_so`.
    pub(crate) fn wait_until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let start = Instant::now();
        while !is_so() {
            assert!(start.elapsed() < Duration::from_secs(20), "{what} does not happen");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until it says something with these words.
    pub(crate) fn wait_for_words(&mut self, words: &str) {
        let errors = self.errors.as_mut().unwrap();
        loop {
            let mut line = String::new();
            assert!(errors.read_line(&mut line).unwrap() > 0, "never said {words:?}");
            if line.contains(words) {
                return;
            }
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success(), "kill");
    }
}

/// A request with a body of JSON.
pub(crate) fn request(method: &str, path: &str, body: &str) -> String {
    let len = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {len}\r\n\r\n{body}"
    )
}

/// What comes back.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The data of server-sent events.
    pub(crate) fn events(&self) -> Vec<String> {
        let text = self.text();
        text.lines().filter_map(|line| line.strip_prefix("data: ")).map(str::to_owned).collect()
    }
}

/// Sends a request and reads to the end.
pub(crate) fn exchange(mut stream: impl Read + Write, request: &[u8]) -> Reply {
    // A service that refuses early closes before it has read all.
    let _ = stream.write_all(request);
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    reply(&bytes)
}

pub(crate) fn reply(bytes: &[u8]) -> Reply {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body = bytes[end + 4..].to_vec();
    let is_chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    Reply { status, head, body: if is_chunked { unchunked(&body) } else { body } }
}

fn unchunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") {
        let len = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        body.extend(&bytes[end + 2..end + 2 + len]);
        bytes = &bytes[end + 2 + len + 2..];
        if len == 0 {
            break;
        }
    }
    body
}
