//! How the first pass of a kernel reads vectors from the device's memory, and the last one writes them there, without the tile
//! between.

use super::program::Stored;
use super::schedule::{Pass, Place, Schedule};
use super::tile::Tile;

/// As `kernels/stages.cuh` numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direct {
    /// Through the tile.
    Not,
    /// Windows are runs of whole fours of neighbours.
    Runs,
    /// Neighbouring windows are neighbours in memory, at least 32 bytes of them.
    SideBySide,
    /// Windows are runs of whole eights of neighbours, in half precision.
    Eights,
    /// Side by side, read in words of half precision: threads exchange two vectors and two windows, which are neighbours.
    Exchanged,
}

impl Direct {
    /// Each half of 32 bytes would be written by itself; and words of two rows take longer than numbers of one.
    pub(super) fn written(self, stored: Stored) -> Self {
        match self {
            Direct::Runs if stored == Stored::F32 => Direct::Not,
            Direct::Exchanged => Direct::SideBySide,
            other => other,
        }
    }

    pub(super) fn of(pass: &Pass, schedule: &Schedule, tile: Tile, stored: Stored, aligned: bool) -> Self {
        let Place::Formula { windows, far, near, offsets } = &pass.place else { return Direct::Not };
        if pass.is_wide() || pass.count * pass.window != schedule.length {
            return Direct::Not;
        }
        let in_runs = |of: usize| {
            let whole = |x: &usize| x.is_multiple_of(of);
            whole(&pass.window)
                && offsets.chunks(of).all(|run| whole(&run[0]) && run.iter().enumerate().all(|(i, o)| *o == run[0] + i))
                && (whole(near) || pass.count == 1)
                && (whole(far) || *windows == pass.count)
        };
        // Whole warps, whose 32 windows start at even coordinates.
        let warps = tile.threads.is_multiple_of(32) && tile.chunk.is_multiple_of(2) && windows.is_multiple_of(32);
        let even = || offsets.iter().all(|x| x.is_multiple_of(2)) && (far.is_multiple_of(2) || *windows == pass.count);
        let least = if stored == Stored::F32 { 8 } else { 16 };
        if aligned && stored != Stored::F32 && in_runs(8) {
            Direct::Eights
        } else if aligned && in_runs(4) {
            Direct::Runs
        } else if aligned && stored != Stored::F32 && *near == 1 && warps && even() {
            Direct::Exchanged
        } else if *near == 1 && *windows >= least {
            Direct::SideBySide
        } else {
            Direct::Not
        }
    }
}
