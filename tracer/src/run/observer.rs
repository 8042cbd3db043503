//! The observer: traces beside the running command, and answers when the command has ended.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Seek},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use super::{
    cause::{Conclusion, Sight, conclude},
    message::{Answer, Shared, ToFront, ToObserver, send},
    without_probes::{self, Glimpses},
};
use crate::{
    clock,
    inspect::InspectOptions,
    live::{self, Live, LiveError},
    model::{Finding, Report},
    record::{self, Existing, RecordTarget},
    sink::{Header, Sink},
};

/// Interval at which the open sessions are measured: the shortest that shows a standstill.
const MEASURE_EVERY: Duration = Duration::from_secs(2);

/// Reason for which an observer cannot begin.
pub type ObserverError = io::Error;

/// Settings of an observer.
pub struct Observer {
    /// The trace.
    pub live: Live,
    /// The settings of a look without probes, for a host that permits none.
    pub look: InspectOptions,
    /// File for the recording of a failure.
    pub record: Option<PathBuf>,
}

impl Observer {
    /// Observes until the front reports the end of the command or closes stdin, then answers.
    ///
    /// # Errors
    /// When the front is gone, or a pipe cannot be made.
    pub fn run(self) -> Result<(), ObserverError> {
        let Self { mut live, look, record } = self;
        let received = Shared::default();
        let (end, ended) = io::pipe()?;
        let reader = read_messages(Arc::clone(&received), ended);
        let unnamed = record.as_deref().map(record::unnamed).transpose();
        let (unnamed, mut not_recorded) = match unnamed {
            Ok(file) => (file, None),
            Err(error) => (None, Some(error.to_string())),
        };
        let zstd = record.as_deref().is_some_and(record::is_zstd);
        live.record = match unnamed.as_ref().map(File::try_clone).transpose() {
            Ok(file) => file.map(|file| RecordTarget::of_file(file, zstd)),
            Err(error) => {
                not_recorded = Some(error.to_string());
                None
            }
        };
        let kept = Kept::default();
        let ready = Arc::new(Mutex::new(None));
        live.setup.sinks.push(Box::new(KeepReport(Arc::clone(&kept))));
        live.measure = Some(MEASURE_EVERY);
        live.end = Some(end.into());
        let noted = Arc::clone(&ready);
        live.ready = Some(Box::new(move || {
            *noted.lock().unwrap_or_else(PoisonError::into_inner) = Some(clock::now());
            // A front that is gone needs no answer either.
            drop(send(&mut io::stdout(), &ToFront::Ready));
        }));
        // Most commands that fail at once are over by now. Attaching the probes would only delay the answer.
        let traced = if reader.is_finished() { Ok(()) } else { live::live(live).map(drop) };
        let glimpses = match &traced {
            Ok(()) => None,
            Err(error) => {
                send(&mut io::stdout(), &ToFront::Ready)?;
                Some(without_probes::look(&look, &received, &reason(error)))
            }
        };
        // The trace may have ended by itself; the front's message ends the wait.
        drop(reader.join());
        let received = *received.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some(status), Some((pid, started))) = (received.ended, received.started) else { return Ok(()) };
        let Conclusion { cause, lie } = match glimpses {
            Some(Glimpses { cause }) => Conclusion { cause, lie: false },
            None => {
                let ready = *ready.lock().unwrap_or_else(PoisonError::into_inner);
                let missed = ready.map_or_else(|| clock::now().since(started), |ready| ready.since(started));
                let sight = Sight { missed: (missed.0 > 0).then_some(missed), limits: None };
                let kept = kept.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default();
                conclude(&kept, pid, status, &sight)
            }
        };
        let mut answer = Answer { cause, lie, not_recorded, recorded: false };
        if let (Some(path), Some(mut file), true) = (&record, unnamed, !status.is_success() || lie) {
            match keep(&mut file, path) {
                Ok(()) => answer.recorded = true,
                Err(error) => answer.not_recorded = Some(error),
            }
        }
        send(&mut io::stdout(), &ToFront::Answer(answer))
    }
}

/// Copies the recording to its place. An existing file is not overwritten.
fn keep(file: &mut File, path: &std::path::Path) -> Result<(), String> {
    file.rewind().map_err(|error| error.to_string())?;
    let mut place = record::create(path, Existing::Keep).map_err(|error| error.to_string())?;
    io::copy(file, &mut place).map(drop).map_err(|error| error.to_string())
}

/// Reads the messages of the front on a thread of its own. `_ended` is closed when no more can follow: that ends the trace.
fn read_messages(received: Shared, ended: io::PipeWriter) -> JoinHandle<()> {
    thread::spawn(move || {
        for line in BufReader::new(io::stdin()).lines().map_while(Result::ok) {
            let mut received = received.lock().unwrap_or_else(PoisonError::into_inner);
            match serde_json::from_str(&line) {
                Ok(ToObserver::Started(pid)) => received.started = Some((pid, clock::now())),
                Ok(ToObserver::Ended(status)) => {
                    received.ended = Some(status);
                    break;
                }
                Err(_) => break,
            }
        }
        drop(ended);
    })
}

/// Why a trace could not start, for the end of a line.
fn reason(error: &LiveError) -> String {
    match error {
        LiveError::Host(degraded) => degraded.text.clone(),
        LiveError::NetNs(_, error) | LiveError::Io(error) => error.to_string(),
        LiveError::Btf(error) => error.to_string(),
        LiveError::Load(error) => error.to_string().lines().next().unwrap_or_default().to_owned(),
    }
}

/// The final report.
type Kept = Arc<Mutex<Option<Report>>>;

/// A sink that keeps the final report, with the faults of the whole run.
struct KeepReport(Kept);

impl Sink for KeepReport {
    fn judges(&self) -> bool {
        true
    }

    fn host(&mut self, _header: &Header) -> io::Result<()> {
        Ok(())
    }

    fn change(&mut self, _finding: &Finding) -> io::Result<()> {
        Ok(())
    }

    fn finish(&mut self, report: &Report) -> io::Result<()> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(report.clone());
        Ok(())
    }
}
