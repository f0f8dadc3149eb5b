//! Connections: a Unix socket, and TCP where it is configured.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};

use crate::live::Live;
use crate::patience::Patience;
use crate::seats::Seats;

/// Connections at once; for one more, one that asks for nothing is closed.
const MOST_CONNECTIONS: usize = 128;
/// The head of a request must have arrived after this; also ends connections that are kept open without one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest head.
const HEAD_BYTES: usize = 16 << 10;
/// After this, connections that are still busy are cut at the end.
const DRAIN: Duration = Duration::from_secs(20);
/// What accepting waits for after an error, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where clients are expected.
#[derive(Debug)]
pub(crate) struct Listeners {
    unix: UnixListener,
    tcp: Option<TcpListener>,
}

impl Listeners {
    /// Opens them.
    pub(crate) async fn open(socket: &Path, tcp: Option<&str>) -> Result<Self> {
        let unix = bind_unix(socket)
            .with_context(|| format!("[server] socket: {} cannot be opened", socket.display()))?;
        let tcp = match tcp {
            None => None,
            Some(address) => Some(
                TcpListener::bind(address)
                    .await
                    .with_context(|| format!("[server] tcp: {address} cannot be opened"))?,
            ),
        };
        Ok(Self { unix, tcp })
    }

    /// The address that TCP clients are expected at.
    pub(crate) fn tcp_address(&self) -> Option<String> {
        Some(self.tcp.as_ref()?.local_addr().ok()?.to_string())
    }
}

/// Who may open the file may ask: its owner and group.
fn bind_unix(socket: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = socket.parent() {
        std::fs::create_dir_all(folder)?;
    }
    // One that a service left behind that was killed; one that another service uses answers.
    match std::os::unix::net::UnixStream::connect(socket) {
        Ok(_) => return Err(io::Error::new(io::ErrorKind::AddrInUse, "another service uses it")),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(socket)?;
        }
        Err(_) => {}
    }
    let listener = UnixListener::bind(socket)?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

/// Serves until `ends` says so, then lets connections finish. Clients of the Unix socket need no key.
pub(crate) async fn serve(
    listeners: Listeners,
    local: Router,
    remote: Router,
    live: Arc<Live>,
    mut ends: watch::Receiver<bool>,
) {
    let host = Host {
        live,
        room: Arc::new(Semaphore::new(MOST_CONNECTIONS)),
        seats: Seats::default(),
        graceful: GracefulShutdown::new(),
    };
    loop {
        tokio::select! {
            biased;
            _ = ends.changed() => break,
            accepted = listeners.unix.accept() => match accepted {
                Ok((stream, _)) => host.welcome(stream, local.clone()).await,
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            accepted = accept_tcp(listeners.tcp.as_ref()) => match accepted {
                Ok(stream) => host.welcome(stream, remote.clone()).await,
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
        }
    }
    drop(listeners);
    let _ = tokio::time::timeout(DRAIN, host.graceful.shutdown()).await;
}

async fn accept_tcp(listener: Option<&TcpListener>) -> io::Result<tokio::net::TcpStream> {
    match listener {
        Some(listener) => {
            let (stream, _) = listener.accept().await?;
            // A token should leave when it is there.
            stream.set_nodelay(true)?;
            Ok(stream)
        }
        None => std::future::pending().await,
    }
}

/// What connections share.
struct Host {
    live: Arc<Live>,
    room: Arc<Semaphore>,
    seats: Seats,
    graceful: GracefulShutdown,
}

impl Host {
    async fn welcome(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        router: Router,
    ) {
        if self.room.available_permits() == 0 {
            self.seats.clear_one();
        }
        // Where all are being answered, this waits until one has been.
        let Ok(permit) = Arc::clone(&self.room).acquire_owned().await else { return };
        let seat = self.seats.take();
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(HEAD_BYTES)
            .serve_connection(
                TokioIo::new(Patience::new(stream)),
                TowerToHyperService::new(router.layer(Extension(seat.clone()))),
            );
        let connection = self.graceful.watch(connection);
        let live = Arc::clone(&self.live);
        live.connections.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            tokio::select! {
                // What a client does wrong ends its connection, and is nobody else's business.
                _ = connection => {}
                () = seat.asked_to_leave() => {}
            }
            live.connections.fetch_sub(1, Ordering::Relaxed);
            drop(permit);
        });
    }
}
