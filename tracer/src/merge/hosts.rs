//! Recordings of several hosts, surveyed and merged.

use std::{io, path::PathBuf};

use super::{
    clocks::{self, By, Clock},
    origin::{Fault, FromStream, Origin},
    sequence::{self, Merged, Sequence},
    survey::{self, Survey},
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
    pub(super) to: Move,
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
    pub(super) surveys: Vec<Survey>,
    /// Merged time reached by the kernel records of each recording.
    pub(super) reached: Vec<BootTime>,
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

/// Smallest change of a clock for which everything is merged anew, in nanoseconds. Each faster connection moves a measured clock
/// a little; sessions do not depend on that.
const OUTDATED: u128 = 50_000_000;

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
        surveyed.merge(None)
    }

    /// Surveys recordings from a message stream. Hosts share no kernel here, whatever they say. A recording that cannot be
    /// read or has impossible times is left out, and returned with the reason.
    ///
    /// # Errors
    /// The times of the others do not fit together.
    pub fn survey_streams(streams: Vec<FromStream>) -> Result<(Self, Vec<Fault>), Fault> {
        let (surveyed, left_out) = Surveyed::of_streams(streams);
        surveyed.merge(None).map(|merge| (merge, left_out))
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
        let mut sequence = self.sequence()?;
        let mut written = 0;
        while let Some(Merged { input, at, seen }) = sequence.next(BootTime::LATEST) {
            if self.is_true_of_all(input, &seen.fact) {
                writer.write(&seen)?;
                written += 1;
                writer.tick(at)?;
            }
        }
        writer.write(&Observation::new(self.end, Source::Engine, Fact::Stopped))?;
        writer.finish()?;
        Ok(written)
    }

    /// True if the connections that were surveyed since the merge tell another clock than the one that it uses.
    pub(super) fn has_outdated_clock(&self) -> bool {
        let now = compare(&self.inputs, &self.surveys, &kernels(&self.inputs));
        let is_other = |(input, now): (&Input, Clock)| input.clock.ahead.abs_diff(now.ahead) > OUTDATED;
        self.inputs.iter().zip(now).any(is_other)
    }

    /// The recordings from their beginning, as one sequence.
    pub(super) fn sequence(&self) -> io::Result<Sequence> {
        let readers: Result<Vec<_>, Fault> =
            self.inputs.iter().map(|input| Ok((input.origin.open()?, input.to, input.told_again))).collect();
        Ok(Sequence::new(readers.map_err(|(_, error)| io::Error::other(error))?))
    }

    /// True if a fact of recording `index` still holds when all hosts are considered.
    pub(super) fn is_true_of_all(&self, index: usize, fact: &Fact) -> bool {
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
pub(super) struct Surveyed {
    inputs: Vec<Input>,
    surveys: Vec<Survey>,
    /// Time of the last observation of each recording.
    last: Vec<BootTime>,
    /// Time reached by the kernel records of each recording.
    reached: Vec<BootTime>,
}

impl Surveyed {
    /// Reads the recordings of a message stream. Returns those that cannot be read, with the reason.
    pub(super) fn of_streams(streams: Vec<FromStream>) -> (Self, Vec<Fault>) {
        let (mut surveyed, mut left_out) = (Self::default(), Vec::new());
        for stream in streams {
            if let Err(fault) = surveyed.add(Origin::Stream(stream)) {
                left_out.push(fault);
            }
        }
        (surveyed, left_out)
    }

    /// UTC of the boot of the first host, in nanoseconds.
    pub(super) fn first_boot(&self) -> Option<u64> {
        self.inputs.first().map(|input| input.header.anchor.boot_to_utc_ns)
    }

    /// Reads a recording.
    fn add(&mut self, origin: Origin) -> Result<(), Fault> {
        let mut reader = origin.open()?;
        let (mut survey, mut end, mut count) = (Survey::default(), BootTime::default(), 0);
        let mut reached = BootTime::default();
        for seen in reader.by_ref() {
            survey.take(&seen);
            end = end.max(seen.at);
            if sequence::shows_progress(&seen) {
                reached = reached.max(seen.at);
            }
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
        self.reached.push(reached);
        Ok(())
    }

    /// Compares the clocks. With `zero`, the merged clock begins at this UTC, in nanoseconds.
    pub(super) fn merge(self, zero: Option<u64>) -> Result<Merge, Fault> {
        let first_boot = self.first_boot().unwrap_or_default();
        let Self { mut inputs, surveys, last, mut reached } = self;
        let kernels = kernels(&inputs);
        let clocks = compare(&inputs, &surveys, &kernels);
        // No time lies before boot: the clock with the largest lead stays, and the others are moved towards it.
        let furthest = match zero {
            None => clocks.iter().map(|clock| clock.ahead).max().unwrap_or_default(),
            Some(zero) => i128::from(first_boot) - i128::from(zero),
        };
        let mut end = BootTime::default();
        let times = last.into_iter().zip(&mut reached);
        for (((input, host), clock), (last, reached)) in inputs.iter_mut().zip(kernels).zip(clocks).zip(times) {
            let later = Span(u64::try_from(furthest - clock.ahead).unwrap_or(u64::MAX));
            if last.0 > BootTime::LATEST.0.saturating_sub(later.0) {
                return Err(input.origin.too_far());
            }
            input.clock = clock;
            input.to = Move { host: HostNo(u16::try_from(host).unwrap_or(u16::MAX)), later };
            *reached = reached.plus(later);
            end = end.max(last.plus(later));
        }
        let (merge, mut count) = (Merge { inputs, surveys, reached, end, told_again: 0 }, 0);
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
