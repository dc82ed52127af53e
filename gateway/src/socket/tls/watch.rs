//! Takes a new certificate into use once its files have changed, for the handshakes that come.
//!
//! Sockets that live keep the session they have. Files that cannot be used change nothing.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use super::certificate::{CertificateError, Certified, Digest, Pair};
use super::{Current, Tls};

/// What was refused last, so that it is logged once.
type Refused = Option<(Option<Digest>, String)>;

/// When the certificate in use expires, in seconds since 1970.
pub(super) fn tell_expiry(expires_s: u64) {
    metrics::gauge!("gateway_tls_certificate_expires_seconds").set(expires_s as f64);
}

impl Tls {
    /// Looks at the files every so often, and whenever somebody asks, until stopped.
    pub(in crate::socket) async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let every = Duration::from_millis(self.files.reload_interval_ms);
        let mut looks = interval_at(Instant::now() + every, every);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut refused = Refused::None;
        let mut next = async || {
            tokio::select! {
                _ = looks.tick() => {}
                () = self.asked.notified() => {}
            }
        };
        while stop.run_until_cancelled(next()).await.is_some() {
            let tls = Arc::clone(&self);
            let Ok((digest, looked)) = tokio::task::spawn_blocking(move || tls.look()).await else { continue };
            refused = match looked {
                Ok(()) => None,
                Err(error) => {
                    metrics::counter!("gateway_tls_reloads_total", "result" => "refused").increment(1);
                    let now = Some((digest, error.to_string()));
                    if now != refused {
                        tracing::error!(error = &error as &dyn std::error::Error, "certificate not reloaded");
                    }
                    now
                }
            };
        }
    }

    /// Takes the files into use if they are others than before; blocks.
    fn look(&self) -> (Option<Digest>, Result<(), CertificateError>) {
        let pair = match Pair::read(&self.files) {
            Ok(pair) => pair,
            Err(error) => return (None, Err(error)),
        };
        let digest = pair.digest();
        if digest == self.current.read().unwrap_or_else(PoisonError::into_inner).digest {
            return (Some(digest), Ok(()));
        }
        let taken = pair.certify(&self.files).map(|Certified { config, expires_s }| {
            *self.current.write().unwrap_or_else(PoisonError::into_inner) = Current { config, digest };
            tell_expiry(expires_s);
            metrics::counter!("gateway_tls_reloads_total", "result" => "loaded").increment(1);
            tracing::info!(certificate = %self.files.certificate.display(), expires_s, "certificate reloaded");
        });
        (Some(digest), taken)
    }
}
