//! Threads that run where no other thread of the machine wants the core.
//!
//! They are of `SCHED_IDLE` (sched(7)) and make room at once. Niceness would not do: a nice thread keeps its core until
//! its slice is over, and who wakes beside it waits as long, at each hop of a message.
//!
//! There is no way back: a process without privileges may not leave the policy again (`RLIMIT_NICE`). Where every core is
//! busy for long such a thread gets next to nothing, so what must be done all the same needs another thread to do it.

#[cfg(target_os = "linux")]
use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
};

/// Puts the calling thread behind all others of the machine, for good.
pub fn stand_behind() {
    #[cfg(target_os = "linux")]
    {
        let policy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        // No niceness is meant: the policy has none, and the thread keeps the one that it has.
        if let Err(error) = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, policy) {
            tracing::debug!(?error, "a background thread runs at the priority that it has");
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::thread;

    use thread_priority::thread_schedule_policy;

    use super::*;

    #[test]
    fn only_the_thread_that_asks_stands_behind_the_others() {
        let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        // proc(5): the 19th field, behind a name that is in brackets.
        let niceness = || {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            stat.rsplit(')').next().unwrap().split_whitespace().nth(16).unwrap().to_owned()
        };
        let before = niceness();
        thread::spawn(move || {
            stand_behind();
            assert_eq!(thread_schedule_policy().unwrap(), idle);
            assert_eq!(niceness(), before);
        })
        .join()
        .unwrap();
        assert_ne!(thread_schedule_policy().unwrap(), idle);
    }
}
