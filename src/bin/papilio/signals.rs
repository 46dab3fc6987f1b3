//! Signals that ask long work to stop: Ctrl-C, `kill`, a closed terminal. They set a flag; the work sees it at its next
//! portion, removes its temporaries and ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Whether a signal came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Interruption(Arc<AtomicBool>);

impl Interruption {
    /// Starts to listen. Where the system refuses, signals do what they do by default, and merging works all the same.
    pub(crate) fn listen() -> Self {
        let this = Self::default();
        for signal in [SIGINT, SIGTERM].into_iter().chain(unix::signals()) {
            let _ = flag::register(signal, Arc::clone(&this.0));
        }
        this
    }

    pub(crate) fn came(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(unix)]
mod unix {
    use std::sync::Arc;

    use signal_hook::consts::{SIGHUP, SIGXFSZ};

    /// SIGHUP, unless this process was told to ignore it (by nohup). And beyond the largest allowed file (`ulimit -f`)
    /// writing shall fail, as on a full disk, which it does if SIGXFSZ has any handler.
    pub(super) fn signals() -> Option<i32> {
        let _ = signal_hook::flag::register(SIGXFSZ, Arc::default());
        (!is_ignored(SIGHUP)).then_some(SIGHUP)
    }

    /// What Linux says in `SigIgn`, a mask in hexadecimal. Elsewhere: nobody knows, so the signal is let alone.
    fn is_ignored(signal: i32) -> bool {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_none_or(|mask| mask >> (signal - 1) & 1 == 1)
    }
}

#[cfg(not(unix))]
mod unix {
    pub(super) fn signals() -> Option<i32> {
        None
    }
}
