//! A crowd: sessions that are open at the same time, and the clients that opened them.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Result, anyhow};

use super::evaluate::Client;
use super::kubectls::Kubectl;
use super::load::Load;
use super::plan::Planned;
use crate::lab::RunningLab;

/// Open sessions. The process of each session has received all its bytes.
pub(super) enum Crowd {
    Kubectls(BTreeMap<u32, Kubectl>),
    Load(Load),
}

impl Crowd {
    /// Opens sessions with real kubectls of this version, or of the newest.
    pub(super) fn kubectls(
        lab: &RunningLab,
        version: Option<&str>,
        sessions: &[Planned],
        at_once: usize,
        report: impl Fn(usize) + Sync,
    ) -> Result<Self> {
        let opened = Mutex::new(BTreeMap::new());
        in_turns(sessions, at_once, |_worker, session| {
            let kubectl = Kubectl::open(lab.kubectl(version)?, session)?;
            let mut opened = opened.lock().map_err(|_poisoned| anyhow!("another thread panicked"))?;
            opened.insert(session.number, kubectl);
            report(opened.len());
            Ok(())
        })?;
        Ok(Self::Kubectls(opened.into_inner().map_err(|_poisoned| anyhow!("another thread panicked"))?))
    }

    /// The client that opened this session.
    pub(super) fn client(&self, number: u32) -> Option<Client> {
        match self {
            Self::Kubectls(kubectls) => Some(Client { pid: kubectls.get(&number)?.pid(), address: None }),
            Self::Load(load) => Some(Client { pid: load.pid(), address: Some(*load.addresses.get(&number)?) }),
        }
    }

    /// Sends one byte through each session, which its process echoes.
    pub(super) fn poke(&mut self) -> Result<()> {
        match self {
            Self::Kubectls(kubectls) => kubectls.values_mut().try_for_each(Kubectl::poke),
            Self::Load(load) => load.poke(),
        }
    }

    /// Ends all sessions.
    pub(super) fn end(self) -> Result<()> {
        match self {
            Self::Kubectls(mut kubectls) => {
                kubectls.values_mut().for_each(Kubectl::close);
                kubectls.into_values().try_for_each(Kubectl::end)
            }
            Self::Load(load) => load.end(),
        }
    }
}

/// Calls `work` once for each session, on `workers` threads. `work` also gets its worker's number. The first error
/// stops the others.
pub(in crate::lab) fn in_turns<T: Sync>(
    sessions: &[T],
    workers: usize,
    work: impl Fn(usize, &T) -> Result<()> + Sync,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let worker = |number: usize| -> Result<()> {
        while let Some(session) = sessions.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = work(number, session) {
                // Let no worker begin another session.
                next.store(sessions.len(), Ordering::Relaxed);
                return Err(error);
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let worker = &worker;
        let threads: Vec<_> = (0..workers).map(|number| scope.spawn(move || worker(number))).collect();
        let ended = threads.into_iter().map(|thread| thread.join().map_err(|_panic| anyhow!("a thread panicked"))?);
        // Join all threads, even after a failure.
        ended.fold(Ok(()), Result::and)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use anyhow::bail;

    use super::{Planned, in_turns};

    #[test]
    fn work_runs_once_per_session() {
        let sum = AtomicU32::new(0);
        let add = |_worker: usize, session: &Planned| {
            sum.fetch_add(session.number, Ordering::Relaxed);
            Ok(())
        };
        in_turns(&Planned::all(1..=10, 1), 3, add).expect("nothing fails");
        assert_eq!(sum.into_inner(), 55);
    }

    #[test]
    fn error_stops_all_workers() {
        let failed = in_turns(&Planned::all(1..=10, 1), 2, |_worker, session| bail!("{}", session.number));
        assert!(failed.is_err());
    }
}
