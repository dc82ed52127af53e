//! All issuers whose tokens are taken, this deployment's own among them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use tokens::{Grant, TokenError, TokenKeys};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::fetch::Fetch;
use crate::issuer::Issuer;
use crate::{Clock, Config, Error, token};

/// Between two looks for keys that are old.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// What keys are fetched with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// How much time has passed.
    pub clock: Clock,
    /// Who may vouch for a server; none: the authorities that this machine trusts.
    pub authorities: Option<RootCertStore>,
    /// How long an answer may take, from the connection to its last byte.
    pub fetched_within: Duration,
}

impl Default for Setup {
    fn default() -> Self {
        Self { clock: Clock::default(), authorities: None, fetched_within: Duration::from_secs(5) }
    }
}

/// All issuers whose tokens are taken; by default, this deployment alone.
#[derive(Clone, Default)]
pub struct Issuers(Arc<[Arc<Issuer>]>);

impl fmt::Debug for Issuers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|issuer| &issuer.config.issuer)).finish()
    }
}

impl Issuers {
    /// These beside this deployment. Nothing is fetched yet: [`Issuers::keep_fresh`] does that.
    ///
    /// # Errors
    /// For settings that cannot work, and for a machine that trusts no authority.
    pub fn new(config: &Config, setup: Setup) -> Result<Self, Error> {
        config.check()?;
        let Setup { clock, authorities, fetched_within } = setup;
        let roots = authorities.unwrap_or_else(platform);
        if roots.is_empty() && config.issuers.iter().any(|issuer| issuer.jwks_url.scheme() == "https") {
            return Err(Error::NoAuthorities);
        }
        let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(Error::Tls)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let fetch = Fetch::new(Arc::new(tls), fetched_within);
        let issuers = config.issuers.iter().map(|issuer| Issuer::new(issuer.clone(), fetch.clone(), clock.clone()));
        Ok(Self(issuers.map(Arc::new).collect()))
    }

    /// What the token grants now; `own` checks this deployment's own.
    ///
    /// Waits only for a key that is not known yet, which an issuer is asked for at most once a minute.
    ///
    /// # Errors
    /// [`TokenError::Expired`], [`TokenError::Invalid`], or [`TokenError::NoKeys`] while nobody can tell.
    pub async fn check(&self, own: &TokenKeys, token: &str) -> Result<Grant, TokenError> {
        let Some(issuer) = self.of(token) else { return own.check(token) };
        match issuer.check_now(token) {
            Some(done) => done,
            None => issuer.check_then(token).await,
        }
    }

    /// As [`Issuers::check`], at once; none: it would wait for a key.
    pub fn check_now(&self, own: &TokenKeys, token: &str) -> Option<Result<Grant, TokenError>> {
        match self.of(token) {
            Some(issuer) => issuer.check_now(token),
            None => Some(own.check(token)),
        }
    }

    /// The other issuer that the token says it is of.
    fn of(&self, token: &str) -> Option<&Arc<Issuer>> {
        if self.0.is_empty() {
            return None;
        }
        let says = token::issuer(token)?;
        self.0.iter().find(|issuer| issuer.config.issuer == says)
    }

    /// Asks those whose keys are old or not known, and waits until they have answered or cannot.
    pub async fn refresh_due(&self) {
        join_all(self.0.iter().map(Issuer::refresh_if_due)).await;
    }

    /// Keeps all keys fresh until shut down.
    pub async fn keep_fresh(self, shutdown: CancellationToken) {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while shutdown.run_until_cancelled(looks.tick()).await.is_some() {
            if shutdown.run_until_cancelled(self.refresh_due()).await.is_none() {
                break;
            }
        }
    }
}

fn platform() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    // One that is damaged says nothing of the others.
    let _counts = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}
