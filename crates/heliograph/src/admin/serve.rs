//! Connections of the admin listeners: one request each, every wait bounded.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::{IntoResponse as _, Response};
use axum::serve::Listener;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics::counter;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::refusal::Refusal;

/// Connections at a time; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 64;
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// Most bytes of a request's head; hyper takes no smaller buffer.
const HEAD_BYTES_MAX: usize = 8 * 1024;
/// Of an answer; what was asked goes on to its end.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Of a connection in all, so that whoever does not read takes no place for ever.
const CONNECTION_LASTS: Duration = Duration::from_mins(1);
/// How long what is under way may go on at shutdown.
const DRAIN: Duration = Duration::from_secs(2);

/// Who asks: the user of the process at the other end, where the kernel tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Peer(pub(super) Option<u32>);

/// Serves until shut down, then finishes what is under way.
pub(super) async fn serve<L: Listener>(
    mut listener: L,
    router: Router,
    peer: fn(&L::Io) -> Peer,
    shutdown: CancellationToken,
) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let connections = TaskTracker::new();
    loop {
        let accepted = async {
            let permit = Arc::clone(&room).acquire_owned().await;
            (permit, listener.accept().await.0)
        };
        let Some((permit, stream)) = shutdown.run_until_cancelled(accepted).await else { break };
        let (router, peer) = (router.clone(), peer(&stream));
        connections.spawn(async move {
            let _permit = permit;
            let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
                let router = router.clone();
                async move {
                    request.extensions_mut().insert(peer);
                    Ok::<_, Infallible>(answer(router, request.map(axum::body::Body::new)).await)
                }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_WITHIN)
                .max_buf_size(HEAD_BYTES_MAX)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            match timeout(CONNECTION_LASTS, connection).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a connection failed"),
                Err(_late) => counter!("admin_connections_dropped_total").increment(1),
            }
        });
    }
    drop(listener);
    connections.close();
    if timeout(DRAIN, connections.wait()).await.is_err() {
        tracing::info!(connections = connections.len(), "requests of operators did not end in time");
    }
}

/// In a task of its own, which goes on to its end whoever hangs up: nothing is left half done.
async fn answer(router: Router, request: axum::extract::Request) -> Response {
    let answering = tokio::spawn(async move {
        match router.oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    });
    match timeout(ANSWER_WITHIN, answering).await {
        Ok(Ok(response)) => response,
        Ok(Err(_panicked)) => Refusal::Fault("a fault of the server; see its log".to_owned()).into_response(),
        Err(_late) => {
            let text = format!("not done within {ANSWER_WITHIN:?}, and perhaps still under way: ask again");
            Refusal::Unavailable(text).into_response()
        }
    }
}
