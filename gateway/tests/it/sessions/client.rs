//! A scripted client over a foreign WebSocket library.

use std::net::SocketAddr;

use bytes::Bytes;
use domain::ChatId;
use futures_util::{SinkExt, StreamExt};
use gateway::socket::SubProtocol;
use hyper::http::{HeaderName, HeaderValue};
use prost::Message as _;
use proto::v1::client_frame::Frame as Ask;
use proto::v1::server_frame::Frame;
use proto::v1::{self, ClientFrame, ServerFrame};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_websockets::{ClientBuilder, CloseCode, MaybeTlsStream, Message, WebSocketStream};

use super::setup::SOON;

pub(crate) struct Client {
    // Boxed: the library keeps room for TLS in it.
    socket: Box<WebSocketStream<MaybeTlsStream<TcpStream>>>,
    over: SubProtocol,
    pub(crate) hello: v1::Hello,
    pub(crate) session: u64,
    last_id: u64,
}

impl Client {
    /// Connected and greeted, not signed in.
    pub(crate) async fn connect(address: SocketAddr, over: SubProtocol) -> Self {
        let uri = format!("ws://{address}{}", gateway::socket::PATH);
        let protocol = HeaderName::from_static("sec-websocket-protocol");
        let (socket, _) = ClientBuilder::new()
            .uri(&uri)
            .unwrap()
            .add_header(protocol, HeaderValue::from_static(over.name()))
            .unwrap()
            .connect()
            .await
            .unwrap();
        let mut client = Self { socket: Box::new(socket), over, hello: v1::Hello::default(), session: 0, last_id: 0 };
        match client.next().await {
            Ok(ServerFrame { id: 0, frame: Some(Frame::Hello(hello)) }) => client.hello = hello,
            other => panic!("{other:?}"),
        }
        client
    }

    pub(crate) async fn sign_in(&mut self, token: &str) -> v1::Welcome {
        let id = self.ask(authenticate(token)).await;
        match self.next().await {
            Ok(ServerFrame { id: replied, frame: Some(Frame::Welcome(welcome)) }) if replied == id => {
                self.session = welcome.session;
                welcome
            }
            other => panic!("{other:?}"),
        }
    }

    /// Signs in as this device; if refused, the errors and the code of the close frame.
    pub(crate) async fn sign_in_as(&mut self, token: &str, device: &str) -> Result<(), (Vec<v1::Error>, u16)> {
        self.ask(authenticate_as(token, device)).await;
        let mut errors = Vec::new();
        loop {
            match self.next().await {
                Ok(ServerFrame { frame: Some(Frame::Welcome(welcome)), .. }) => {
                    self.session = welcome.session;
                    return Ok(());
                }
                Ok(ServerFrame { frame: Some(Frame::Error(error)), .. }) => errors.push(error),
                Ok(other) => panic!("{other:?}"),
                Err(code) => return Err((errors, code)),
            }
        }
    }

    /// Signs in as this device, to go on with a session.
    pub(crate) async fn come_back(&mut self, token: &str, device: &str, resume: v1::Resume) -> v1::Welcome {
        let resume = Some(resume);
        let sign_in =
            v1::Authenticate { token: token.to_owned(), device: device.to_owned(), resume, ..Default::default() };
        self.ask(Ask::Authenticate(sign_in)).await;
        let welcome =
            self.until(|_, frame| if let Frame::Welcome(welcome) = frame { Some(welcome) } else { None }).await;
        self.session = welcome.session;
        welcome
    }

    /// Ends the session for good.
    pub(crate) async fn leave(&mut self) {
        self.send_message(Message::close(Some(CloseCode::NORMAL_CLOSURE), "")).await;
        while self.next().await.is_ok() {}
    }

    pub(crate) async fn ask(&mut self, frame: Ask) -> u64 {
        self.last_id += 1;
        let id = self.last_id;
        self.send(&ClientFrame { id, frame: Some(frame) }).await;
        id
    }

    pub(crate) async fn send(&mut self, frame: &ClientFrame) {
        self.send_bytes(encoded(self.over, frame)).await;
    }

