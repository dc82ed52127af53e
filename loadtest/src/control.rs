//! What this machine gives without us: the raw broker and a bare socket, measured beside us in the same run.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::stream::{Config, DiscardPolicy, Stream};
use async_nats::jetstream::{self};
use async_nats::{Client, Subscriber};
use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use hdrhistogram::Histogram;
use testkit::nats::Sync;
use testkit::{NatsOptions, NatsServer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::fleet::BODY_BYTES;

/// Publishes that wait for their acknowledgement.
const WINDOW: usize = 1_024;
const SUBJECT: &str = "control";
const CORE_SUBJECT: &str = "core";
/// What is published beyond this pushes out the oldest.
const STREAM_BYTES: i64 = 1 << 30;
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// A broker with one stream on disk.
pub(crate) struct Control {
    // Its process ends with it.
    _server: NatsServer,
    publisher: Client,
    consumer: Client,
    stream: Stream,
}

/// Medians of one message's hops, in ns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hops {
    /// From a JetStream publish until its pull consumer has it.
    pub(crate) publish_to_pull: u64,
    /// From a core publish until its subscriber has it.
    pub(crate) core: u64,
    /// To a bare echo over TCP and back.
    pub(crate) echo: u64,
}

impl Hops {
    /// What the path of a message is made of.
    pub(crate) fn sum(self) -> u64 {
        2 * self.publish_to_pull + self.core + self.echo
    }
}

impl Control {
    /// Starts the broker.
    pub(crate) async fn start(sync: Sync) -> Result<Self> {
        let server = NatsServer::start(NatsOptions::default().sync(sync)).await?;
        let publisher = async_nats::connect(server.url()).await?;
        let consumer = async_nats::connect(server.url()).await?;
        let config = Config {
            name: "CONTROL".to_owned(),
            subjects: vec![SUBJECT.to_owned()],
            max_bytes: STREAM_BYTES,
            discard: DiscardPolicy::Old,
            ..Config::default()
        };
        let stream = jetstream::new(publisher.clone()).create_stream(config).await?;
        Ok(Self { _server: server, publisher, consumer, stream })
    }

    /// Acknowledged JetStream publishes a second.
    pub(crate) async fn publishes(&self, time: Duration) -> Result<f64> {
        let context = jetstream::new(self.publisher.clone());
        let payload = Bytes::from(vec![7; BODY_BYTES]);
        let mut waiting = FuturesUnordered::new();
        let (begun, mut acknowledged) = (Instant::now(), 0_u64);
        loop {
            while waiting.len() < WINDOW && begun.elapsed() < time {
                waiting.push(context.publish(SUBJECT, payload.clone()).await?.into_future());
            }
            let Some(first) = waiting.next().await else { break };
            first?;
            acknowledged += 1;
            // What else has come meanwhile makes room too.
            while let Some(Some(next)) = waiting.next().now_or_never() {
                next?;
                acknowledged += 1;
            }
        }
        Ok(acknowledged as f64 / begun.elapsed().as_secs_f64())
    }

