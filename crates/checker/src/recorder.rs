//! Collects observations from many threads; only ever appends.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use crate::{Chat, Client, Line, Observation, SeenEntry, User};

type Lines = Arc<Mutex<Vec<Line>>>;

/// Hands out one [`ClientRecorder`] a client and puts what they saw into one order. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    next: AtomicU64,
    // One list a client, so that clients never wait for one another. The first is the run's own.
    lists: Mutex<Vec<Lines>>,
}

impl Recorder {
    /// An empty history.
    pub fn new() -> Self {
        let recorder = Self::default();
        recorder.list();
        recorder
    }

    /// Registers a client. One that forgot its timeline is a new client, of the same device or not.
    pub fn client(&self, user: User, device: &str) -> ClientRecorder {
        let (number, lines) = self.list();
        let client = ClientRecorder { client: Client(number), shared: Arc::clone(&self.shared), lines };
        client.saw(Observation::Started { user, device: device.to_owned() });
        client
    }

    /// Records what `reader` reads of a whole chat once the run is quiet.
    pub fn final_history(&self, chat: Chat, reader: User, through: u64, entries: Vec<SeenEntry>) {
        let lines = Arc::clone(&self.lists()[0]);
        ClientRecorder { client: Client(0), shared: Arc::clone(&self.shared), lines }.saw(Observation::FinalHistory {
            chat,
            reader,
            through,
            entries,
        });
    }

    /// All lines so far, in the order of their indexes.
    pub fn history(&self) -> Vec<Line> {
        let mut history = Vec::new();
        for lines in self.lists().iter() {
            history.extend_from_slice(&lines.lock().unwrap_or_else(PoisonError::into_inner));
        }
        history.sort_unstable_by_key(|line| line.index);
        history
    }

    fn lists(&self) -> std::sync::MutexGuard<'_, Vec<Lines>> {
        // A list is whole between two pushes, so a panic elsewhere leaves it fit to be read.
        self.shared.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn list(&self) -> (u32, Lines) {
        let mut lists = self.lists();
        let lines = Lines::default();
        lists.push(Arc::clone(&lines));
        let number = u32::try_from(lists.len() - 1).expect("fewer than 2^32 clients record");
        (number, lines)
    }
}

/// One client's end of a [`Recorder`]. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ClientRecorder {
    client: Client,
    shared: Arc<Shared>,
    lines: Lines,
}

impl ClientRecorder {
    /// The number that this client has in the history.
    pub fn client(&self) -> Client {
        self.client
    }

    /// Appends what this client just saw.
    pub fn saw(&self, saw: Observation) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        // Drawn under the client's lock, so that its own lines lie in the order of their indexes.
        let index = self.shared.next.fetch_add(1, Ordering::Relaxed);
        lines.push(Line { index, client: self.client, saw });
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn lines_of_many_threads_come_out_in_one_order() {
        let recorder = Recorder::new();
        thread::scope(|scope| {
            for number in 0..4u8 {
                let client = recorder.client(User::from([number; 16]), "phone");
                scope.spawn(move || {
                    for head in 0..1_000 {
                        client.saw(Observation::HeadTold { chat: Chat::from([0; 16]), head });
                    }
                });
            }
        });
        let history = recorder.history();
        assert_eq!(history.len(), 4 * 1_001);
        assert!(history.iter().zip(0..).all(|(line, index)| line.index == index));
        for number in 1..=4 {
            let own: Vec<_> = history.iter().filter(|line| line.client == Client(number)).skip(1).collect();
            assert!(own.iter().zip(0..).all(|(line, expected)| {
                matches!(line.saw, Observation::HeadTold { head, .. } if head == expected)
            }));
        }
    }
}
