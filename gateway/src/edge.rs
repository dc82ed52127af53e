//! What all sockets of a gateway share.

use std::sync::Arc;
use std::time::Duration;

use domain::{Epoch, GatewayId};
use issuers::Issuers;
use packer::Pack;
use proto::v1::Closing;
use proto::v1::server_frame::Frame;
use store::Store;
use tokens::{Revocations, TokenKeys};

use crate::changes::Changes;
use crate::receipts::Receipts;
use crate::registry::Registry;
use crate::socket::{Class, Connection, Handler, Outbound};
use crate::users::Users;
use crate::{Config, frames, session};

/// What all sockets of a gateway share; lists are by partition.
#[derive(Debug)]
pub(crate) struct Edge {
    pub(crate) id: GatewayId,
    pub(crate) config: Config,
    pub(crate) keys: TokenKeys,
    pub(crate) issuers: Issuers,
    pub(crate) revocations: Arc<Revocations>,
    pub(crate) store: Store,
    pub(crate) registry: Arc<Registry>,
    pub(crate) pack: Pack,
    pub(crate) receipts: Vec<Arc<Receipts>>,
    pub(crate) epochs: Vec<Epoch>,
    pub(crate) changes: Arc<Changes>,
    pub(crate) users: Arc<Users>,
}

/// Serves sockets with what they share.
#[derive(Debug)]
pub(crate) struct Serve(pub(crate) Arc<Edge>);

impl Handler for Serve {
    fn serve(&self, connection: Connection) -> impl Future<Output = ()> + Send + 'static {
        session::serve(Arc::clone(&self.0), connection)
    }

    fn draining(&self, outbound: &Outbound, closes_in: Duration) {
        let reconnect_after_ms = u32::try_from(closes_in.as_millis()).unwrap_or(u32::MAX);
        let _ = frames::frame(0, Frame::Closing(Closing { reconnect_after_ms })).push(outbound, Class::Ordinary);
    }
}
