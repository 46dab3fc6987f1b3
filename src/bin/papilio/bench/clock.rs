//! Times of several contenders side by side. Machines are noisy and their clocks drift, so contenders take turns, and what
//! counts are medians over the rounds. Turns are shorter than what schedulers give away at a time: where others want the
//! same core, most turns are whole.

use std::time::{Duration, Instant};

/// Rounds at least, however short the time.
const FEWEST: usize = 3;
/// Rounds that the time is cut into, at least.
const ROUNDS: u32 = 15;
/// A turn is no longer, unless one run is.
const LONGEST: Duration = Duration::from_millis(1);
/// Work that is so long does not need to be warmed up.
const LONG: Duration = Duration::from_millis(20);

/// What a contender needed for one run, in seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    pub(crate) median: f64,
    /// Distance of the quartiles.
    pub(crate) spread: f64,
}

/// Lets contenders 0 to `count` − 1 run in turns for about `budget`; `run(c, times)` runs contender c that many times. `None`
/// if `stop` said so.
pub(crate) fn interleaved(
    count: usize,
    budget: Duration,
    mut run: impl FnMut(usize, usize),
    stop: impl Fn() -> bool,
) -> Option<Vec<Timing>> {
    let mut timed = |contender: usize, times: usize| {
        let start = Instant::now();
        run(contender, times);
        start.elapsed()
    };
    let slice = (budget / ROUNDS / count.max(1) as u32).min(LONGEST);
    let mut times = Vec::new();
    for contender in 0..count {
        timed(contender, 1); // memory is allocated, caches are filled
        let mut runs = 1;
        loop {
            if stop() {
                return None;
            }
            let needed = timed(contender, runs);
            if 2 * needed >= slice {
                let one = needed.as_secs_f64() / runs as f64;
                times.push(((slice.as_secs_f64() / one) as usize).max(1));
                break;
            }
            runs *= 2;
        }
    }
    let mut samples = vec![Vec::new(); count];
    let start = Instant::now();
    let mut rounds = 0;
    while rounds < FEWEST || start.elapsed() < budget {
        for (contender, samples) in samples.iter_mut().enumerate() {
            if stop() {
                return None;
            }
            // Others have been in the caches meanwhile.
            if samples.last().is_none_or(|last| *last < LONG.as_secs_f64()) {
                timed(contender, 1);
            }
            samples.push(timed(contender, times[contender]).as_secs_f64() / times[contender] as f64);
        }
        rounds += 1;
    }
    Some(samples.into_iter().map(timing).collect())
}

fn timing(mut samples: Vec<f64>) -> Timing {
    samples.sort_by(f64::total_cmp);
    let at = |quarter: usize| samples[(samples.len() - 1) * quarter / 4];
    Timing { median: at(2), spread: at(3) - at(1) }
}
