//! What it costs the healthy that hostile clients of every kind are there beside them.
//!
//! A run counts only if each kind was met by its limit while it was measured, as the gateway counts it and as the clients
//! were told; the fleet itself fails a run that loses a message of the healthy.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::sleep;

use crate::beside::Beside;
use crate::hostile::{Crowd, HALF_SENT, Kind, PROXIES, Report};
use crate::rows::{Row, row};
use crate::target::{Target, cpu_of};

/// What a run may take beside its own time: what is under way is settled within it.
const SPARE: Duration = Duration::from_secs(40);
/// After a crowd has left: its sockets are closed, and what they had sent is done.
const GONE_AFTER: Duration = Duration::from_secs(3);
/// The gateway hears nothing from those that answer no ping for 35 s, and looks in turns.
const SILENCE_ENDS_AFTER: Duration = Duration::from_secs(38);

/// Who is beset, and by whom.
pub(crate) struct Siege<'a> {
    pub(crate) beside: Beside,
    /// Hostile kinds that stay away: there is no figure then.
    pub(crate) without: &'a [Kind],
}

impl Siege<'_> {
    /// p99 of the healthy recipients in µs beside hostile clients; the control's without them.
    pub(crate) async fn measure(&self) -> Result<Row> {
        let Beside { rate, time, .. } = self.beside;
        let (target, fleet) = self.beside.open(PROXIES).await?;
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for run in 0..self.beside.runs {
            let idle_cpu = Cpu::of(&target, None)?;
            let control = fleet.pace(rate, time / 5, time).await?.received_p99();
            let alone = Cpu::of(&target, None)?.since(&idle_cpu);

            let stuck = self.beside.sockets.div_ceil(100);
            let mut crowd = Crowd::start(&target, stuck, time * 6 / 5 + SPARE, self.without).await?;
            let (before, cpu) = (Seen::by(&target, &mut crowd).await?, Cpu::of(&target, Some(&crowd))?);
            let paced = fleet.pace(rate, time / 5, time).await?;
            let cpu = Cpu::of(&target, Some(&crowd))?.since(&cpu);
            let after = Seen::by(&target, &mut crowd).await?;
            let ours = paced.received_p99();
            eprintln!(
                "run {run}: p99 {ours:.0} µs, {control:.0} µs without hostile clients; schedule late p99 {:.0} µs\n  \
                 CPU s a second: {cpu}; without them: {alone}\n  met a second: {}",
                paced.lag.value_at_quantile(0.99) as f64 / 1e3,
                after.since(&before),
            );
            let faults = after.unmet(&before, self.without);
            ensure!(
                faults.is_empty(),
                "the hostile clients did not bite, this measured nothing: {}",
                faults.join("; ")
            );
            drop(crowd);
            sleep(GONE_AFTER).await;
            with.push(ours);
            without.push(control);
        }
        target.check_quiet()?;
        target.stop().await?;
        ensure!(
            self.without.is_empty(),
            "some kinds stayed away: the runs above tell what they cost, this is no figure"
        );
        Ok(Row { id: "abuse", unit: "µs", target: 1.2, at_least: false, ..row(&with, &without) })
    }
}

/// What the gateway counts when a kind meets its limit; each of them must have moved.
const fn counters(kind: Kind) -> &'static [&'static str] {
    const RATE_LIMITED: &str = "gateway_sockets_closed_total{code=\"rate_limited\"}";
    const OVER_SOCKET: &str = "gateway_messages_limited_total{of=\"socket\"}";
    const OVER_USER: &str = "gateway_messages_limited_total{of=\"user\"}";
    const FLOOD: &str = "gateway_frames_refused_total{fault=\"flood\"}";
    const POLICY_VIOLATION: &str = "gateway_sockets_closed_total{code=\"policy_violation\"}";
    match kind {
        Kind::HalfSent => &["gateway_handshakes_refused_total{code=\"timeout\"}"],
        Kind::Connects => &["gateway_handshakes_refused_total{code=\"too_many_connects\"}"],
        Kind::Messages => &[OVER_SOCKET, OVER_USER, RATE_LIMITED],
        Kind::Bytes => &[OVER_SOCKET, RATE_LIMITED],
        Kind::Pings | Kind::Fragments => &[FLOOD, POLICY_VIOLATION],
        Kind::Stuck => &["gateway_sockets_closed_total{code=\"slow\"}"],
        Kind::Mute => &["gateway_sockets_closed_total{code=\"heartbeat_timeout\"}"],
        Kind::Strangers => &["gateway_sockets_closed_total{code=\"authenticate_timeout\"}"],
    }
}

/// What was met up to a moment.
struct Seen {
    crowd_stands_for: Duration,
    counted: BTreeMap<&'static str, f64>,
    told: Report,
}

impl Seen {
    async fn by(target: &Target, crowd: &mut Crowd) -> Result<Self> {
        let mut counted = BTreeMap::new();
        for counter in Kind::ALL.into_iter().flat_map(counters) {
            counted.insert(*counter, target.counter(counter).await?);
        }
        Ok(Self { crowd_stands_for: crowd.stands_for(), counted, told: crowd.report()? })
    }

