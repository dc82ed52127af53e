//! The gateway as a whole: bound first, then run.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::GatewayId;
use event_log::{Log, Subject};
use issuers::Issuers;
use packer::pack;
use store::Store;
use tokens::{Control, Revocations, TokenKeys};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::changes::Changes;
use crate::edge::{Edge, Serve};
use crate::heads::Heads;
use crate::receipts::Receipts;
use crate::registry::Registry;
use crate::relay::{Relay, answers};
use crate::socket::{Acceptor, CertificateReload, CloseCode};
use crate::users::Users;
use crate::{Config, Error};

/// What a gateway works with.
#[derive(Clone, Debug)]
pub struct Dependencies {
    /// The log.
    pub log: Log,
    /// The store, for history, heads and direct chats.
    pub store: Store,
    /// Checks tokens.
    pub keys: TokenKeys,
    /// Whose tokens are good beside this deployment's own.
    pub issuers: Issuers,
}

/// A gateway whose address is bound.
#[derive(Debug)]
pub struct Gateway {
    config: Config,
    dependencies: Dependencies,
    /// Boxed: it is large, and futures hold it.
    acceptor: Box<Acceptor>,
    accepts: CancellationToken,
}

impl Gateway {
    /// Binds the address; nothing is accepted yet.
    ///
    /// # Errors
    /// [`Error::Socket`] for settings that cannot work and for an address that is taken.
    pub fn bind(config: Config, dependencies: Dependencies) -> Result<Self, Error> {
        if let Some(reason) = config.users.fault(config.socket.max_message_bytes) {
            return Err(Error::Socket(crate::socket::Error::Config(reason)));
        }
        let acceptor = Box::new(Acceptor::bind(config.socket.clone())?);
        Ok(Self { config, dependencies, acceptor, accepts: CancellationToken::new() })
    }

    /// Cancelled once sockets are served: who comes before waits.
    pub fn accepts(&self) -> CancellationToken {
        self.accepts.clone()
    }

    /// The bound address.
    pub fn local_addr(&self) -> SocketAddr {
        self.acceptor.local_addr()
    }

    /// Has the files of the certificate looked at; none without TLS.
    pub fn certificate_reload(&self) -> Option<CertificateReload> {
        self.acceptor.certificate_reload()
    }

    /// Serves until shut down: then nothing new is accepted, sockets are told to come back elsewhere, and what they
    /// gave is handed on.
    ///
    /// # Errors
    /// When the log cannot be reached at the start, or a task that all sockets rely on ends.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let Self { config, dependencies, acceptor, accepts } = self;
        let Dependencies { log, store, keys, issuers } = dependencies;
        let id = GatewayId(rand::random());
        let epochs = log.open_streams().await?;
        let changes = Arc::new(Changes::default());
        let registry = Arc::new(Registry::new(config.resume.clone(), Arc::clone(&changes)));
        // Subscribed before anything is announced: an answer that comes at once finds its reader.
        let answered = log.subscribe(Subject::Answers(id)).await?;
        let pushes = log.subscribe(Subject::Pushes(id)).await?;
        let asked = log.subscribe(Subject::AnnounceRequests).await?;
        // Known whole before anybody may sign in.
        let revocations = Arc::new(Revocations::default());
        let control = log.follow_control().await?;
        let control = Control::open(control, Arc::clone(&revocations)).await?;

        // Ends after the sockets: their last commands still go into the log and are answered.
        let under_sockets = CancellationToken::new();
        let mut tasks: JoinSet<Result<(), Error>> = JoinSet::new();
        let reads = Arc::new(Semaphore::new(config.heads_reads_max.max(1)));
        let poll = Duration::from_millis(config.heads_poll_ms.max(1));
        let rest = Duration::from_millis(config.receipts_rest_ms);
        let (pack, packing) =
            pack(id, &epochs, log.clone(), Arc::clone(&registry), config.rules, under_sockets.clone());
        tasks.spawn(async move {
            packing.await;
            Ok(())
        });
        let (mut receipts, mut lists) = (Vec::new(), BTreeMap::new());
        for partition in log.partitions() {
            let waiting = Arc::new(Receipts::new(partition, config.receipts_max, rest));
            receipts.push(Arc::clone(&waiting));
            let (log, ends) = (log.clone(), under_sockets.clone());
            tasks.spawn(async move {
                waiting.send(id, log, ends).await;
                Ok(())
            });
            let heads = Arc::new(Heads::new(partition));
            lists.insert(partition, Arc::clone(&heads));
            let (store, registry, reads) = (store.clone(), Arc::clone(&registry), Arc::clone(&reads));
            let ends = under_sockets.clone();
            tasks.spawn(async move {
                heads.serve(store, registry, reads, poll, ends).await;
                Ok(())
            });
        }
        let closing = {
            let (revocations, registry) = (Arc::clone(&revocations), Arc::clone(&registry));
            move || {
                let closed = registry.close_those(|grant| revocations.cover(grant), CloseCode::Revoked);
                tracing::info!(closed, "tokens were revoked");
            }
        };
        let following = control.follow(closing, under_sockets.clone());
        tasks.spawn(async move {
            following.await;
            Ok(())
        });
        tasks.spawn(answers(answered, Arc::clone(&registry), under_sockets.clone()));
        let relay = Relay {
            gateway: id,
            log,
            registry: Arc::clone(&registry),
            heads: lists,
            pushes,
            asked,
            changes: Arc::clone(&changes),
            started: Instant::now(),
        };
        tasks.spawn(relay.serve(under_sockets.clone()));

        let users = Arc::new(Users::new(&config.users));
        let sweeping = Arc::clone(&users).sweep(under_sockets.clone());
        let ending = Arc::clone(&registry).sweep(under_sockets.clone());
        tasks.spawn(async move {
            tokio::join!(sweeping, ending);
            Ok(())
        });
        let edge = Arc::new(Edge {
            id,
            config,
            keys,
            issuers,
            revocations,
            store,
            registry,
            pack,
            receipts,
            epochs,
            changes,
            users,
        });
        let leaves = shutdown.child_token();
        let mut sockets = Box::pin(acceptor.run(Serve(edge), leaves.clone()));
        accepts.cancel();
        let mut ended = Ok(());
        loop {
            tokio::select! {
                () = &mut sockets => break,
                Some(stopped) = tasks.join_next() => {
                    let stopped = stopped.unwrap_or(Err(Error::Stopped("a task of the gateway")));
                    if stopped.is_err() && ended.is_ok() {
                        // Without it nobody is served: all are sent elsewhere, as at any shutdown.
                        ended = stopped;
                        leaves.cancel();
                    }
                }
            }
        }
        // With them go the ways in, so that what still waits is the last.
        drop(sockets);
        under_sockets.cancel();
        while tasks.join_next().await.is_some() {}
        ended
    }
}
