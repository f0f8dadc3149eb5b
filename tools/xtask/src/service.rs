//! A device service that is started to be looked at: its process, and a client of it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use ureq::http::{Request, Response};
use ureq::{Agent, Body};

use crate::tidy::root;

/// Longest that one answer may take, in emulation too.
const PATIENCE: Duration = Duration::from_secs(180);

/// A running service; it is ended when this is dropped.
#[derive(Debug)]
pub(crate) struct Service {
    child: Child,
    /// Host and port of its HTTP.
    pub(crate) address: String,
}

impl Service {
    /// Starts `command`, and waits until it says where it listens.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let child = command.env_remove("NOTIFY_SOCKET").stderr(Stdio::piped()).spawn();
        let child = child.with_context(|| format!("{command:?} cannot be run"))?;
        let mut service = Self { child, address: String::new() };
        let mut said = BufReader::new(service.child.stderr.take().context("stderr")?);
        loop {
            let mut line = String::new();
            if said.read_line(&mut line).context("stderr of the service")? == 0 {
                bail!("the service ended before it listened");
            }
            eprint!("  {line}");
            if let Some((_, address)) = line.trim().split_once("http://") {
                address.clone_into(&mut service.address);
                break;
            }
        }
        std::thread::spawn(move || {
            for line in said.lines().map_while(Result::ok) {
                eprintln!("  {line}");
            }
        });
        Ok(service)
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// A client of it.
    pub(crate) fn client(&self) -> Client {
        Client::new(&self.address, None)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes a `device.toml` for a service on loopback, with its slots in `folder`.
pub(crate) fn configure(folder: &Path, more: &str) -> Result<()> {
    let (slots, socket) = (folder.join("slots"), folder.join("d.sock"));
    let text = format!(
        "[device]\nthreads = 1\n\n[model]\nslots = {slots:?}\ncontext = 2048\n\n[server]\nsocket = {socket:?}\n\
         tcp = \"127.0.0.1:0\"\n{more}"
    );
    std::fs::write(folder.join("device.toml"), text).context("device.toml")
}

/// A program of this workspace, built in the release profile.
pub(crate) fn build(package: &str) -> Result<std::path::PathBuf> {
    println!("$ cargo build --release -p {package}");
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "-p", package]).current_dir(root());
    let status = cargo.status().context("cargo cannot be run")?;
    ensure!(status.success(), "{package} does not build");
    Ok(target_folder().join("release").join(package))
}

/// Where cargo puts what it builds.
pub(crate) fn target_folder() -> std::path::PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), Into::into)
}

/// Asks a service over HTTP.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    agent: Agent,
    base: String,
    key: Option<String>,
}

impl Client {
    /// A client of the service at `address`, which presents `key`.
    pub(crate) fn new(address: &str, key: Option<&str>) -> Self {
        let config = Agent::config_builder().timeout_global(Some(PATIENCE));
        let agent = config.http_status_as_error(false).build().into();
        Self { agent, base: format!("http://{address}"), key: key.map(str::to_owned) }
    }

    /// Sends `body`: status and answer.
    fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Response<Body>> {
        let key = format!("Bearer {}", self.key.as_deref().unwrap_or_default());
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("Authorization", key)
            .header("Content-Type", "application/json")
            .body(body.map(Value::to_string).unwrap_or_default())?;
        self.agent.run(request).with_context(|| format!("{method} {path}"))
    }

    /// The text of a page.
    pub(crate) fn get(&self, path: &str) -> Result<String> {
        self.taken("GET", path, None)
    }

    /// Puts `body`, which must be taken.
    pub(crate) fn put(&self, path: &str, body: &Value) -> Result<()> {
        self.taken("PUT", path, Some(body)).map(drop)
    }

    fn taken(&self, method: &str, path: &str, body: Option<&Value>) -> Result<String> {
        let mut reply = self.send(method, path, body)?;
        let text = reply.body_mut().read_to_string()?;
        ensure!(reply.status() == 200, "{method} {path}: {}: {text}", reply.status());
        Ok(text)
    }

    /// The value of a metric.
    pub(crate) fn metric(&self, name: &str) -> Result<f64> {
        let page = self.get("/metrics")?;
        let found = page.lines().find_map(|line| line.strip_prefix(&format!("dynamax_{name} ")));
        Ok(found.with_context(|| format!("no dynamax_{name} among the metrics"))?.parse()?)
    }

    /// Posts `body`: status and text of the answer.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<(u16, String)> {
        let mut reply = self.send("POST", path, Some(body))?;
        let text = reply.body_mut().read_to_string()?;
        Ok((reply.status().as_u16(), text))
    }

    /// Posts `body` and hands on every event of the stream that comes back, until `takes` has enough.
    pub(crate) fn stream(
        &self,
        path: &str,
        body: &Value,
        mut takes: impl FnMut(&Value) -> bool,
    ) -> Result<()> {
        let mut reply = self.send("POST", path, Some(body))?;
        if reply.status() != 200 {
            bail!("POST {path}: {}: {}", reply.status(), reply.body_mut().read_to_string()?);
        }
        let mut is_whole = false;
        for line in BufReader::new(reply.body_mut().as_reader()).lines() {
            let line = line?;
            let Some(data) = line.strip_prefix("data: ") else { continue };
            is_whole = data == "[DONE]";
            if !is_whole && !takes(&serde_json::from_str(data)?) {
                return Ok(());
            }
        }
        ensure!(is_whole, "POST {path}: the stream ended early");
        Ok(())
    }
}
