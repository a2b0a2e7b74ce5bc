//! The journal of a measurement as a file: kept beside the profile while it is measured, so that nothing can lose it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use bbc::profile::Incomplete;
use bbc::profile::journal::{self, Event, Header, JournalError, Prepared, Read, Record, Source};

use super::failure::{Explain, Failure};
use super::{files, output};

/// Where a journal is kept.
#[derive(Debug, Clone)]
pub(crate) struct Keep {
    /// The file that will be written from it.
    pub(crate) output: PathBuf,
    /// Whether one that is there is gone on with.
    pub(crate) resume: bool,
}

/// A measurement's record, and its journal if one is kept.
#[derive(Debug)]
pub(crate) struct Log {
    record: Record,
    kept: Option<Kept>,
    /// Whether sampling ended before its time.
    is_broken_off: bool,
}

#[derive(Debug)]
struct Kept {
    path: PathBuf,
    /// The file that will be written from it.
    output: PathBuf,
    file: File,
    /// Whether there are samples in it, so that it stays whatever happens.
    has_samples: bool,
}

/// The journal of a file: beside it, its name with `.part.jsonl` behind.
pub(crate) fn path_of(output: &Path) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(".part.jsonl");
    PathBuf::from(name)
}

/// Whether a file is to be a journal itself, by its name.
pub(crate) fn is_journal(output: &Path) -> bool {
    output.extension().is_some_and(|extension| extension == "jsonl")
}

impl Log {
    /// Begins a measurement, or goes on with the one whose journal is there.
    pub(crate) fn begin(header: Header, keep: Option<&Keep>) -> Result<Self, Failure> {
        let Some(Keep { output, resume }) = keep else {
            return Ok(Self { record: Record::new(header)?, kept: None, is_broken_off: false });
        };
        let path = path_of(output);
        if let Some(record) = finished(output, &path, *resume, &header)? {
            output::note(&format!("`{}` is finished already", output.display()));
            return Ok(Self { record, kept: None, is_broken_off: false });
        }
        let mut file = open(&path)?;
        let before =
            if file.metadata().doing(|| writing(&path))?.len() > 0 { earlier(&file, &path, *resume)? } else { None };
        let kept = |file, has_samples| Some(Kept { path: path.clone(), output: output.clone(), file, has_samples });
        if let Some(Read { record, whole }) = before {
            same_measurement(record.header(), &header)
                .doing(|| format!("cannot go on from `{}`", path.display()))
                .hint(|| format!("measure it where and as it was begun, or remove `{}`", path.display()))?;
            file.set_len(whole).doing(|| writing(&path))?;
            file.seek(SeekFrom::End(0)).doing(|| writing(&path))?;
            files::kept_on_interrupt(Some(left(output)));
            return Ok(Self { record, kept: kept(file, true), is_broken_off: false });
        }
        files::remove_on_interrupt(path.clone());
        file.set_len(0).doing(|| writing(&path))?;
        let record = Record::new(header)?;
        let log = Self { kept: kept(file, false), record, is_broken_off: false };
        log.write(&journal::write_header(log.record.header())?)?;
        Ok(log)
    }

    /// What was measured so far.
    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    /// Whether sampling ended before its time.
    pub(crate) fn is_broken_off(&self) -> bool {
        self.is_broken_off
    }

    /// What has to be said when the measurement fails; `None` if nothing is left of it.
    pub(crate) fn left(&self) -> Option<String> {
        self.kept.as_ref().filter(|kept| kept.has_samples).map(|kept| left(&kept.output))
    }

    /// The number of a source: that of an earlier run, or the next one.
    pub(crate) fn source(&mut self, source: Source) -> Result<usize, Failure> {
        let known = self.record.sources().enumerate();
        let before = known.into_iter().find(|(_, known)| known.is() == source.is());
        let Some((index, known)) = before else {
            self.add(Event::Source(source))?;
            return Ok(self.record.sources().count() - 1);
        };
        let differs = |what: &str, there: &str, here: &str| {
            let path = self.kept.as_ref().map(|kept| kept.path.display().to_string()).unwrap_or_default();
            Err(Failure::new(format!("cannot go on from `{path}`: its {what} is {there}, here it is {here}"))
                .with_hint(format!("measure with the same, or remove `{path}`")))
        };
        let shown = |versions: &std::collections::BTreeMap<String, String>| {
            let each: Vec<String> = versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
            format!("`{}`", each.join(", "))
        };
        if known.versions != source.versions {
            return differs("version", &shown(&known.versions), &shown(&source.versions));
        }
        if known.threads != source.threads {
            let shown = |threads: Option<u32>| threads.map_or("not stated".to_owned(), |threads| threads.to_string());
            return differs("number of threads", &shown(known.threads), &shown(source.threads));
        }
        Ok(index)
    }

    /// Notes that a problem is ready, unless that is known.
    pub(crate) fn prepared(&mut self, prepared: Prepared) -> Result<(), Failure> {
        match self.record.prepared(prepared.source, prepared.problem) {
            Some(before) if before.is_like(&prepared) => Ok(()),
            Some(_) | None => self.add(Event::Prepared(prepared)),
        }
    }

    /// Notes why measuring ended before its time; the journal stays, to go on from.
    pub(crate) fn broke_off(&mut self, why: Incomplete) {
        self.record.broke_off(why);
        self.is_broken_off = true;
    }

