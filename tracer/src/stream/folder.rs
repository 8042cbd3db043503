//! Batches on disk that wait for the server, in files of one folder. Each batch is in a file before it is sent, and stays there
//! until the server has it, so that the end of the process loses none.
//!
//! A file begins with a line that names the cluster, the host and the run. Records follow: length (4 bytes), number (8),
//! observations (8), checksum (8), frame. Integers are little-endian. Nothing is synchronized to the disk: the end of a process
//! loses nothing, a power failure up to half a minute. Everything that is read is checked, also after a restart of the agent: the
//! files may be damaged, or placed by someone else.

use std::{
    collections::VecDeque,
    fs::File,
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
};

use rustix::{
    fd::OwnedFd,
    fs::{AtFlags, CWD, Dir, FlockOperation, Mode, OFlags, flock, mkdirat, openat, unlinkat},
    process::geteuid,
};
use sha2::{Digest, Sha256};

use crate::record::MAX_BATCH;

/// First word and version of each file.
const FORMAT: &str = "execpath-queue 1";

/// Largest file before the next one begins. A file is removed once the server has all its batches.
const FILE_BYTES: u64 = 256 << 10;

/// Bytes before each frame.
const HEAD: usize = 28;
/// Room of a record beside its frame.
pub(super) const OVERHEAD: u64 = HEAD as u64;

/// Longest frame. zstd enlarges text that it cannot compress by less than this.
const MAX_FRAME: usize = MAX_BATCH + (64 << 10);

/// Longest first line: three names of at most 128 bytes.
pub(super) const MAX_LINE: usize = 512;

/// Longest name of a run: a boot id has 36 characters, its time at most 20.
const MAX_RUN: usize = 96;

/// Most files: beyond, the folder is not a queue.
const MAX_FILES: usize = 100_000;

/// Largest number of a file, which leaves numbers for later ones.
const MAX_SEQUENCE: u64 = 1_000_000_000_000_000;

/// Ends of file names.
const ENDING: &str = ".queue";
const LOST: &str = ".lost";

/// Where batches wait while the server cannot be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Folder, for this purpose alone. Created if its parent exists.
    pub folder: PathBuf,
    /// Most bytes of all files.
    pub bytes: u64,
}

/// A batch from the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    /// `Nats-Msg-Id` of its message.
    pub(super) id: String,
    pub(super) observations: u64,
    pub(super) frame: Vec<u8>,
}

/// A file of the folder.
struct Entry {
    sequence: u64,
    /// Bytes of whole records, with the first line.
    size: u64,
}

/// The file that is read: the oldest one.
struct Reading {
    file: File,
    run: String,
    /// Begin and end of the present record.
    at: u64,
    end: u64,
    /// Observations of the present record.
    observations: u64,
}

/// The open folder. One process at a time has it.
pub(super) struct Folder {
    folder: OwnedFd,
    cluster: String,
    host: String,
    run: String,
    /// Oldest first.
    files: VecDeque<Entry>,
    reading: Option<Reading>,
    /// The last file, if this process made it.
    writing: Option<File>,
    next: u64,
    file_bytes: u64,
    /// Count of observations that had no room and that no part of the recording tells yet.
    lost: File,
    left_out: u64,
}

