//! Work that reports its portions: a bar on a terminal, warnings as they come, and an end when a signal asks for it.

use std::ops::ControlFlow;

use indicatif::{ProgressBar, ProgressStyle};
use papilio::adapter::MergeEvent;

use crate::signals::Interruption;
use crate::text::{complain, printable};

/// Runs `work`, which is given what to tell its events. `None` if a signal came.
pub(crate) fn shown<R>(
    work: impl FnOnce(&mut dyn FnMut(MergeEvent<'_>) -> ControlFlow<()>) -> papilio::Result<R>,
) -> Result<Option<R>, String> {
    let interruption = Interruption::listen();
    let bar = ProgressBar::no_length(); // draws on a terminal only
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {eta} {wide_msg}") {
        bar.set_style(style);
    }
    let result = work(&mut |event| {
        match event {
            MergeEvent::Warning(warning) => bar.suspend(|| complain("warning", warning)),
            MergeEvent::Portion(progress) => {
                bar.set_length(progress.total);
                bar.set_position(progress.done);
                bar.set_message(printable(progress.tensor));
            }
        }
        if interruption.came() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    bar.finish_and_clear();
    match result {
        Err(papilio::Error::Interrupted { .. }) => Ok(None),
        result => result.map(Some).map_err(|e| e.to_string()),
    }
}

/// A bar over so many parts, on a terminal.
pub(crate) fn portions(count: usize) -> ProgressBar {
    let bar = ProgressBar::new(count as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {eta} {wide_msg}") {
        bar.set_style(style);
    }
    bar
}
