//! Merges recordings of several hosts into one. Ids of kernels get the number of their host, and all times are set by
//! one clock. A statement about one host alone ("no process here has the other end") is dropped if another recording
//! covers that host. Sessions are left to the correlator, which finds them in the merged recording.

mod clocks;
mod origin;
mod survey;

use std::{io, path::PathBuf};

use self::survey::Survey;
pub use self::{
    clocks::{By, Clock},
    origin::{Fault, FromStream, Origin},
};
use crate::{
    model::{BootTime, Fact, HostFacts, HostNo, Move, Observation, Source, Span},
    record::{End, Header, OpenError, Part, Reader, Settings, Writer},
};

/// A recording to be merged.
#[derive(Clone, Debug)]
pub struct Input {
    /// Source of the recording.
    pub origin: Origin,
    /// Offset of its clock.
    pub clock: Clock,
    /// End of the recording.
    pub end: Option<End>,
    header: Header,
    to: Move,
    /// Number of observations at its beginning that repeat observations of earlier parts.
    told_again: u64,
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
    /// Number of observations at the beginning of the merged recording that repeat observations of earlier parts.
    told_again: u64,
}

/// Longest uptime of a host in a message stream, and largest error of its clock. A host beyond them would move the times
/// of all others too far.
const MAX_UPTIME: BootTime = BootTime(10 * NS_PER_YEAR);
const MAX_CLOCK_ERROR: u64 = NS_PER_YEAR;
const NS_PER_YEAR: u64 = 366 * 24 * 3_600 * 1_000_000_000;

/// First format with several hosts.
const OF_SEVERAL_HOSTS: u32 = 3;

impl Merge {
    /// Surveys recordings. Parts of one recording count as one recording. The clock of the first recording is the
    /// reference.
    ///
    /// # Errors
    /// A file cannot be read or is not a recording.
    pub fn survey(files: &[PathBuf]) -> Result<Self, Fault> {
        let mut surveyed = Surveyed::default();
        for files in together(files)? {
            surveyed.add(Origin::Files(files))?;
        }
        surveyed.merge()
    }

    /// Surveys recordings from a message stream. Hosts share no kernel here, whatever they say. A recording that cannot be
    /// read or has impossible times is left out, and returned with the reason.
    ///
    /// # Errors
    /// The times of the others do not fit together.
    pub fn survey_streams(streams: Vec<FromStream>) -> Result<(Self, Vec<Fault>), Fault> {
        let (mut surveyed, mut left_out) = (Surveyed::default(), Vec::new());
        for stream in streams {
            if let Err(fault) = surveyed.add(Origin::Stream(stream)) {
                left_out.push(fault);
            }
        }
        surveyed.merge().map(|merge| (merge, left_out))
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
        let part = (self.told_again > 0).then_some(Part { number: 1, told_again: self.told_again });
        Header {
            part,
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
            sources.push(input.read().map_err(|(_, error)| io::Error::other(error))?);
        }
        let mut written = 0;
        // Repeated observations of all recordings come first, as in a part.
        for is_repeated in [true, false] {
            // Always write the observation of the recording that lags behind.
            while let Some((index, _)) = sources
                .iter()
                .enumerate()
                .filter(|(_, one)| one.next.is_some() && (one.told_again > 0 || !is_repeated))
                .min_by_key(|(_, one)| one.at)
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

/// Recordings that were read once.
#[derive(Default)]
struct Surveyed {
    inputs: Vec<Input>,
    surveys: Vec<Survey>,
    /// Time of the last observation of each recording.
    last: Vec<BootTime>,
}

impl Surveyed {
    /// Reads a recording.
    fn add(&mut self, origin: Origin) -> Result<(), Fault> {
        let mut reader = origin.open()?;
        let (mut survey, mut end, mut count) = (Survey::default(), BootTime::default(), 0);
        for seen in reader.by_ref() {
            survey.take(&seen);
            end = end.max(seen.at);
            count += 1;
        }
        let (header, ended) = (reader.header().clone(), reader.end().cloned());
        if let Origin::Stream(stream) = &origin
            && (end > MAX_UPTIME || header.anchor.utc_ns(end).abs_diff(stream.stored_ns) > MAX_CLOCK_ERROR)
        {
            return Err(origin.too_far());
        }
        let clock = Clock { ahead: 0, by: By::Itself };
        let told_again = header.part.map_or(0, |part| part.told_again).min(count);
        self.inputs.push(Input { origin, clock, end: ended, header, to: Move::default(), told_again });
        self.surveys.push(survey);
        self.last.push(end);
        Ok(())
    }

    /// Compares the clocks.
    fn merge(self) -> Result<Merge, Fault> {
        let Self { mut inputs, surveys, last } = self;
        let kernels = kernels(&inputs);
        let clocks = compare(&inputs, &surveys, &kernels);
        // No time lies before boot: the clock with the largest lead stays, and the others are moved towards it.
        let furthest = clocks.iter().map(|clock| clock.ahead).max().unwrap_or_default();
        let mut end = BootTime::default();
        for (((input, host), clock), last) in inputs.iter_mut().zip(kernels).zip(clocks).zip(last) {
            let later = Span(u64::try_from(furthest - clock.ahead).unwrap_or(u64::MAX));
            if last.0 > BootTime::LATEST.0.saturating_sub(later.0) {
                return Err(input.origin.too_far());
            }
            input.clock = clock;
            input.to = Move { host: HostNo(u16::try_from(host).unwrap_or(u16::MAX)), later };
            end = end.max(last.plus(later));
        }
        let (merge, mut count) = (Merge { inputs, surveys, end, told_again: 0 }, 0);
        for (index, input) in merge.inputs.iter().enumerate().filter(|(_, input)| input.told_again > 0) {
            let told_again = usize::try_from(input.told_again).unwrap_or(usize::MAX);
            let repeated = input.origin.open()?.take(told_again);
            count += repeated.filter(|seen| merge.is_true_of_all(index, &seen.fact)).count() as u64;
        }
        Ok(Merge { told_again: count, ..merge })
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
    let mut kernels: Vec<(&str, &str)> = Vec::new();
    let mut numbers = Vec::with_capacity(inputs.len());
    for input in inputs {
        // A host in a stream must not take the place of another one by its boot id.
        let host = match &input.origin {
            Origin::Files(_) => "",
            Origin::Stream(stream) => &stream.host,
        };
        let kernel = (host, input.header.host.boot_id.as_str());
        numbers.push(kernels.iter().position(|one| *one == kernel).unwrap_or_else(|| {
            kernels.push(kernel);
            kernels.len() - 1
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
    /// Number of repeated observations that are left, with the next one.
    told_again: u64,
    /// Time reached by the kernel's records, including the next one.
    at: BootTime,
}

impl Input {
    fn read(&self) -> Result<Stream, Fault> {
        let Self { origin, to, told_again, .. } = self;
        let mut stream =
            Stream { reader: origin.open()?, to: *to, next: None, told_again: *told_again, at: BootTime::default() };
        stream.take();
        Ok(stream)
    }
}

impl Stream {
    fn advance(&mut self) {
        self.told_again = self.told_again.saturating_sub(1);
        self.take();
    }

    fn take(&mut self) {
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
