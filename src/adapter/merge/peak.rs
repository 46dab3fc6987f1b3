//! How much memory a merge took: anonymous pages alone, for those of mapped files belong to the system, which takes them back
//! when it needs room.
//!
//! Linux keeps the largest resident set (`VmHWM`), mapped files included, but of anonymous memory only what there is now
//! (`RssAnon`). So that is read after every portion, and every few milliseconds in between, for what lives shorter.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// Time between two looks.
const PAUSE: Duration = Duration::from_millis(4);

/// The largest number of bytes that was seen.
#[derive(Debug, Default)]
pub(super) struct Peak(AtomicU64);

impl Peak {
    /// Looks again.
    pub(super) fn sample(&self) {
        self.0.fetch_max(anonymous_bytes().unwrap_or(0), Ordering::Relaxed);
    }

    /// The largest number so far, if this system tells any.
    pub(super) fn bytes(&self) -> Option<u64> {
        self.sample();
        Some(self.0.load(Ordering::Relaxed)).filter(|bytes| *bytes > 0)
    }

    /// Runs `work`, and looks now and then.
    pub(super) fn watch<R>(&self, work: impl FnOnce() -> R) -> R {
        if anonymous_bytes().is_none() {
            return work();
        }
        let is_done = AtomicBool::new(false);
        thread::scope(|scope| {
            let watcher = thread::Builder::new().name("papilio-peak".into()).spawn_scoped(scope, || {
                while !is_done.load(Ordering::Relaxed) {
                    self.sample();
                    thread::park_timeout(PAUSE);
                }
            });
            let _end = End { is_done: &is_done, watcher: watcher.as_ref().ok().map(|watcher| watcher.thread()) };
            work()
        })
    }
}

/// Ends the watch, also where `work` panics.
struct End<'a> {
    is_done: &'a AtomicBool,
    watcher: Option<&'a thread::Thread>,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.is_done.store(true, Ordering::Relaxed);
        if let Some(watcher) = self.watcher {
            watcher.unpark();
        }
    }
}

/// Anonymous memory of this process that is resident now.
fn anonymous_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}
