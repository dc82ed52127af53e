//! Packs the commands of one partition into its log, and tells their senders that they are in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use domain::{Code, Epoch, GatewayId, Partition, SessionId, crash_point};
use event_log::{Log, PublishError};
use futures_util::future::{BoxFuture, FutureExt as _, pending};
use metrics::counter;
use proto::v1::Accepted;
use proto::v1::server_frame::Frame;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::frames;
use crate::machine::{Packer, PackerAction, PackerInput, Waiting};
use crate::registry::Registry;
use crate::socket::Class;

/// Commands between the sockets and the packer; what waits longer waits in the packer.
const INBOX: usize = 4_096;
/// The same in bytes (N9).
const INBOX_BYTES: usize = 4 << 20;
/// How long a gateway that leaves goes on publishing what its sockets gave; the rest is asked again elsewhere.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);

/// A partition's way into the log.
#[derive(Clone, Debug)]
pub(crate) struct Pack {
    inbox: mpsc::Sender<Waiting>,
    bytes: Arc<AtomicUsize>,
}

impl Pack {
    /// Hands a command over; false: there is no room, its sender must come back later.
    pub(crate) fn put(&self, command: Waiting) -> bool {
        let bytes = command.bytes.len();
        let had_room = self.bytes.fetch_add(bytes, Ordering::Relaxed) < INBOX_BYTES;
        let is_taken = had_room && self.inbox.try_send(command).is_ok();
        if !is_taken {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        is_taken
    }
}

/// The way in, and the task that serves it until shut down.
pub(crate) fn pack(
    (partition, epoch): (Partition, Epoch),
    gateway: GatewayId,
    log: Log,
    registry: Arc<Registry>,
    shutdown: CancellationToken,
) -> (Pack, impl Future<Output = ()>) {
    let (inbox, commands) = mpsc::channel(INBOX);
    let bytes = Arc::new(AtomicUsize::new(0));
    let pack = Pack { inbox, bytes: Arc::clone(&bytes) };
    (pack, serve((partition, epoch), gateway, log, registry, commands, bytes, shutdown))
}

async fn serve(
    (partition, epoch): (Partition, Epoch),
    gateway: GatewayId,
    log: Log,
    registry: Arc<Registry>,
    mut commands: mpsc::Receiver<Waiting>,
    bytes: Arc<AtomicUsize>,
    shutdown: CancellationToken,
) {
    let mut packer = Packer::new(epoch);
    let mut arrived = Vec::with_capacity(INBOX);
    let mut actions = Vec::new();
    let mut publishing: BoxFuture<'static, PackerInput> = pending().boxed();
    // The sockets are gone first and with them the senders; what they gave still goes into the log.
    let leave = async {
        shutdown.cancelled().await;
        sleep(LEAVE_WITHIN).await;
    };
    tokio::pin!(leave);
    let mut open = true;
    while open || !packer.is_idle() {
        let input = tokio::select! {
            // All that waits goes into one record.
            count = commands.recv_many(&mut arrived, INBOX), if open => {
                open = count > 0;
                for command in arrived.drain(..) {
                    bytes.fetch_sub(command.bytes.len(), Ordering::Relaxed);
                    packer.handle(PackerInput::Command(command), &mut actions);
                }
                PackerInput::Go
            }
            answered = &mut publishing => {
                publishing = pending().boxed();
                answered
            }
            () = &mut leave => return,
        };
        packer.handle(input, &mut actions);
        for action in actions.drain(..) {
            match action {
                PackerAction::Publish { number, payload } => {
                    crash_point("gateway.before_publish");
                    let (log, message_id) = (log.clone(), format!("{gateway}-{partition}-{number}"));
                    publishing = async move {
                        match log.publish_commands(partition, payload, &message_id).await {
                            Ok(_) => {
                                crash_point("gateway.published");
                                PackerInput::Acknowledged
                            }
                            Err(PublishError::Timeout { .. } | PublishError::Lost) => PackerInput::InDoubt,
                            Err(PublishError::Full | PublishError::TooLarge { .. }) => PackerInput::Refused,
                        }
                    }
                    .boxed();
                }
                PackerAction::Accepted(asked) => {
                    for (session, request) in asked {
                        let frame = frames::frame(request, Frame::Accepted(Accepted {}));
                        registry.push([SessionId(session)], &frame, Class::Ordinary);
                    }
                }
                PackerAction::Busy(asked) => {
                    counter!("gateway_commands_busy_total").increment(asked.len() as u64);
                    for (session, request) in asked {
                        registry.push([SessionId(session)], &frames::error(request, Code::Busy), Class::Ordinary);
                    }
                }
            }
        }
    }
}
