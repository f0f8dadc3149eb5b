//! The service from start to end: who it listens to, and what it tells systemd.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use dynamax_bundle::Hash;
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::watch;

use crate::api::{Shared, router};
use crate::heap;
use crate::job::Budget;
use crate::live::Live;
use crate::loading::Settled;
use crate::server::{Listeners, serve};
use crate::worker::{self, Work};

/// A step that takes longer than this is not getting on: systemd is not told that all is well.
const STUCK: Duration = Duration::from_secs(60);
/// How often the thread that decodes is asked whether it still lives.
const LOOK: Duration = Duration::from_millis(200);

/// Serves until a signal or an error ends it.
pub(crate) fn run(path: &Path, settled: Settled) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the service cannot start")?;
    runtime.block_on(run_async(path, settled))
}

async fn run_async(path: &Path, settled: Settled) -> Result<()> {
    let (server, root) = (settled.config.server.clone(), settled.root.clone());
    let live = Arc::new(Live::new(Budget::of(&settled.config)));
    let (queue, jobs) = channel(server.queue as usize);
    let key = settled.api_key.as_ref().map(|key| Hash::of(key.as_bytes()));
    // Before the model: a socket that cannot be opened should not cost a load.
    let listeners = Listeners::open(&server.socket, server.tcp.as_deref()).await?;
    let address = listeners.tcp_address();
    let worker = Worker::spawn(settled, jobs, &live)?;
    let mut signals = Signals::new()?;
    loop {
        if worker.is_over() {
            return worker.join();
        }
        if live.ready.load(Ordering::Acquire) {
            break;
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            told = signals.next() => if told == Told::End { return Ok(()) },
        }
    }
    say(&[NotifyState::Ready]);
    eprintln!(
        "dynamaxd: listening on {}{}",
        server.socket.display(),
        address.map_or_else(String::new, |address| format!(" and http://{address}"))
    );
    let shared = |key| router(Shared { live: Arc::clone(&live), queue: queue.clone(), key });
    let (end, ends) = watch::channel(false);
    let serving = serve(listeners, shared(None), shared(key), Arc::clone(&live), ends);
    let serving = tokio::spawn(serving);
    watch_over((path, &root), &live, &queue, &worker, &mut signals).await;
    say(&[NotifyState::Stopping]);
    live.draining.store(true, Ordering::Relaxed);
    let _ = end.send(true);
    let _ = serving.await;
    // Connections have finished, or had their time.
    live.cut();
    let _ = queue.send(Work::End).await;
    let _ = std::fs::remove_file(&server.socket);
    worker.join()
}

/// Until the end: passes signals on, and tells systemd that all is well while it is.
async fn watch_over(
    paths: (&Path, &Path),
    live: &Live,
    queue: &Sender<Work>,
    worker: &Worker,
    signals: &mut Signals,
) {
    let mut watchdog = sd_notify::watchdog_enabled()
        .map(|interval| tokio::time::interval((interval / 2).max(Duration::from_millis(100))));
    loop {
        let tick = async {
            match &mut watchdog {
                Some(watchdog) => drop(watchdog.tick().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = tick => {
                if live.stuck_for() < STUCK && !worker.is_over() {
                    say(&[NotifyState::Watchdog]);
                }
            }
            () = tokio::time::sleep(LOOK) => {
                if worker.is_over() {
                    return;
                }
                heap::tend();
            }
            told = signals.next() => match told {
                Told::End => return,
                Told::Reload => reload(paths, live, queue).await,
            },
        }
    }
}

async fn reload((path, root): (&Path, &Path), live: &Live, queue: &Sender<Work>) {
    match Settled::read(path, root) {
        Ok(settled) => {
            live.totals().budget = Budget::of(&settled.config);
            let _ = queue.send(Work::Reload(Box::new(settled))).await;
        }
        Err(error) => eprintln!("dynamaxd: not reloaded: {error:#}"),
    }
}

/// Tells systemd, if it asked to be told.
fn say(states: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(states);
}

/// Signals that are listened to.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    reload: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let listen = |kind| signal(kind).context("signals cannot be listened to");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            reload: listen(SignalKind::hangup())?,
        })
    }

    /// The next one.
    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::End,
            _ = self.interrupt.recv() => Told::End,
            _ = self.reload.recv() => Told::Reload,
        }
    }
}

/// What a signal says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    End,
    Reload,
}

/// The thread that decodes.
struct Worker(JoinHandle<Result<()>>);

impl Worker {
    fn spawn(settled: Settled, jobs: Receiver<Work>, live: &Arc<Live>) -> Result<Self> {
        let live = Arc::clone(live);
        let body = move || worker::run(settled, jobs, &live);
        let thread = std::thread::Builder::new().name("decode".into()).spawn(body);
        Ok(Self(thread.context("the thread that decodes cannot start")?))
    }

    fn is_over(&self) -> bool {
        self.0.is_finished()
    }

    fn join(self) -> Result<()> {
        self.0.join().map_err(|_| anyhow!("the thread that decodes has panicked"))?
    }
}
