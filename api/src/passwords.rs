//! Passwords, hashed with Argon2id on a bounded pool: a flood of sign-ins waits here and nowhere else (X11).

mod crew;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use metrics::counter;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

use crate::problem::{Kind, Problem};
use crate::{Config, Error};
use crew::Crew;

/// What OWASP's cheat sheet on password storage asks for at least: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// What a hash takes a few times over: if none is done for so long, nobody leaves those that hash a core.
const STARVED_AFTER: Duration = Duration::from_millis(250);

type Job = Box<dyn FnOnce() + Send>;

/// Hashes and checks passwords.
pub(crate) struct Passwords {
    jobs: mpsc::Sender<Job>,
    /// One for each job that is done or waits.
    room: Arc<Semaphore>,
    /// The threads, and how many jobs they have done.
    crew: Arc<Crew>,
    /// Of nobody's password: what an unknown handle is checked against, so that it takes as long as a known one.
    decoy: Arc<str>,
}

impl Passwords {
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        let decoy = hash(&format!("{:032x}", rand::random::<u128>())).ok_or(Error::Passwords)?;
        let (jobs, given) = mpsc::channel();
        let (given, crew) = (Arc::new(Mutex::new(given)), Arc::new(Crew::default()));
        for number in 0..config.password_jobs {
            let (given, crew) = (Arc::clone(&given), Arc::clone(&crew));
            let thread = thread::Builder::new().name(format!("passwords-{number}"));
            thread.spawn(move || work(&given, &crew)).map_err(|_refused| Error::Passwords)?;
        }
        let room = Arc::new(Semaphore::new(config.password_jobs + config.password_queue));
        Ok(Self { jobs, room, crew, decoy: decoy.into() })
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
        let place = self.enter()?;
        let (done, mut wait) = oneshot::channel();
        // The place is the job's: whoever asked may be gone before it is done.
        let job = move || {
            let _place = place;
            // Nobody waits any more for what a busy machine left lying for longer than a request may last.
            if !done.is_closed() {
                let _gone = done.send(job());
            }
        };
        self.jobs.send(Box::new(job)).map_err(|_ended| Kind::Internal)?;
        let mut before = self.crew.done();
        loop {
            if let Ok(done) = timeout(STARVED_AFTER, &mut wait).await {
                return done.map_err(|_panicked| Kind::Internal.into());
            }
            let done = self.crew.done();
            if done == before {
                self.crew.hurry();
            }
            before = done;
        }
    }

    fn enter(&self) -> Result<OwnedSemaphorePermit, Problem> {
        Arc::clone(&self.room).try_acquire_owned().map_err(|_full| {
            counter!("api_passwords_refused_total").increment(1);
            Kind::Busy.into()
        })
    }
}

/// Does jobs until nobody gives any.
fn work(jobs: &Mutex<mpsc::Receiver<Job>>, crew: &Crew) {
    crew.join();
    loop {
        // Given back before the job: the next one is another thread's.
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        // Who waits for one that panics hears of it; the thread goes on.
        let _panicked = catch_unwind(AssertUnwindSafe(job));
        crew.note_done();
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
        f.debug_struct("Passwords").field("room", &self.room.available_permits()).finish_non_exhaustive()
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
    async fn what_nobody_waits_for_any_more_is_not_hashed() {
        let passwords = Passwords::new(&Config { password_jobs: 1, ..Config::default() }).unwrap();
        let (go_on, held) = mpsc::channel::<()>();
        let first = passwords.run(move || held.recv().unwrap());
        let ran = Arc::new(Mutex::new(false));
        let mark = Arc::clone(&ran);
        let mut first = Box::pin(first);
        assert!(futures_util::poll!(&mut first).is_pending());
        let mut second = Box::pin(passwords.run(move || *mark.lock().unwrap() = true));
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(second);
        go_on.send(()).unwrap();
        first.await.unwrap();
        assert!(passwords.run(|| ()).await.is_ok(), "the one behind it is done");
        assert!(!*ran.lock().unwrap());
    }

    #[tokio::test]
    async fn a_job_that_panics_takes_no_thread_with_it() {
        let passwords = Passwords::new(&Config { password_jobs: 1, ..Config::default() }).unwrap();
        let panicked: Result<(), _> = passwords.run(|| panic!("planted")).await;
        assert!(panicked.is_err());
        assert_eq!(passwords.run(|| 7).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn nobody_has_the_password_of_an_unknown_handle() {
        let passwords = Passwords::new(&Config::default()).unwrap();
        for hashed in [None, Some("")] {
            assert!(!passwords.verify("correct horse".to_owned(), hashed).await.unwrap());
        }
    }
}
