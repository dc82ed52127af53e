//! The threads that hash, and how they stand to all others of the machine.
//!
//! They are of `SCHED_IDLE` (sched(7)): they run where no other thread wants the core, and make room at once. Niceness
//! would not do: a nice thread keeps its core until its slice is over, and who wakes beside it waits as long, at each hop
//! of a message. Where every core is busy for long they would get next to nothing, so then they stand among the others
//! until the next hash is done: some four a second, whatever else the machine does.

use std::sync::atomic::{AtomicU64, Ordering};
#[cfg(target_os = "linux")]
use std::sync::{Mutex, PoisonError};

#[cfg(target_os = "linux")]
use thread_priority::{
    Error, NormalThreadSchedulePolicy, ThreadId, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
    thread_native_id,
};

#[cfg(target_os = "linux")]
const BEHIND: ThreadSchedulePolicy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
#[cfg(target_os = "linux")]
const AMONG: ThreadSchedulePolicy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Other);

/// Niceness 0 on the library's scale from 0 to 99.
#[cfg(target_os = "linux")]
const NICE_0: u8 = 47;

/// The threads that hash. They live as long as whoever gives them jobs.
#[derive(Debug, Default)]
pub(super) struct Crew {
    #[cfg(target_os = "linux")]
    threads: Mutex<Vec<ThreadId>>,
    done: AtomicU64,
}

impl Crew {
    /// How many jobs are done.
    pub(super) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// The calling thread hashes from now on.
    pub(super) fn join(&self) {
        #[cfg(target_os = "linux")]
        {
            self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread_native_id());
            note(stand(thread_native_id(), BEHIND));
        }
    }

    /// The calling thread has done one more, and stands behind the others again.
    pub(super) fn note_done(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
        #[cfg(target_os = "linux")]
        note(stand(thread_native_id(), BEHIND));
    }

    /// All of them stand among the others until they have done one more.
    pub(super) fn hurry(&self) {
        metrics::counter!("api_passwords_hurried_total").increment(1);
        #[cfg(target_os = "linux")]
        for thread in &*self.threads.lock().unwrap_or_else(PoisonError::into_inner) {
            note(stand(*thread, AMONG));
        }
    }
}

#[cfg(target_os = "linux")]
fn stand(thread: ThreadId, policy: ThreadSchedulePolicy) -> Result<(), Error> {
    // No niceness is meant. The library sets the caller's own beside the policy, to the 0 that it is.
    let niceness = match policy == BEHIND {
        true => ThreadPriority::Min,
        false => {
            ThreadPriority::Crossplatform(NICE_0.try_into().map_err(|_range| Error::Priority("no such niceness"))?)
        }
    };
    set_thread_priority_and_policy(thread, niceness, policy)
}

#[cfg(target_os = "linux")]
fn note(stood: Result<(), Error>) {
    if let Err(error) = stood {
        tracing::debug!(?error, "passwords are hashed at the priority that they have");
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use thread_priority::thread_schedule_policy;

    use super::*;

    #[test]
    fn x11_who_hashes_stands_behind_all_others_unless_nothing_gets_done() {
        // proc(5): the 19th field, behind a name that is in brackets.
        let niceness = || {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            stat.rsplit(')').next().unwrap().split_whitespace().nth(16).unwrap().to_owned()
        };
        let (crew, before) = (Crew::default(), niceness());
        let (go_on, wait) = mpsc::channel();
        let (say, said) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| {
                crew.join();
                let wait = wait;
                for () in &wait {
                    let policy = thread_schedule_policy().unwrap();
                    // Done before it is told: else it would stand behind the others again after the next hurry.
                    crew.note_done();
                    say.send(policy).unwrap();
                }
            });
            let policy = || {
                go_on.send(()).unwrap();
                said.recv().unwrap()
            };
            assert_eq!(policy(), BEHIND);
            crew.hurry();
            assert_eq!(policy(), AMONG);
            assert_eq!(policy(), BEHIND, "until the next was done");
            assert_ne!(thread_schedule_policy().unwrap(), BEHIND, "others stay as they are");
            assert_eq!(niceness(), before);
            drop(go_on);
        });
        assert_eq!(crew.done(), 3);
    }
}
