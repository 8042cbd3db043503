//! Merges recordings of several hosts into one. Ids of kernels get the number of their host, and all times are set by
//! one clock. A statement about one host alone ("no process here has the other end") is dropped if another recording
//! covers that host. Sessions are left to the correlator, which finds them in the merged recording.

mod clocks;
mod survey;

use std::{io, path::PathBuf};

pub use self::clocks::{By, Clock};
use self::survey::Survey;
use crate::{
    model::{BootTime, Fact, HostFacts, HostNo, Move, Observation, Source, Span},
    record::{End, Header, OpenError, Reader, Settings, Writer},
};

/// A recording to be merged: one file, or its parts.
#[derive(Clone, Debug)]
pub struct Input {
    /// Files of the recording.
    pub files: Vec<PathBuf>,
    /// Offset of its clock.
    pub clock: Clock,
    /// End of the recording.
    pub end: Option<End>,
    header: Header,
    to: Move,
}

impl Input {
    /// Recorded host.
    #[must_use]
    pub const fn host(&self) -> &HostFacts {
        &self.header.host
    }
}

/// Surveyed recordings, ready to be merged.
pub struct Merge {
    inputs: Vec<Input>,
    surveys: Vec<Survey>,
    /// End of the latest recording.
    end: BootTime,
}

/// First format with several hosts.
const OF_SEVERAL_HOSTS: u32 = 3;

/// The offending file and the reason.
type Fault = (PathBuf, OpenError);

impl Merge {
    /// Surveys recordings. Parts of one recording count as one recording. The clock of the first recording is the
    /// reference.
    ///
    /// # Errors
    /// A file cannot be read or is not a recording.
    pub fn survey(files: &[PathBuf]) -> Result<Self, Fault> {
        let (mut inputs, mut surveys) = (Vec::new(), Vec::new());
        let mut last = Vec::new();
        for files in together(files)? {
            let mut reader = Reader::open_all(&files)?;
            let (mut survey, mut end) = (Survey::default(), BootTime::default());
            for seen in reader.by_ref() {
                survey.take(&seen);
                end = end.max(seen.at);
            }
            let (header, ended) = (reader.header().clone(), reader.end().cloned());
            let clock = Clock { ahead: 0, by: By::Itself };
            inputs.push(Input { files, clock, end: ended, header, to: Move::default() });
            surveys.push(survey);
            last.push(end);
        }
        let kernels = kernels(&inputs);
        let clocks = compare(&inputs, &surveys, &kernels);
        // No time lies before boot: the clock with the largest lead stays, and the others are moved towards it.
        let furthest = clocks.iter().map(|clock| clock.ahead).max().unwrap_or_default();
        let mut end = BootTime::default();
        for (((input, host), clock), last) in inputs.iter_mut().zip(kernels).zip(clocks).zip(last) {
            let later = Span(u64::try_from(furthest - clock.ahead).unwrap_or(u64::MAX));
            if last.0 > BootTime::LATEST.0.saturating_sub(later.0) {
                return Err((input.files.first().cloned().unwrap_or_default(), OpenError::TooFar));
            }
            input.clock = clock;
            input.to = Move { host: HostNo(u16::try_from(host).unwrap_or(u16::MAX)), later };
            end = end.max(last.plus(later));
        }
        Ok(Self { inputs, surveys, end })
    }

    /// Merged recordings, in the given order.
    #[must_use]
    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    /// Header of the merged recording, with the command that makes it.
    #[must_use]
    pub fn header(&self, command: String) -> Header {
        let mut hosts: Vec<HostFacts> = Vec::new();
        let (mut abilities, mut degraded, mut options) = (Vec::new(), Vec::new(), Settings::default());
        // Recordings without sequence numbers keep their pairing rule, unless merged with newer ones.
        let formats = self.inputs.iter().map(|input| input.header.format);
        let format = formats.chain([OF_SEVERAL_HOSTS]).max().unwrap_or_default();
        for Input { header, to, .. } in &self.inputs {
            if usize::from(to.host.0) == hosts.len() {
                hosts.push(HostFacts { ticks_added: to.ticks(), ..header.host.clone() });
            }
            add_new(&mut abilities, &header.abilities);
            add_new(&mut degraded, &header.degraded);
            let Settings { apiserver_port, kubelet_port, runtime_socket, netns: _, redacted } = header.options.clone();
            options.apiserver_port = options.apiserver_port.or(apiserver_port);
            options.kubelet_port = options.kubelet_port.or(kubelet_port);
            options.runtime_socket = options.runtime_socket.or(runtime_socket);
            options.redacted |= redacted;
        }
        let anchor = self.inputs.first().map(|first| {
            let mut anchor = first.header.anchor;
            anchor.boot_to_utc_ns = anchor.boot_to_utc_ns.saturating_sub(first.to.later.0);
            anchor
        });
        let mut hosts = hosts.into_iter();
        let host = hosts.next().unwrap_or_default();
        let others = hosts.collect();
        Header {
            format,
            others,
            command,
            abilities,
            degraded,
            options,
            ..Header::new(anchor.unwrap_or_default(), host)
        }
    }

