//! A recording in parts. A large or old file is closed, the next file is opened, and the oldest file is removed. A
//! recorder can therefore run for weeks.

use std::{
    ffi::OsString,
    fs, io,
    num::NonZero,
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::MetadataExt,
    },
    path::{Path, PathBuf},
    str::FromStr,
};

use rustix::process::geteuid;

use crate::model::Span;

/// Digits of the part number in a file name. Names sort like numbers up to a million parts: a century of hourly files.
const DIGITS: usize = 6;

/// Endings of a part's file name, after the number.
const ENDINGS: [&[u8]; 4] = [b".jsonl.zst", b".jsonl", b".zst", b""];

/// Smallest part in bytes: each part begins with a repetition of the open sessions' facts.
const LEAST_BYTES: u64 = 10_000;

/// Limits of a part, and number of kept parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rotate {
    /// Size of the file on disk, in bytes.
    pub bytes: Option<u64>,
    /// Age of the file.
    pub age: Option<Span>,
    /// Number of kept files, including the current one; `None` keeps all.
    pub keep: Option<NonZero<usize>>,
}

impl FromStr for Rotate {
    type Err = String;

    /// Parses `100MB,24h,keep=7`: a size, an age and a number of files, in any order. A size or an age is required.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut rotate = Self::default();
        for word in text.split(',').map(str::trim) {
            let twice = if let Some(keep) = word.strip_prefix("keep=") {
                let keep = keep.parse().map_err(|_not_a_number| format!("`{word}`: must be 1 or more"))?;
                rotate.keep.replace(keep).is_some()
            } else if let Some(bytes) = size(word) {
                if bytes < LEAST_BYTES {
                    return Err(format!("`{word}`: must be {} kB or more", LEAST_BYTES / 1_000));
                }
                rotate.bytes.replace(bytes).is_some()
            } else {
                let age = humantime::parse_duration(word)
                    .map_err(|_neither| format!("`{word}` is not a size (100MB), an age (24h) or a number (keep=7)"))?;
                if age.as_secs() == 0 {
                    return Err(format!("`{word}`: must be 1s or more"));
                }
                rotate.age.replace(Span::from_secs(age.as_secs())).is_some()
            };
            if twice {
                return Err(format!("`{word}`: given twice"));
            }
        }
        if rotate.bytes.is_none() && rotate.age.is_none() {
            return Err("a size or an age is required: `100MB`, `24h`".to_owned());
        }
        Ok(rotate)
    }
}

/// Parses a number of bytes with a decimal (kB, MB, GB) or binary unit (KiB, MiB, GiB).
#[must_use]
pub fn size(word: &str) -> Option<u64> {
    let digits = word.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = word.split_at_checked(digits)?;
    let unit = match unit.trim_start() {
        "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

/// Files of one recording: parts of `a.jsonl.zst` are named `a.000001.jsonl.zst` and so on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Series {
    folder: PathBuf,
    stem: Vec<u8>,
    ending: &'static [u8],
}

impl Series {
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        let name = path.file_name().ok_or_else(|| io::Error::other("this is not a file name"))?.as_bytes();
        let ending = ENDINGS.into_iter().find(|ending| name.ends_with(ending)).unwrap_or_default();
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Ok(Self { folder: folder.to_owned(), stem: name[..name.len() - ending.len()].to_vec(), ending })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn path(&self, number: u64) -> PathBuf {
        let number = format!(".{number:0DIGITS$}");
        self.folder.join(OsString::from_vec([&self.stem, number.as_bytes(), self.ending].concat()))
    }

    /// Numbers of the existing parts, ascending.
    pub(super) fn numbers(&self) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for file in fs::read_dir(&self.folder)? {
            numbers.extend(self.number(file?.file_name().as_bytes()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn number(&self, name: &[u8]) -> Option<u64> {
        let digits = name.strip_prefix(self.stem.as_slice())?.strip_prefix(b".")?.strip_suffix(self.ending)?;
        let is_number = digits.len() >= DIGITS && digits.iter().all(u8::is_ascii_digit);
        std::str::from_utf8(digits).ok().filter(|_| is_number)?.parse().ok()
    }

    /// Removes the oldest parts beyond `most`.
    pub(super) fn keep(&self, most: NonZero<usize>) -> io::Result<()> {
        // In a shared folder, files of other users do not count: they may not be removable.
        let own = geteuid().as_raw();
        let is_own = |path: &Path| fs::symlink_metadata(path).is_ok_and(|file| file.is_file() && file.uid() == own);
        let paths: Vec<PathBuf> =
            self.numbers()?.into_iter().map(|number| self.path(number)).filter(|path| is_own(path)).collect();
        for old in paths.iter().take(paths.len().saturating_sub(most.get())) {
            match fs::remove_file(old) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotation_limits_parse_in_any_order() {
        let all = Rotate { bytes: Some(100_000_000), age: Some(Span::from_secs(86_400)), keep: NonZero::new(7) };
        for text in ["100MB,24h,keep=7", "keep=7, 1day, 100 MB"] {
            assert_eq!(text.parse(), Ok(all), "{text}");
        }
        assert_eq!("1GiB".parse(), Ok(Rotate { bytes: Some(1 << 30), ..Rotate::default() }));
        for text in ["", "keep=7", "keep=0,1h", "1h,2h", "1MB,2MB", "5B", "1ms", "99999999999GB", "MB", "often"] {
            assert!(text.parse::<Rotate>().is_err(), "{text}");
        }
    }

    #[test]
    fn oldest_parts_go_and_foreign_files_stay() {
        let folder = tempfile::tempdir().unwrap();
        let series = Series::new(&folder.path().join("a.jsonl.zst")).unwrap();
        let strangers = ["a.jsonl.zst", "a.1.jsonl.zst", "a.000001.jsonl", "b.000001.jsonl.zst", "a.00000x.jsonl.zst"];
        for name in strangers {
            fs::write(folder.path().join(name), "").unwrap();
        }
        for number in [1, 2, 999_999, 1_000_000] {
            fs::write(series.path(number), "").unwrap();
        }
        assert_eq!(series.path(2), folder.path().join("a.000002.jsonl.zst"));
        assert_eq!(series.numbers().unwrap(), [1, 2, 999_999, 1_000_000]);
        series.keep(NonZero::new(2).unwrap()).unwrap();
        assert_eq!(series.numbers().unwrap(), [999_999, 1_000_000]);
        assert!(strangers.iter().all(|name| folder.path().join(name).exists()));
    }
}