    /// Sends what may be no frame, in a message of the sub-protocol's kind.
    pub(crate) async fn send_bytes(&mut self, bytes: Bytes) {
        self.send_message(match self.over {
            SubProtocol::Proto => Message::binary(bytes),
            SubProtocol::Json => Message::text(String::from_utf8(bytes.into()).unwrap()),
        })
        .await;
    }

    pub(crate) async fn send_message(&mut self, message: Message) {
        self.socket.send(message).await.unwrap();
    }

    /// The next frame, or the code of the close frame.
    pub(crate) async fn next(&mut self) -> Result<ServerFrame, u16> {
        loop {
            let message = timeout(SOON, self.socket.next()).await.expect("a frame in time");
            let message = message.expect("a close frame before the end").unwrap();
            if let Some((code, _)) = message.as_close() {
                return Err(code.into());
            }
            if message.is_ping() || message.is_pong() {
                continue;
            }
            assert_eq!(message.is_text(), self.over == SubProtocol::Json, "{message:?}");
            return Ok(decoded(self.over, &message.as_payload()[..]));
        }
    }

    /// The next frame that `pick` takes; others are passed over.
    pub(crate) async fn until<T>(&mut self, mut pick: impl FnMut(u64, Frame) -> Option<T>) -> T {
        loop {
            let frame = self.next().await.expect("the socket stays open");
            if let Some(picked) = pick(frame.id, frame.frame.unwrap()) {
                return picked;
            }
        }
    }

    /// The reply to a request: `None` is accepted, else the code of the error.
    pub(crate) async fn reply(&mut self, id: u64) -> Option<v1::ErrorCode> {
        self.answer(id).await.err().map(|error| error.code())
    }

    /// The reply to a request.
    pub(crate) async fn answer(&mut self, id: u64) -> Result<(), v1::Error> {
        loop {
            let (replied, answer) = self.any_answer().await;
            if replied == id {
                return answer;
            }
        }
    }

    /// The next reply to any request.
    pub(crate) async fn any_answer(&mut self) -> (u64, Result<(), v1::Error>) {
        self.until(|replied, frame| match frame {
            Frame::Accepted(_) => Some((replied, Ok(()))),
            Frame::Error(error) => Some((replied, Err(error))),
            _ => None,
        })
        .await
    }

    /// The code of the close frame, with the error frames before it.
    pub(crate) async fn closed(&mut self) -> (Vec<v1::ErrorCode>, u16) {
        let mut errors = Vec::new();
        loop {
            match self.next().await {
                Ok(ServerFrame { frame: Some(Frame::Error(error)), .. }) => errors.push(error.code()),
                Ok(_) => {}
                Err(code) => return (errors, code),
            }
        }
    }
}

/// A client's frame as a message of this sub-protocol.
pub(crate) fn encoded(over: SubProtocol, frame: &ClientFrame) -> Bytes {
    match over {
        SubProtocol::Proto => frame.encode_to_vec().into(),
        SubProtocol::Json => serde_json::to_vec(frame).unwrap().into(),
    }
}

/// The server's frame in a message of this sub-protocol.
pub(crate) fn decoded(over: SubProtocol, payload: &[u8]) -> ServerFrame {
    match over {
        SubProtocol::Proto => ServerFrame::decode(payload).unwrap(),
        SubProtocol::Json => serde_json::from_slice(payload).unwrap(),
    }
}

/// Signs in as a device of its own: two sockets of one device are not open at a time.
pub(crate) fn authenticate(token: &str) -> Ask {
    authenticate_as(token, &format!("test {:016x}", rand::random::<u64>()))
}

pub(crate) fn authenticate_as(token: &str, device: &str) -> Ask {
    Ask::Authenticate(v1::Authenticate { token: token.to_owned(), device: device.to_owned(), ..Default::default() })
}

pub(crate) fn message(chat: ChatId, n: u64, body: impl Into<Bytes>) -> Ask {
    let action = v1::command::Action::SendMessage(v1::SendMessage { body: body.into(), ..v1::SendMessage::default() });
    Ask::Command(v1::Command { chat: chat.to_wire(), origin: 9, n, after: 0, basis: 1, action: Some(action) })
}
