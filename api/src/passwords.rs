//! Passwords, hashed with Argon2id on a bounded pool: a flood of sign-ins waits here and nowhere else (X11).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use metrics::counter;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::problem::{Kind, Problem};
use crate::{Config, Error};

/// What OWASP's cheat sheet on password storage asks for at least: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// Hashes and checks passwords.
pub(crate) struct Passwords {
    jobs: Arc<Semaphore>,
    waiting: AtomicUsize,
    waiting_max: usize,
    /// Of nobody's password: what an unknown handle is checked against, so that it takes as long as a known one.
    decoy: Arc<str>,
}

impl Passwords {
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        let decoy = hash(&format!("{:032x}", rand::random::<u128>())).ok_or(Error::Passwords)?;
        Ok(Self {
            jobs: Arc::new(Semaphore::new(config.password_jobs)),
            waiting: AtomicUsize::new(0),
            waiting_max: config.password_queue,
            decoy: decoy.into(),
        })
    }

    /// The password's hash as a PHC string.
    pub(crate) async fn hash(&self, password: String) -> Result<String, Problem> {
        self.run(move || hash(&password)).await?.ok_or_else(|| Kind::Internal.into())
    }

    /// Whether the password is the one of this hash; of none, whether or not, it is not.
    pub(crate) async fn verify(&self, password: String, hashed: Option<&str>) -> Result<bool, Problem> {
        let is_known = hashed.is_some_and(|hashed| !hashed.is_empty());
        let hashed: Arc<str> = hashed.filter(|_| is_known).map_or_else(|| Arc::clone(&self.decoy), Arc::from);
        Ok(self.run(move || verify(&password, &hashed)).await? && is_known)
    }

    async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
        let waits = Waits::enter(self).ok_or(Kind::Busy)?;
        let permit = Arc::clone(&self.jobs).acquire_owned().await.map_err(|_closed| Kind::Unavailable)?;
        drop(waits);
        // Held by the job: whoever asked may be gone before it is done.
        let run = spawn_blocking(move || {
            let _permit = permit;
            job()
        });
        run.await.map_err(|_panicked| Kind::Internal.into())
    }
}

/// One place among those that wait.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn enter(passwords: &'a Passwords) -> Option<Self> {
        let waits = Self(&passwords.waiting);
        let others = passwords.waiting.fetch_add(1, Ordering::Relaxed);
        if others < passwords.waiting_max + passwords.jobs.available_permits() {
            return Some(waits);
        }
        counter!("api_passwords_refused_total").increment(1);
        None
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn argon2() -> Option<Argon2<'static>> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).ok()?;
    Some(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn hash(password: &str) -> Option<String> {
    Some(argon2()?.hash_password(password.as_bytes()).ok()?.to_string())
}

fn verify(password: &str, hashed: &str) -> bool {
    let (Some(argon2), Ok(hashed)) = (argon2(), PasswordHash::new(hashed)) else { return false };
    argon2.verify_password(password.as_bytes(), &hashed).is_ok()
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passwords").field("waiting", &self.waiting).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x11_a_hash_is_argon2id_with_what_owasp_asks_for() {
        let hashed = hash("correct horse").unwrap();
        assert!(hashed.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hashed}");
        assert!(verify("correct horse", &hashed) && !verify("correct horsf", &hashed));
        assert_ne!(hash("correct horse").unwrap(), hashed, "each with a salt of its own");
    }

    #[tokio::test]
    async fn x11_what_does_not_fit_the_pool_is_refused_at_once() {
        let config = Config { password_jobs: 1, password_queue: 2, ..Config::default() };
        let passwords = Passwords::new(&config).unwrap();
        let each = (0..8).map(|_| passwords.hash("correct horse".to_owned()));
        let done = futures_util::future::join_all(each).await;
        let hashed = done.iter().filter(|done| done.is_ok()).count();
        assert_eq!(hashed, 3, "one is hashed and two wait");
    }

    #[tokio::test]
    async fn nobody_has_the_password_of_an_unknown_handle() {
        let passwords = Passwords::new(&Config::default()).unwrap();
        for hashed in [None, Some("")] {
            assert!(!passwords.verify("correct horse".to_owned(), hashed).await.unwrap());
        }
    }
}