    /// Notes what happened, handed to the system before anything else happens: it outlives this process, however that ends.
    pub(crate) fn add(&mut self, event: Event) -> Result<(), Failure> {
        let line = journal::write_event(&event)?;
        let is_sample = matches!(event, Event::Sample(_));
        self.record.add(event)?;
        self.write(&line)?;
        if let Some(kept) = self.kept.as_mut().filter(|kept| is_sample && !kept.has_samples) {
            kept.has_samples = true;
            files::leave_on_interrupt(&kept.path);
            files::kept_on_interrupt(Some(left(&kept.output)));
        }
        Ok(())
    }

    fn write(&self, line: &str) -> Result<(), Failure> {
        let Some(kept) = &self.kept else { return Ok(()) };
        (&kept.file).write_all(line.as_bytes()).doing(|| writing(&kept.path))
    }

    /// Makes the journal the result: complete, and where it was asked for.
    pub(crate) fn become_output(mut self) -> Result<(), Failure> {
        if !self.record.is_finished() {
            self.add(Event::Finished {})?;
        }
        let Some(mut kept) = self.kept.take() else { return Ok(()) };
        kept.file.sync_all().doing(|| writing(&kept.output))?;
        fs::rename(&kept.path, &kept.output).doing(|| writing(&kept.output))?;
        kept.has_samples = true;
        files::leave_on_interrupt(&kept.path);
        files::kept_on_interrupt(None);
        Ok(())
    }

    /// Removes the journal: what it holds is written elsewhere.
    pub(crate) fn remove(mut self) {
        if let Some(kept) = &mut self.kept {
            kept.has_samples = false;
        }
        files::kept_on_interrupt(None);
    }
}

impl Drop for Kept {
    /// A journal without samples is worth nothing.
    fn drop(&mut self) {
        if !self.has_samples {
            // There is nothing to do about one that cannot be removed now: the next run takes its place.
            let _ = fs::remove_file(&self.path);
            files::leave_on_interrupt(&self.path);
        }
    }
}

fn writing(path: &Path) -> String {
    format!("cannot write `{}`", path.display())
}

/// What is said when a measurement ends before its time.
fn left(output: &Path) -> String {
    let journal = path_of(output);
    format!(
        "what was measured is kept in `{0}`: the same command with `--resume` goes on from it, and `bbc profile merge {0} \
         -o FILE` makes a profile of what there is",
        journal.display()
    )
}

/// The journal's file, which no other process may write meanwhile.
fn open(path: &Path) -> Result<File, Failure> {
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return Err(Failure::new("it is no file")).doing(|| writing(path));
    }
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    let file = file.doing(|| writing(path))?;
    match file.try_lock() {
        // A file system without locks is no reason not to measure.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(Failure::new("another bbc is writing it: the same file is being measured already"))
                .doing(|| writing(path))
        }
    }
}

/// What is to be gone on with, if it is a part that is finished already.
fn finished(output: &Path, journal: &Path, resume: bool, header: &Header) -> Result<Option<Record>, Failure> {
    if !resume || !is_journal(output) || journal.exists() || !output.is_file() {
        return Ok(None);
    }
    let reader = BufReader::new(File::open(output).doing(|| writing(output))?);
    let record = journal::read(reader)
        .doing(|| format!("`{}` is in the way and is no part that can be used", output.display()))
        .hint(|| "remove it, or write the part elsewhere".into())?
        .record;
    same_measurement(record.header(), header)
        .doing(|| format!("`{}` is in the way", output.display()))
        .hint(|| "remove it, or write the part elsewhere".into())?;
    Ok(record.is_finished().then_some(record))
}

/// What an earlier run left; `None` if that is nothing.
fn earlier(file: &File, path: &Path, resume: bool) -> Result<Option<Read>, Failure> {
    match journal::read(BufReader::new(file)) {
        Ok(read) if !read.record.has_samples() => Ok(None),
        Ok(read) if resume => {
            let profile = read.record.profile();
            output::note(&format!("going on from `{}`, after {} rounds", path.display(), profile.settings.rounds));
            Ok(Some(read))
        }
        Ok(_) => Err(Failure::new(format!("`{}` is left from a measurement that was cut off", path.display()))
            .with_hint("`--resume` goes on from it; remove it to begin anew")),
        Err(JournalError::Empty) => Ok(None),
        Err(error) => Err(error)
            .doing(|| format!("`{}` is in the way and is no journal that can be used", path.display()))
            .hint(|| "remove it, or write the profile elsewhere".into()),
    }
}

/// Checks that two headers are of one measurement.
fn same_measurement(there: &Header, here: &Header) -> Result<(), Failure> {
    let differs = |what: &str, there: &str, here: &str| {
        Err(Failure::new(format!("its {what} is `{there}`, here it is `{here}`")))
    };
    if let Some((what, there, here)) = there.device.difference(&here.device) {
        return differs(what, &there, &here);
    }
    for (name, version) in &here.versions {
        let there = there.versions.get(name).map_or("not stated", String::as_str);
        if there != version {
            return differs(&format!("version of {name}"), there, version);
        }
    }
    if let Some((what, there, here)) = there.plan.settings.difference(&here.plan.settings) {
        return differs(what, &there, &here);
    }
    if there.shard != here.shard {
        let shown = |header: &Header| header.shard.map_or("all of the plan".to_owned(), |shard| shard.to_string());
        return differs("share", &shown(there), &shown(here));
    }
    if (&there.plan.problems, &there.plan.stages) != (&here.plan.problems, &here.plan.stages) {
        return Err(Failure::new("its problems are others than those asked for here"));
    }
    Ok(())
}
