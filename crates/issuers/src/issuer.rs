//! One issuer: its keys as they are known now, and who asks for them.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use metrics::{counter, gauge};
use tokens::{Grant, TokenError};
use tokio::sync::watch;

use crate::fetch::{Fetch, FetchError};
use crate::jwks::{self, Keys, Unusable};
use crate::machine::{Cache, Found, Missing};
use crate::{Clock, IssuerConfig, token};

/// Why the keys of an issuer are not renewed.
#[derive(Debug, thiserror::Error)]
enum NotRenewed {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Set(#[from] Unusable),
}

/// One issuer.
pub(crate) struct Issuer {
    pub(crate) config: IssuerConfig,
    cache: RwLock<Cache>,
    /// Whether somebody asks for its keys.
    asking: watch::Sender<bool>,
    fetch: Fetch,
    clock: Clock,
}

impl Issuer {
    pub(crate) fn new(config: IssuerConfig, fetch: Fetch, clock: Clock) -> Self {
        let cache = RwLock::new(Cache::new(Duration::from_secs(config.keys_last_s)));
        Self { config, cache, asking: watch::Sender::new(false), fetch, clock }
    }

    /// What the token grants; none: its key is asked for.
    pub(crate) fn check_now(self: &Arc<Self>, token: &str) -> Option<Result<Grant, TokenError>> {
        self.look(token).unwrap_or_else(|missing| {
            let mut cache = self.write();
            match cache.missing(self.clock.now()) {
                Missing::GoWithout => Some(Err(missing)),
                Missing::Wait => None,
                Missing::Ask => {
                    self.ask(cache);
                    None
                }
            }
        })
    }

    /// As [`Issuer::check_now`], once nobody asks for keys any more.
    pub(crate) async fn check_then(&self, token: &str) -> Result<Grant, TokenError> {
        self.settled().await;
        self.look(token).map_or_else(Err, |done| done.unwrap_or(Err(TokenError::Invalid)))
    }

    async fn settled(&self) {
        // Cannot end before: the sender is this one's own.
        let _ = self.asking.subscribe().wait_for(|asking| !asking).await;
    }

    /// What the token grants; an error: its key is not known, and what is said if it stays so.
    fn look(&self, token: &str) -> Result<Option<Result<Grant, TokenError>>, TokenError> {
        let (header, kid) = match token::kid(token, &self.config) {
            Ok(named) => named,
            Err(refused) => return Ok(Some(Err(refused))),
        };
        // Taken out of the lock: a signature takes a while.
        let found = self.read().find(&kid, self.clock.now());
        match found {
            Found::Key(key) => Ok(Some(token::check(token, &header, &key, &self.config))),
            Found::Unknown => Err(TokenError::Invalid),
            Found::NoKeys => Err(TokenError::NoKeys),
        }
    }

    /// Asks for its keys if they are old, and waits until that is done.
    pub(crate) async fn refresh_if_due(self: &Arc<Self>) {
        {
            let mut cache = self.write();
            if cache.is_due(self.clock.now()) {
                self.ask(cache);
            }
        }
        self.settled().await;
    }

    /// Asks in a task of its own: whoever waits for it may leave.
    fn ask(self: &Arc<Self>, cache: RwLockWriteGuard<'_, Cache>) {
        // Still under the lock: who finds there that somebody asks finds here what to wait for.
        self.asking.send_replace(true);
        drop(cache);
        let asking = Asking(Arc::clone(self));
        tokio::spawn(async move {
            let issuer = &asking.0;
            let renewed = issuer.fetched().await;
            issuer.learn(renewed);
        });
    }

    async fn fetched(&self) -> Result<Keys, NotRenewed> {
        let set = self.fetch.get(&self.config.jwks_url).await?;
        Ok(jwks::usable(&set, &self.config.algorithms)?)
    }

    fn learn(&self, renewed: Result<Keys, NotRenewed>) {
        let name = self.config.issuer.as_str();
        let outcome = if renewed.is_ok() { "fetched" } else { "failed" };
        counter!("issuer_fetches_total", "issuer" => name.to_owned(), "outcome" => outcome).increment(1);
        match renewed {
            Ok(keys) => {
                gauge!("issuer_keys", "issuer" => name.to_owned()).set(keys.len() as f64);
                let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                gauge!("issuer_keys_fetched_seconds", "issuer" => name.to_owned()).set(at.as_secs_f64());
                if self.write().fetched(keys, self.clock.now()) {
                    tracing::info!(issuer = name, "the issuer gives its keys again");
                }
            }
            Err(error) => {
                if self.write().failed() {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(
                        issuer = name,
                        error,
                        "the keys of an issuer cannot be fetched; those that are known last a while"
                    );
                }
            }
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Cache> {
        self.cache.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Cache> {
        self.cache.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Until dropped somebody asks: nobody waits for ever, whatever becomes of the task.
struct Asking(Arc<Issuer>);

impl Drop for Asking {
    fn drop(&mut self) {
        let mut cache = self.0.write();
        cache.ended();
        self.0.asking.send_replace(false);
    }
}
