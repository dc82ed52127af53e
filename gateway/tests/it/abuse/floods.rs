//! Small frames in great numbers: pings and fragments cost more than they carry.

use gateway::limits::Rate;
use gateway::socket::{CloseCode, Closed};

use super::limited;
use crate::socket::peer::{Behaviour, Gateway, frame};

/// How a socket ends that sends these bytes so many times, then a message; none if it hears the message.
async fn flood(bytes: &[u8], times: usize, extra_frames: Rate) -> Option<u16> {
    let mut gateway = Gateway::start(limited(|limits| limits.socket_extra_frames = extra_frames), Behaviour::Trust);
    let (mut healthy, mut healthy_opened) = gateway.open().await;
    let (client, mut opened) = gateway.open().await;
    let flood = [bytes.repeat(times), frame(0x82, b"the end")].concat();
    let (reading, mut writing) = client.stream.into_split();
    // Its pongs must be read, or it would be slow.
    let reading = tokio::spawn(async move {
        let mut reading = reading;
        tokio::io::copy(&mut reading, &mut tokio::io::sink()).await
    });
    // One that is closed while it sends may see its last bytes refused.
    let sending = tokio::spawn(async move {
        let _ = tokio::io::AsyncWriteExt::write_all(&mut writing, &flood).await;
        writing
    });
    let ended = loop {
        match opened.next().await {
            Ok(message) if message.payload == "the end" => break None,
            Ok(_) => {}
            Err(Closed::ByServer(code)) => break Some(code.number()),
            Err(other) => panic!("{other:?}"),
        }
    };
    healthy.send(&frame(0x82, b"still here")).await;
    assert_eq!(healthy_opened.message().await.payload, "still here");
    drop((reading, sending));
    ended
}

#[tokio::test]
async fn x13_a_flood_of_control_frames_closes_the_socket() {
    let limit = Rate { per_s: 20, burst: 512 };
    for bytes in [frame(0x89, b"ping"), frame(0x8a, b""), frame(0x89, &[b'p'; 125])] {
        assert_eq!(flood(&bytes, 2_000, limit).await, Some(CloseCode::PolicyViolation.number()));
        assert_eq!(flood(&bytes, 500, limit).await, None, "what is allowed passes");
        assert_eq!(flood(&bytes, 2_000, Rate::MAX).await, None, "control: all are read, and pings answered");
    }
}

#[tokio::test]
async fn x13_a_flood_of_tiny_fragments_closes_the_socket() {
    let limit = Rate { per_s: 20, burst: 512 };
    // Each message is within the bound on its fragments.
    let message = [frame(0x02, b""), frame(0x00, b"").repeat(126), frame(0x80, b"x")].concat();
    assert_eq!(flood(&message, 20, limit).await, Some(CloseCode::PolicyViolation.number()));
    assert_eq!(flood(&message, 4, limit).await, None, "what is allowed passes");
    assert_eq!(flood(&message, 20, Rate::MAX).await, None, "control: all are joined");
    // And one that never ends is ended by the bound itself.
    let endless = [frame(0x02, b""), frame(0x00, b"").repeat(10_000)].concat();
    assert_eq!(flood(&endless, 1, Rate::MAX).await, Some(CloseCode::PolicyViolation.number()));
}