impl Folder {
    /// Opens the folder, and finds the batches of earlier runs.
    ///
    /// # Errors
    /// The folder cannot be used: it cannot be created, belongs to another user, is open to others, or is in use.
    pub(super) fn open(disk: &Disk, cluster: &str, host: &str, run: &str) -> io::Result<Self> {
        let folder = open_folder(&disk.folder)?;
        let name = format!("{cluster}{LOST}");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let lost = File::from(openat(&folder, &*name, flags, Mode::from_raw_mode(0o600))?);
        check(&lost).map_err(|why| io::Error::other(format!("{name}: {why}")))?;
        let mut opened = Self {
            folder,
            cluster: cluster.to_owned(),
            host: host.to_owned(),
            run: run.to_owned(),
            files: VecDeque::new(),
            reading: None,
            writing: None,
            next: 1,
            file_bytes: FILE_BYTES.min(disk.bytes / 8),
            left_out: count(&lost),
            lost,
        };
        opened.find()?;
        Ok(opened)
    }

    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|entry| entry.size).sum()
    }

    /// Observations without room that no part tells yet, of this run or an earlier one.
    pub(super) const fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Keeps this count.
    pub(super) fn keep_left_out(&mut self, observations: u64) {
        if observations != self.left_out {
            self.left_out = observations;
            // Always as long, so that a shorter number leaves no digit of a longer one.
            if let Err(error) = self.lost.write_all_at(format!("{observations:020}\n").as_bytes(), 0) {
                tracing::warn!(%error, "the count of observations without room cannot be kept");
            }
        }
    }

    /// Adds a batch of this run.
    pub(super) fn store(&mut self, number: u64, observations: u64, frame: &[u8]) -> io::Result<()> {
        let fits = self.files.back().is_some_and(|entry| entry.size < self.file_bytes);
        if self.writing.is_none() || !fits {
            self.begin()?;
        }
        let (Some(file), Some(entry)) = (&self.writing, self.files.back_mut()) else {
            return Err(io::Error::other("no file"));
        };
        let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
        let mut record = Vec::with_capacity(HEAD + frame.len());
        record.extend(length.to_le_bytes());
        record.extend(number.to_le_bytes());
        record.extend(observations.to_le_bytes());
        record.extend(checksum(&self.run, number, observations, frame));
        record.extend_from_slice(frame);
        if let Err(error) = file.write_all_at(&record, entry.size) {
            // A disk without room: whatever was written of it is no record.
            if file.set_len(entry.size).is_err() {
                self.writing = None;
            }
            return Err(error);
        }
        entry.size += record.len() as u64;
        Ok(())
    }

    /// The oldest batch; `None` if none waits. Reports files that are damaged, and goes on after them.
    pub(super) fn first(&mut self) -> Option<Stored> {
        loop {
            let Entry { sequence, size } = *self.files.front()?;
            let reading = match &mut self.reading {
                Some(reading) => reading,
                None => match self.read(sequence) {
                    Ok(reading) => self.reading.insert(reading),
                    Err(why) => {
                        self.damaged(sequence, &why);
                        continue;
                    }
                },
            };
            if reading.at >= size {
                self.remove(sequence);
                continue;
            }
            match record(reading, size) {
                Ok(stored) => return Some(stored),
                Err(why) => {
                    let after = format!("{why}, after {} of {size} bytes", reading.at);
                    self.damaged(sequence, &after);
                }
            }
        }
    }

    /// Leaves out the batch of [`first`](Self::first). Returns its number of observations.
    pub(super) fn pass(&mut self) -> u64 {
        let (Some(reading), Some(entry)) = (&mut self.reading, self.files.front()) else { return 0 };
        let observations = std::mem::take(&mut reading.observations);
        reading.at = reading.end;
        let (sequence, is_empty) = (entry.sequence, reading.at >= entry.size);
        if is_empty {
            self.remove(sequence);
        }
        observations
    }

    /// Begins a file.
    fn begin(&mut self) -> io::Result<()> {
        let sequence = self.next;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let name = self.name(sequence);
        let file = File::from(openat(&self.folder, &*name, flags, Mode::from_raw_mode(0o600))?);
        self.next += 1;
        let line = format!("{FORMAT} {} {} {}\n", self.cluster, self.host, self.run);
        if let Err(error) = file.write_all_at(line.as_bytes(), 0) {
            let _left = unlinkat(&self.folder, &*name, AtFlags::empty());
            return Err(error);
        }
        self.files.push_back(Entry { sequence, size: line.len() as u64 });
        self.writing = Some(file);
        Ok(())
    }

    /// Finds the files of earlier runs.
    fn find(&mut self) -> io::Result<()> {
        let mut found = Vec::new();
        for (seen, file) in Dir::read_from(&self.folder)?.enumerate() {
            if seen >= MAX_FILES {
                return Err(io::Error::other("it has more than 100000 files: it is no queue"));
            }
            found.extend(file?.file_name().to_str().ok().and_then(|name| self.sequence(name)));
        }
        found.sort_unstable();
        for sequence in found {
            self.next = sequence + 1;
            match self.open_file(sequence).and_then(|file| check(&file)) {
                Ok(size) => self.files.push_back(Entry { sequence, size }),
                Err(error) => {
                    tracing::warn!(file = self.name(sequence), %error, "this is no file of the queue: it is left out");
                }
            }
        }
        Ok(())
    }

    fn name(&self, sequence: u64) -> String {
        format!("{}.{sequence:016}{ENDING}", self.cluster)
    }

    fn sequence(&self, name: &str) -> Option<u64> {
        let digits = name.strip_prefix(&*self.cluster)?.strip_prefix('.')?.strip_suffix(ENDING)?;
        let is_number = digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|sequence| is_number && *sequence < MAX_SEQUENCE)
    }

    fn open_file(&self, sequence: u64) -> io::Result<File> {
        // A FIFO would make the open wait otherwise.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(File::from(openat(&self.folder, &*self.name(sequence), flags, Mode::empty())?))
    }

    /// Opens a file, and reads its first line.
    fn read(&self, sequence: u64) -> Result<Reading, String> {
        let text = |error: io::Error| error.to_string();
        let file = self.open_file(sequence).map_err(text)?;
        check(&file).map_err(text)?;
        let mut line = [0; MAX_LINE];
        let length = file.read_at(&mut line, 0).map_err(text)?;
        let line = line.get(..length).unwrap_or_default();
        let end = line.iter().position(|byte| *byte == b'\n').ok_or("it has no first line")?;
        let names = line.get(..end).and_then(|line| std::str::from_utf8(line).ok());
        let names = names.and_then(|line| line.strip_prefix(FORMAT)?.strip_prefix(' ')).ok_or("it is no queue")?;
        let mut names = names.split(' ');
        if (names.next(), names.next()) != (Some(&*self.cluster), Some(&*self.host)) {
            return Err("it is of another cluster or host".to_owned());
        }
        let run = names.next().filter(|run| (1..=MAX_RUN).contains(&run.len()));
        let run = run.filter(|run| run.bytes().all(|byte| byte.is_ascii_graphic())).ok_or("it names no run")?;
        let at = end as u64 + 1;
        Ok(Reading { file, run: run.to_owned(), at, end: at, observations: 0 })
    }

    /// Reports a file that cannot be read on, and removes it.
    fn damaged(&mut self, sequence: u64, why: &str) {
        let file = self.name(sequence);
        tracing::warn!(file, why, "a file of the queue is damaged: what is left of it is not published");
        self.remove(sequence);
    }

    /// Removes the oldest file.
    fn remove(&mut self, sequence: u64) {
        if let Err(error) = unlinkat(&self.folder, &*self.name(sequence), AtFlags::empty()) {
            tracing::warn!(file = self.name(sequence), %error, "a file of the queue cannot be removed");
        }
        self.reading = None;
        self.files.pop_front();
        if self.files.is_empty() {
            self.writing = None;
        }
    }
}

