//! Frames that are none, or too many, or too large: refused by their header, with the code that says why.

use gateway::socket::CloseCode;
use gateway::socket::frame_guard::{FrameGuard, Limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::stock::{Got, Stock};
use crate::socket::peer::{Behaviour, Gateway, MASK, RawClient, config, frame};

struct Case {
    name: &'static str,
    bytes: Vec<u8>,
    code: CloseCode,
    /// Whether the control, without our guard, gives out a message as if nothing had happened.
    slips_through: bool,
}

fn cases() -> Vec<Case> {
    let head = |bytes: &[u8]| [bytes, &MASK].concat();
    let after = frame(0x82, b"after");
    let case = |name, bytes: Vec<u8>, code, slips_through| Case { name, bytes, code, slips_through };
    vec![
        case("fragments over the limit", fragments(&[60_000, 6_000]), CloseCode::TooBig, true),
        case("message over the limit", head(&[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 1]), CloseCode::TooBig, false),
        case(
            "63-bit length",
            head(&[0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            CloseCode::TooBig,
            false,
        ),
        case("more fragments than allowed", fragments(&[1; 129]), CloseCode::PolicyViolation, true),
        case("unmasked", vec![0x82, 1, b'x'], CloseCode::ProtocolError, true),
        case("reserved bit", frame(0xc2, b"x"), CloseCode::ProtocolError, false),
        case("ping of 126 bytes", [frame(0x89, &[0; 126]), after.clone()].concat(), CloseCode::ProtocolError, false),
        case("pong of 126 bytes", [frame(0x8a, &[0; 126]), after.clone()].concat(), CloseCode::ProtocolError, true),
        case("ping in fragments", [frame(0x09, b"x"), after].concat(), CloseCode::ProtocolError, false),
        case(
            "message inside a fragmented one",
            [frame(0x02, b"a"), frame(0x02, b"b"), frame(0x80, b"c")].concat(),
            CloseCode::ProtocolError,
            true,
        ),
    ]
}

/// One message in pieces of these lengths.
fn fragments(lens: &[usize]) -> Vec<u8> {
    let last = lens.len() - 1;
    let first = |at| if at == last { 0x80 } else { 0 } | if at == 0 { 2 } else { 0 };
    lens.iter().enumerate().flat_map(|(at, len)| frame(first(at), &vec![7; *len])).collect()
}

#[tokio::test]
async fn x14_each_bad_frame_is_refused_with_its_code() {
    let mut gateway = Gateway::start(config(), Behaviour::Trust);
    let mut stock = Stock::start().await;
    for Case { name, bytes, code, slips_through } in cases() {
        let (mut client, mut opened) = gateway.open().await;
        client.send(&bytes).await;
        assert_eq!(client.close_code().await, code.number(), "{name}");
        assert_eq!(opened.closed().await, gateway::socket::Closed::ByServer(code), "{name}");

        let mut client = RawClient::connect(stock.address).await;
        assert!(client.asks("").await.starts_with("http/1.1 101 "));
        client.send(&bytes).await;
        client.stream.shutdown().await.unwrap();
        let got = stock.got().await;
        assert_eq!(got != Got::End, slips_through, "control, {name}: {got:?}");
        if got != Got::End {
            assert_eq!(stock.got().await, Got::End, "{name}");
        }
    }
}

#[test]
fn x14_a_header_alone_allocates_nothing() {
    let limits = Limits { message_bytes: 65_536, fragments: 128 };
    let mut guard = FrameGuard::new(limits);
    let whole = frame(0x02, &[7; 60_000]);
    guard.next(&mut &whole[..8]).unwrap();
    assert_eq!(guard.held_bytes(), 0, "60,000 bytes are claimed, none has come");
    guard.next(&mut &whole[8..1_008]).unwrap();
    assert!(guard.held_bytes() <= 2_000, "{} for 1,000 that came", guard.held_bytes());
    // Control: what came for real is held.
    guard.next(&mut &whole[1_008..]).unwrap();
    assert!(guard.held_bytes() >= 60_000);
}

/// A server that agrees to whatever extension is offered, as far as its answer goes.
async fn agreeable() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") && stream.read_buf(&mut request).await.is_ok_and(|read| read > 0) {}
            let request = String::from_utf8(request).unwrap();
            let offer = request.lines().find(|line| line.starts_with("Sec-WebSocket-Extensions:"));
            let answer = format!("HTTP/1.1 101 Switching Protocols\r\n{}\r\n\r\n", offer.unwrap_or("No-Offer: 1"));
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn x15_compression_is_never_negotiated() {
    let gateway = Gateway::start(config(), Behaviour::Trust);
    let control = agreeable().await;
    let offers = [
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits; server_no_context_takeover",
        "x-webkit-deflate-frame, permessage-deflate",
        "permessage-bzip2",
    ];
    for offer in offers {
        let change = format!("Sec-WebSocket-Extensions: {offer}");
        let mut client = RawClient::connect(gateway.address).await;
        let head = client.asks(&change).await;
        assert!(head.starts_with("http/1.1 101 ") && !head.contains("sec-websocket-extensions"), "{offer}: {head}");
        // A compressed frame, sent all the same, is not inflated.
        client.send(&frame(0xc2, &[0xca, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00])).await;
        assert_eq!(client.close_code().await, CloseCode::ProtocolError.number());

        let head = RawClient::connect(control).await.asks(&change).await;
        assert!(head.contains("sec-websocket-extensions"), "control: {head}");
    }
}