    /// The hops' medians at `rate` messages a second, one hop after the other.
    pub(crate) async fn hops(&self, rate: f64, time: Duration) -> Result<Hops> {
        let count = (rate * time.as_secs_f64()) as u64;
        let birth = Instant::now();
        let config = pull::Config {
            deliver_policy: DeliverPolicy::New,
            ack_policy: AckPolicy::None,
            max_batch: 1_024,
            ..pull::Config::default()
        };
        // Reads on a connection of its own, as the roles do.
        let from = jetstream::new(self.consumer.clone());
        let stream = from.get_stream(self.stream.cached_info().config.name.clone()).await?;
        let mut pulled = stream.create_consumer(config).await?.messages().await?;
        let sending = tokio::spawn(paced(birth, rate, count, {
            let context = jetstream::new(self.publisher.clone());
            move |payload| {
                let context = context.clone();
                async move {
                    let acknowledged = context.publish(SUBJECT, payload).await?;
                    tokio::spawn(acknowledged.into_future());
                    Ok(())
                }
            }
        }));
        let mut publish_to_pull = Histogram::new(3)?;
        for _ in 0..count {
            let message = timeout(ANSWERS_WITHIN, pulled.next()).await?.context("the consumer ended")??;
            record(&mut publish_to_pull, birth, &message.payload)?;
        }
        sending.await??;

        let mut subscriber: Subscriber = self.consumer.subscribe(CORE_SUBJECT).await?;
        self.consumer.flush().await?;
        let sending = tokio::spawn(paced(birth, rate, count, {
            let client = self.publisher.clone();
            move |payload| {
                let client = client.clone();
                async move { Ok(client.publish(CORE_SUBJECT, payload).await?) }
            }
        }));
        let mut core = Histogram::new(3)?;
        for _ in 0..count {
            let message = timeout(ANSWERS_WITHIN, subscriber.next()).await?.context("the subscription ended")?;
            record(&mut core, birth, &message.payload)?;
        }
        sending.await??;
        let echo = echo(birth, rate, count).await?;
        Ok(Hops {
            publish_to_pull: publish_to_pull.value_at_quantile(0.5),
            core: core.value_at_quantile(0.5),
            echo: echo.value_at_quantile(0.5),
        })
    }
}

/// Sends on the same schedule as the fleet; each message carries when it was handed over.
async fn paced<F: Future<Output = Result<()>>>(
    birth: Instant,
    rate: f64,
    count: u64,
    mut send: impl FnMut(Bytes) -> F,
) -> Result<()> {
    let (due, mut dues) = mpsc::unbounded_channel();
    let start = birth.elapsed();
    thread::spawn(move || {
        for number in 0..count {
            let at = start + Duration::from_secs_f64(number as f64 / rate);
            thread::sleep(at.saturating_sub(birth.elapsed()));
            if due.send(()).is_err() {
                return;
            }
        }
    });
    while dues.recv().await.is_some() {
        let mut payload = BytesMut::zeroed(BODY_BYTES);
        (&mut payload[..8]).put_u64(u64::try_from(birth.elapsed().as_nanos())?);
        send(payload.freeze()).await?;
    }
    Ok(())
}

fn record(histogram: &mut Histogram<u64>, birth: Instant, payload: &[u8]) -> Result<()> {
    let sent = u64::from_be_bytes(payload.get(..8).and_then(|bytes| bytes.try_into().ok()).context("too short")?);
    histogram.record(u64::try_from(birth.elapsed().as_nanos())?.saturating_sub(sent))?;
    Ok(())
}

/// A bare echo in a thread of its own, asked on the same schedule.
async fn echo(birth: Instant, rate: f64, count: u64) -> Result<Histogram<u64>> {
    let address = echo_server()?;
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut read, write) = stream.into_split();
    let write = std::sync::Arc::new(tokio::sync::Mutex::new(write));
    let sending = tokio::spawn(paced(birth, rate, count, move |payload| {
        let write = write.clone();
        async move { Ok(write.lock().await.write_all(&payload).await?) }
    }));
    let mut histogram = Histogram::new(3)?;
    let mut answer = [0; BODY_BYTES];
    for _ in 0..count {
        timeout(ANSWERS_WITHIN, read.read_exact(&mut answer)).await??;
        record(&mut histogram, birth, &answer)?;
    }
    sending.await??;
    Ok(histogram)
}

fn echo_server() -> Result<SocketAddr> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::spawn(move || {
        runtime.block_on(async {
            let (mut stream, _) = TcpListener::from_std(listener)?.accept().await?;
            stream.set_nodelay(true)?;
            let mut bytes = [0; 16 << 10];
            loop {
                let count = stream.read(&mut bytes).await?;
                let Some(read @ [_, ..]) = bytes.get(..count) else { return std::io::Result::Ok(()) };
                stream.write_all(read).await?;
            }
        })
    });
    Ok(address)
}