    /// Why the time since `before` counts for nothing, if it does not.
    ///
    /// Kinds whose closes look the same to the gateway are told apart by what each of them was told.
    fn unmet(&self, before: &Self, without: &[Kind]) -> Vec<String> {
        let mut faults = Vec::new();
        for kind in Kind::ALL.into_iter().filter(|kind| !without.contains(kind)) {
            if kind == Kind::Mute && self.crowd_stands_for < SILENCE_ENDS_AFTER {
                continue;
            }
            if self.told_since(before, kind) == 0 {
                faults.push(format!("no client of {} was told so", kind.name()));
            }
            let still = |counter: &&&str| self.counted_since(before, counter) <= 0.0;
            faults.extend(counters(kind).iter().filter(still).map(|counter| format!("{counter} did not move")));
        }
        let standing = before.told.standing.min(self.told.standing);
        if !without.contains(&Kind::HalfSent) && standing < HALF_SENT as u64 * 9 / 10 {
            faults.push(format!("{standing} of {HALF_SENT} half-sent requests were open"));
        }
        faults
    }

    fn told_since(&self, before: &Self, kind: Kind) -> u64 {
        let told = |seen: &Self| seen.told.met.get(&kind).copied().unwrap_or(0);
        told(self).saturating_sub(told(before))
    }

    fn counted_since(&self, before: &Self, counter: &str) -> f64 {
        let counted = |seen: &Self| seen.counted.get(counter).copied().unwrap_or(0.0);
        counted(self) - counted(before)
    }

    /// Each kind and each counter in a second, for a reader.
    fn since(&self, before: &Self) -> String {
        let seconds = (self.crowd_stands_for - before.crowd_stands_for).as_secs_f64();
        let told = Kind::ALL
            .into_iter()
            .map(|kind| format!("{} {:.1}", kind.name(), self.told_since(before, kind) as f64 / seconds));
        let counted = self.counted.keys().map(|counter| {
            let short = counter.trim_start_matches("gateway_");
            format!("{short} {:.1}", self.counted_since(before, counter) / seconds)
        });
        let (told, counted): (Vec<_>, Vec<_>) = (told.collect(), counted.collect());
        format!(
            "{} ({} half-sent open)\n  counted a second: {}",
            told.join(", "),
            self.told.standing,
            counted.join(", ")
        )
    }
}

/// CPU time, in seconds, and when it was read.
struct Cpu {
    at: Duration,
    heliograph: f64,
    broker: f64,
    load: f64,
    crowd: f64,
}

impl Cpu {
    fn of(target: &Target, crowd: Option<&Crowd>) -> Result<Self> {
        let (heliograph, broker) = target.cpu()?;
        let at = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        let load = cpu_of(std::process::id())?;
        Ok(Self { at, heliograph, broker, load, crowd: crowd.map_or(Ok(0.0), Crowd::cpu)? })
    }

    /// Each a second.
    fn since(&self, before: &Self) -> Self {
        let at = self.at.saturating_sub(before.at);
        let a_second = |now: f64, then: f64| (now - then) / at.as_secs_f64();
        Self {
            at,
            heliograph: a_second(self.heliograph, before.heliograph),
            broker: a_second(self.broker, before.broker),
            load: a_second(self.load, before.load),
            crowd: a_second(self.crowd, before.crowd),
        }
    }
}

impl std::fmt::Display for Cpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { heliograph, broker, load, crowd, .. } = self;
        write!(f, "hostile {crowd:.2}, heliograph {heliograph:.2}, nats-server {broker:.2}, load {load:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is seen once each kind was met so often, in pairs of what the gateway counts and what clients were told.
    fn seen(crowd_stands_for: Duration, times: impl Fn(Kind) -> u64) -> Seen {
        let mut counted = BTreeMap::new();
        for kind in Kind::ALL {
            for counter in counters(kind) {
                *counted.entry(*counter).or_insert(0.0) += times(kind) as f64;
            }
        }
        let standing = if times(Kind::HalfSent) > 0 { HALF_SENT as u64 } else { 0 };
        let told = Report { standing, met: Kind::ALL.into_iter().map(|kind| (kind, times(kind))).collect() };
        Seen { crowd_stands_for, counted, told }
    }

    #[test]
    fn a_kind_that_was_not_met_refuses_the_figure() {
        let before = seen(Duration::from_secs(14), |_| 7);
        assert_eq!(seen(SILENCE_ENDS_AFTER, |_| 8).unmet(&before, &[]), Vec::<String>::new());
        for missing in Kind::ALL {
            let after = seen(SILENCE_ENDS_AFTER, |kind| if kind == missing { 7 } else { 8 });
            let faults = after.unmet(&before, &[]);
            assert!(faults.iter().any(|fault| fault.contains(&missing.name())), "{missing:?}: {faults:?}");
        }
    }

    #[test]
    fn silence_counts_only_where_there_was_time_for_it() {
        let before = seen(Duration::from_secs(14), |_| 7);
        let short = seen(Duration::from_secs(20), |kind| if kind == Kind::Mute { 7 } else { 8 });
        assert_eq!(short.unmet(&before, &[]), Vec::<String>::new());
    }

    #[test]
    fn half_sent_requests_must_stand_all_the_time() {
        let before = Seen { told: Report::default(), ..seen(Duration::from_secs(14), |_| 7) };
        let faults = seen(SILENCE_ENDS_AFTER, |_| 8).unmet(&before, &[]);
        assert_eq!(faults, [format!("0 of {HALF_SENT} half-sent requests were open")]);
    }
}
