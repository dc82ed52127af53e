//! Records what clients saw and judges it against the invariants.
//!
//! [`Recorder`] collects [`Observation`]s from many clients → [`check`] folds each chat's log out of its final
//! histories and holds every other observation against it → [`Report`]. [`dump`] and [`load`] keep a history as JSON
//! lines, so that a failing run can be judged again.
//!
//! Knows neither roles nor client: it reads ids, numbers and hashes only. Judges N1–N5, N7 and N8; N6, N9 and N10
//! cannot be seen from a client.

mod check;
mod dump;
mod ids;
mod observation;
mod recorder;
mod report;
mod runs;
mod truth;

pub use check::{Options, check, check_with};
pub use dump::{Error, dump, load};
pub use ids::{Chat, Client, Hash, User};
pub use observation::{Answer, Content, Line, Observation, Policy, SeenEntry, SendKey, Via};
pub use recorder::{ClientRecorder, Recorder};
pub use report::{Counts, FAULTS_KEPT, Fault, Invariant, Report};