/// Opens or creates the folder, for this process alone.
fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || openat(CWD, path, flags, Mode::empty()).map_err(io::Error::from);
    let folder = match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            mkdirat(CWD, path, Mode::from_raw_mode(0o700))?;
            open()?
        }
        opened => opened?,
    };
    let file = File::from(folder);
    let known = file.metadata()?;
    if known.uid() != geteuid().as_raw() {
        return Err(io::Error::other("it belongs to another user"));
    }
    if known.mode() & 0o077 != 0 {
        return Err(io::Error::other("other users can enter it: `chmod 700`"));
    }
    let folder = OwnedFd::from(file);
    flock(&folder, FlockOperation::NonBlockingLockExclusive)
        .map_err(|_held| io::Error::other("another execpath uses it"))?;
    Ok(folder)
}

/// Size of a file that this user has made.
fn check(file: &File) -> io::Result<u64> {
    let known = file.metadata()?;
    if !known.is_file() || known.uid() != geteuid().as_raw() || known.nlink() != 1 {
        return Err(io::Error::other("not a file that this user has made"));
    }
    Ok(known.len())
}

/// The count in the file of observations without room.
fn count(file: &File) -> u64 {
    let mut text = [0; 21];
    let read = file.read_at(&mut text, 0).unwrap_or_default();
    let number = || std::str::from_utf8(&text).ok()?.strip_suffix('\n')?.parse().ok();
    if read == 0 {
        return 0;
    }
    number().unwrap_or_else(|| {
        tracing::warn!("the count of observations without room is damaged: it begins at 0");
        0
    })
}

/// Reads the record at the present place.
fn record(reading: &mut Reading, size: u64) -> Result<Stored, String> {
    let Reading { file, run, at, end, observations: counted } = reading;
    let left = size.saturating_sub(*at);
    if left < HEAD as u64 {
        return Err("it is cut".to_owned());
    }
    let mut head = [0; HEAD];
    file.read_exact_at(&mut head, *at).map_err(|error| error.to_string())?;
    let number = |from: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&head[from..from + 8]);
        u64::from_le_bytes(bytes)
    };
    let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
    let (number, observations) = (number(4), number(12));
    let after = HEAD as u64 + u64::from(length);
    if length as usize > MAX_FRAME || left < after {
        return Err("it is cut, or has no record here".to_owned());
    }
    let mut frame = vec![0; length as usize];
    file.read_exact_at(&mut frame, *at + HEAD as u64).map_err(|error| error.to_string())?;
    if head[20..] != checksum(run, number, observations, &frame) {
        return Err("its checksum is wrong".to_owned());
    }
    (*end, *counted) = (*at + after, observations);
    Ok(Stored { id: format!("{run}.{number}"), observations, frame })
}

/// Beginning of the hash of a record with its run.
fn checksum(run: &str, number: u64, observations: u64, frame: &[u8]) -> [u8; 8] {
    let mut hash = Sha256::new();
    hash.update(run.as_bytes());
    hash.update(number.to_le_bytes());
    hash.update(observations.to_le_bytes());
    hash.update(frame);
    let mut checksum = [0; 8];
    checksum.copy_from_slice(&hash.finalize()[..8]);
    checksum
}

#[cfg(test)]
mod tests;
