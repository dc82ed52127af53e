//! Passwords, hashed with Argon2id on a bounded pool: a flood of sign-ins waits here and nowhere else (X11).

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
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

/// What OWASP's cheat sheet on password storage asks for at least: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// What a hash takes a few times over: if none is done for so long, nobody leaves those that hash a core.
const STARVED_AFTER: Duration = Duration::from_millis(250);

/// Done by whoever comes to it first; done again it does nothing.
type Job = Arc<dyn Fn() + Send + Sync>;

/// Hashes and checks passwords, behind all else that the machine does.
///
/// Where every core is busy for long, one thread that stands among the others does a job whenever none was done for a
/// while: some four a second, whatever else the machine does.
pub(crate) struct Passwords {
    jobs: mpsc::Sender<Job>,
    /// To the thread that stands among the others; it has one job, and one may wait.
    hurried: mpsc::SyncSender<Job>,
    /// One for each job that is done or waits.
    room: Arc<Semaphore>,
    /// How many jobs are done.
    done: Arc<AtomicU64>,
    /// Of nobody's password: what an unknown handle is checked against, so that it takes as long as a known one.
    decoy: Arc<str>,
}

impl Passwords {
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        let decoy = hash(&format!("{:032x}", rand::random::<u128>())).ok_or(Error::Passwords)?;
        let (jobs, given) = mpsc::channel::<Job>();
        let given = Arc::new(Mutex::new(given));
        for number in 0..config.password_jobs {
            let given = Arc::clone(&given);
            start(&format!("passwords-{number}"), move || {
                background::stand_behind();
                loop {
                    // Given back before the job: the next one is another thread's.
                    let job = given.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(job) = job else { return };
                    job();
                }
            })?;
        }
        let (hurried, given) = mpsc::sync_channel::<Job>(1);
        start("passwords-hurry", move || given.iter().for_each(|job| job()))?;
        let room = Arc::new(Semaphore::new(config.password_jobs + config.password_queue));
        Ok(Self { jobs, hurried, room, done: Arc::default(), decoy: decoy.into() })
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

    async fn run<T: Send + 'static>(&self, job: impl Fn() -> T + Send + Sync + 'static) -> Result<T, Problem> {
        let place = self.enter()?;
        let (done, mut wait) = oneshot::channel();
        let (asker, count) = (Mutex::new(Some(done)), Arc::clone(&self.done));
        let job: Job = Arc::new(move || {
            // The place is the job's: whoever asked may be gone before it is done.
            let _place = &place;
            // Nobody waits any more for what a busy machine left lying for longer than a request may last.
            let waits = |asker: &Asker<T>| asker.as_ref().is_some_and(|asker| !asker.is_closed());
            if !waits(&lock(&asker)) {
                return;
            }
            // Who waits for one that panics hears of it; the thread goes on.
            let result = catch_unwind(AssertUnwindSafe(&job));
            count.fetch_add(1, Ordering::Relaxed);
            if let (Some(asker), Ok(result)) = (lock(&asker).take(), result) {
                let _gone = asker.send(result);
            }
        });
        self.jobs.send(Arc::clone(&job)).map_err(|_ended| Kind::Internal)?;
        let mut before = self.done.load(Ordering::Relaxed);
        loop {
            if let Ok(done) = timeout(STARVED_AFTER, &mut wait).await {
                return done.map_err(|_panicked| Kind::Internal.into());
            }
            let done = self.done.load(Ordering::Relaxed);
            if done == before && self.hurried.try_send(Arc::clone(&job)).is_ok() {
                counter!("api_passwords_hurried_total").increment(1);
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

/// Who waits for the result of a job that is not done.
type Asker<T> = Option<oneshot::Sender<T>>;

fn lock<T>(asker: &Mutex<Asker<T>>) -> MutexGuard<'_, Asker<T>> {
    asker.lock().unwrap_or_else(PoisonError::into_inner)
}

fn start(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    let started = thread::Builder::new().name(name.to_owned()).spawn(work);
    started.map(|_ends_with_the_last_sender| ()).map_err(|_refused| Error::Passwords)
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
        let (go_on, first) = held(&passwords);
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

    /// A job that keeps whoever comes to it until it is told to go on; the channel tells when that is.
    fn held(passwords: &Passwords) -> (mpsc::Sender<()>, impl Future<Output = Result<(), Problem>>) {
        let (go_on, held) = mpsc::channel::<()>();
        let held = Mutex::new(held);
        (go_on, passwords.run(move || held.lock().unwrap().recv().unwrap()))
    }

    #[tokio::test]
    async fn x11_where_nothing_gets_done_a_thread_that_stands_among_the_others_does_it() {
        let passwords = Passwords::new(&Config { password_jobs: 1, ..Config::default() }).unwrap();
        // The only thread behind the others never gets a core.
        let (go_on, first) = held(&passwords);
        let mut first = Box::pin(first);
        assert!(futures_util::poll!(&mut first).is_pending());
        assert_eq!(passwords.run(|| 7).await.unwrap(), 7);
        assert_eq!(passwords.done.load(Ordering::Relaxed), 1, "by the hurried one alone");
        go_on.send(()).unwrap();
        first.await.unwrap();
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
