//! The control of framing and of the upgrade: fastwebsockets as its documentation has it, without our guard.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::SocketAddr;

use fastwebsockets::{FragmentCollector, OpCode};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::socket::peer::within;

/// What its reader gives out: a message's length, or the end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Got {
    Message(usize),
    End,
}

/// A server that takes any upgrade, and any message up to 64 KiB.
pub(super) struct Stock {
    pub(super) address: SocketAddr,
    got: mpsc::UnboundedReceiver<Got>,
}

impl Stock {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, got) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let sender = sender.clone();
                let service = service_fn(move |request| upgrade(request, sender.clone()));
                let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades();
                tokio::spawn(serving);
            }
        });
        Self { address, got }
    }

    pub(super) async fn got(&mut self) -> Got {
        within(self.got.recv()).await.unwrap()
    }
}

fn upgrade(
    mut request: Request<Incoming>,
    sender: mpsc::UnboundedSender<Got>,
) -> Ready<Result<Response<Empty<Bytes>>, Infallible>> {
    let (response, upgrading) = fastwebsockets::upgrade::upgrade(&mut request).unwrap();
    tokio::spawn(async move {
        let mut socket = upgrading.await.unwrap();
        socket.set_max_message_size(65_536);
        let mut socket = FragmentCollector::new(socket);
        while let Ok(frame) = socket.read_frame().await {
            match frame.opcode {
                OpCode::Close => break,
                OpCode::Text | OpCode::Binary => {
                    let _ = sender.send(Got::Message(frame.payload.len()));
                }
                OpCode::Continuation | OpCode::Ping | OpCode::Pong => {}
            }
        }
        let _ = sender.send(Got::End);
    });
    ready(Ok(response))
}
