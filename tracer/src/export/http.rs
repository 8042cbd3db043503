//! The endpoint for scrapers: HTTP/1.1, GET only. Connections, their time and their size are bounded: a client that opens many, or
//! sends nothing, waits or is closed.

use std::{convert::Infallible, net::TcpListener, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ACCEPT, CONTENT_TYPE},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::TcpStream,
    sync::Semaphore,
    time::{sleep, timeout},
};

use super::{registry::Format, shared::Shared};

/// Most connections at a time. A node has one scraper, perhaps two, and a probe of the kubelet.
const CONNECTIONS: usize = 16;
/// Longest time for the head of a request.
const HEAD_WITHIN: Duration = Duration::from_secs(5);
/// Longest time of a connection: longer than the timeout of a scrape (Prometheus: ten seconds).
const CONNECTION_WITHIN: Duration = Duration::from_secs(15);
/// Largest head of a request, in bytes: hyper's least.
const HEAD_BYTES: usize = 8 << 10;
/// Pause after a failure to accept: usually the process has no descriptor left.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves the endpoint for ever.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::warn!(%error, "metrics are not served"),
    };
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _client)) => {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    converse(stream, shared).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a connection to the metrics was not accepted");
                sleep(PAUSE).await;
            }
        }
    }
}

/// Answers one request on this connection.
async fn converse(stream: TcpStream, shared: Arc<Shared>) {
    let service = service_fn(move |request| {
        let answer = answer(&request, &shared);
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_buf_size(HEAD_BYTES).keep_alive(false);
    let connection = server.serve_connection(TokioIo::new(stream), service);
    match timeout(CONNECTION_WITHIN, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection to the metrics failed"),
        Err(_elapsed) => tracing::debug!("a connection to the metrics took too long"),
    }
}

fn answer(request: &Request<Incoming>, shared: &Arc<Shared>) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "use GET\n");
    }
    match request.uri().path() {
        "/metrics" => {
            let format = Format::of(request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok()));
            match shared.scrape(format) {
                Ok(text) => with_type(Response::new(Full::new(text.into())), format.content_type()),
                Err(_error) => plain(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written\n"),
            }
        }
        "/healthz" => plain(StatusCode::OK, "ok\n"),
        "/readyz" if shared.is_ready() => plain(StatusCode::OK, "ok\n"),
        "/readyz" => plain(StatusCode::SERVICE_UNAVAILABLE, "the probes are not attached yet\n"),
        _ => plain(StatusCode::NOT_FOUND, "use /metrics, /healthz or /readyz\n"),
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    with_type(response, "text/plain; charset=utf-8")
}

fn with_type(mut response: Response<Full<Bytes>>, content_type: &'static str) -> Response<Full<Bytes>> {
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
    response
}
