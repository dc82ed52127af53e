//! What one session is pushed, over whichever socket it has at the time, or over none for a while.

use bytes::Bytes;
use domain::{Micros, Rules};

use crate::frames::{self, ToClients};
use crate::machine::{Kept, Pushes};
use crate::socket::{Class, CloseCode, Outbound, PushError, SubProtocol};

/// The pushes of one session.
#[derive(Debug)]
pub(crate) struct Downlink {
    pushes: Pushes<Bytes>,
    carrier: Carrier,
}

#[derive(Debug)]
enum Carrier {
    Socket(Outbound),
    /// The socket was lost then; its client may come back and ask for the same encoding.
    Lost(SubProtocol, Micros),
}

/// What became of a push.
#[derive(Debug)]
pub(crate) enum Pushed {
    /// The client gets it: over its socket, or when it comes back.
    Taken,
    /// A list is taken by an empty queue only: this one's.
    NotEmpty(Outbound),
    /// Neither sent nor kept: the session cannot go on once its socket is lost.
    Missed,
}

impl Downlink {
    pub(crate) fn new(outbound: Outbound) -> Self {
        Self { pushes: Pushes::default(), carrier: Carrier::Socket(outbound) }
    }

    pub(crate) const fn outbound(&self) -> Option<&Outbound> {
        match &self.carrier {
            Carrier::Socket(outbound) => Some(outbound),
            Carrier::Lost(..) => None,
        }
    }

    pub(crate) const fn lost_at(&self) -> Option<Micros> {
        match self.carrier {
            Carrier::Socket(_) => None,
            Carrier::Lost(_, at) => Some(at),
        }
    }

    pub(crate) fn sub_protocol(&self) -> SubProtocol {
        match &self.carrier {
            Carrier::Socket(outbound) => outbound.sub_protocol(),
            Carrier::Lost(sub_protocol, _) => *sub_protocol,
        }
    }

    /// Numbers a frame, gives it to the socket and keeps it.
    ///
    /// One that a socket cannot take closes it, as a rule as resumable; the frame then waits for the next socket.
    pub(crate) fn push(&mut self, now: Micros, frame: &ToClients, class: Class, bound: Kept) -> Pushed {
        // One that is dropped under load would be a hole in the numbers.
        debug_assert_ne!(class, Class::Ephemeral, "ephemeral frames are no pushes");
        let Ok(bytes) = frame.encoded(self.sub_protocol()) else {
            self.outbound().map(frames::give_up);
            self.pushes.skip();
            return Pushed::Missed;
        };
        let sent = self.outbound().map_or(Err(PushError::Closed), |outbound| outbound.push(bytes.clone(), class));
        if let (Err(PushError::NotEmpty), Some(outbound)) = (sent, self.outbound()) {
            return Pushed::NotEmpty(outbound.clone());
        }
        let len = bytes.len();
        let is_kept = self.pushes.push(now, bytes, len, bound);
        if sent.is_ok() || is_kept { Pushed::Taken } else { Pushed::Missed }
    }

    /// The client was not told something: it comes back and begins anew.
    pub(crate) fn give_up(&mut self, code: CloseCode) {
        self.pushes.skip();
        if let Some(outbound) = self.outbound() {
            outbound.close(code);
        }
    }

    /// The socket is gone, the session stays.
    pub(crate) fn lose(&mut self, now: Micros) {
        self.carrier = Carrier::Lost(self.sub_protocol(), now);
    }

    /// Goes on over another socket: `welcome` is told how many pushes there were, then come those above `received`.
    ///
    /// The socket before, if there still is one; none if the session cannot go on so, and nothing was sent.
    pub(crate) fn go_on(
        &mut self,
        outbound: &Outbound,
        received: u64,
        welcome: impl FnOnce(u64) -> ToClients,
    ) -> Option<Option<Outbound>> {
        if outbound.sub_protocol() != self.sub_protocol() {
            return None;
        }
        let missed = self.pushes.since(received, Rules::ALL)?;
        // What a socket does not take closes it, and its client comes back.
        let _ = welcome(self.pushes.last()).push(outbound, Class::Ordinary);
        for frame in missed {
            let _ = outbound.push(frame.clone(), Class::Ordinary);
        }
        match std::mem::replace(&mut self.carrier, Carrier::Socket(outbound.clone())) {
            Carrier::Socket(before) => Some(Some(before)),
            Carrier::Lost(..) => Some(None),
        }
    }

    /// Forgets pushes of before `then`.
    pub(crate) fn forget_before(&mut self, then: Micros) {
        self.pushes.forget_before(then);
    }
}