    /// Reads all recordings again and writes them as one, ordered by time. Returns the number of observations.
    ///
    /// # Errors
    /// A recording can no longer be opened, or the merged one cannot be written.
    pub fn write(&self, mut writer: Writer) -> io::Result<u64> {
        let mut sources = Vec::new();
        for input in &self.inputs {
            let reader = Reader::open_all(&input.files).map_err(|(_, error)| io::Error::other(error))?;
            sources.push(Stream { reader, to: input.to, next: None, at: BootTime::default() }.read());
        }
        let mut written = 0;
        // Always write the observation of the recording that lags behind.
        while let Some((index, _)) =
            sources.iter().enumerate().filter(|(_, one)| one.next.is_some()).min_by_key(|(_, one)| one.at)
        {
            let Some(source) = sources.get_mut(index) else { break };
            let (seen, at) = (source.next.take(), source.at);
            source.advance();
            if let Some(seen) = seen.filter(|seen| self.is_true_of_all(index, &seen.fact)) {
                writer.write(&seen)?;
                written += 1;
                writer.tick(at)?;
            }
        }
        writer.write(&Observation::new(self.end, Source::Engine, Fact::Stopped))?;
        writer.finish()?;
        Ok(written)
    }

    /// True if a fact of recording `index` still holds when all hosts are considered.
    fn is_true_of_all(&self, index: usize, fact: &Fact) -> bool {
        if matches!(fact, Fact::Stopped | Fact::Continued) {
            return false;
        }
        // If another host has that address, its own recording shows the other end, or that the other end is gone.
        let Fact::PeerAbsent { tuple, .. } = fact else { return true };
        let address = tuple.remote.ip();
        let own = self.surveys.get(index).is_some_and(|own| own.has(address));
        own || !self.surveys.iter().any(|other| other.has(address))
    }
}

/// Appends the missing elements of `more`.
fn add_new<T: Clone + PartialEq>(to: &mut Vec<T>, more: &[T]) {
    for one in more {
        if !to.contains(one) {
            to.push(one.clone());
        }
    }
}

/// Groups files into recordings, in the given order.
fn together(files: &[PathBuf]) -> Result<Vec<Vec<PathBuf>>, Fault> {
    let mut groups: Vec<(Option<Header>, Vec<PathBuf>)> = Vec::new();
    for file in files {
        let reader = Reader::open(file).map_err(|error| (file.clone(), error))?;
        let header = reader.header().clone();
        if !header.others.is_empty() {
            return Err((file.clone(), OpenError::Merged));
        }
        let whole = header.part.is_some().then_some(Header { part: None, ..header });
        match groups.iter_mut().find(|(other, _)| whole.is_some() && *other == whole) {
            Some((_, group)) => group.push(file.clone()),
            None => groups.push((whole, vec![file.clone()])),
        }
    }
    Ok(groups.into_iter().map(|(_, files)| files).collect())
}

/// Kernel of each recording. Kernels are numbered in the order of their first recordings.
fn kernels(inputs: &[Input]) -> Vec<usize> {
    let mut boots: Vec<&str> = Vec::new();
    let mut numbers = Vec::with_capacity(inputs.len());
    for input in inputs {
        let boot = input.header.host.boot_id.as_str();
        numbers.push(boots.iter().position(|one| *one == boot).unwrap_or_else(|| {
            boots.push(boot);
            boots.len() - 1
        }));
    }
    numbers
}

/// Clock of each recording. Recordings of one kernel share one clock and never correct each other.
fn compare(inputs: &[Input], surveys: &[Survey], kernels: &[usize]) -> Vec<Clock> {
    let count = kernels.iter().max().map_or(0, |last| last + 1);
    let first_of = |kernel: usize| kernels.iter().position(|one| *one == kernel).and_then(|at| inputs.get(at));
    let booted = |kernel| first_of(kernel).map_or(0, |input| i128::from(input.header.anchor.boot_to_utc_ns));
    // A kernel that booted later, by UTC, has a smaller boot time.
    let by_utc: Vec<i128> = (0..count).map(|kernel| booted(0) - booted(kernel)).collect();
    let clocks = clocks::compare(&by_utc, &survey::crossings(surveys, kernels));
    kernels.iter().filter_map(|kernel| clocks.get(*kernel).copied()).collect()
}

/// A recording being read.
struct Stream {
    reader: Reader,
    to: Move,
    next: Option<Observation>,
    /// Time reached by the kernel's records, including the next one.
    at: BootTime,
}

impl Stream {
    fn read(mut self) -> Self {
        self.advance();
        self
    }

    fn advance(&mut self) {
        self.next = self.reader.next();
        if let Some(seen) = &mut self.next {
            seen.move_to(self.to);
            // Answers are dated back. Only records and ticks show the progress of a recording.
            if seen.source == Source::Ebpf || seen.fact == Fact::Tick {
                self.at = self.at.max(seen.at);
            }
        }
    }
}
