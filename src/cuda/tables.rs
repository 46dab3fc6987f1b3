//! What of a plan lies in a device's memory.

use super::blocks::Blocks;
use super::buffer::Buffer;
use super::device::Stream;
use super::schedule::Schedule;
use crate::error::Result;
use crate::plan::Plan;

/// How stages are cut into passes, with the tables that go with it.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) schedule: Schedule,
    pub(super) index: Buffer<u16>,
    pub(super) source: Buffer<u32>,
    pub(super) angle_source: Buffer<u32>,
}

impl Way {
    pub(super) fn new(stream: &Stream, plan: &Plan<f32>, window: usize) -> Result<Self> {
        let schedule = Schedule::new(plan, window)?;
        Ok(Self {
            index: stream.upload(&schedule.index)?,
            source: stream.upload(&schedule.numbers)?,
            angle_source: stream.upload(&schedule.angles)?,
            schedule,
        })
    }
}

/// Where gradients go: see [`Schedule`].
#[derive(Debug)]
pub(super) struct Gradients {
    pub(super) starts: Buffer<u32>,
    pub(super) places: Buffer<u32>,
    pub(super) moment_starts: Buffer<u32>,
    pub(super) moment_places: Buffer<u32>,
    pub(super) numbers: Buffer<u32>,
    pub(super) order: Buffer<u32>,
    pub(super) stages: Buffer<u32>,
}

impl Gradients {
    pub(super) fn new(stream: &Stream, schedule: &Schedule) -> Result<Self> {
        let tangents = &schedule.tangents;
        Ok(Self {
            starts: stream.upload(&schedule.entries.starts)?,
            places: stream.upload(&schedule.entries.places)?,
            moment_starts: stream.upload(&tangents.sums.starts)?,
            moment_places: stream.upload(&tangents.sums.places)?,
            numbers: stream.upload(&tangents.numbers)?,
            order: stream.upload(&tangents.order)?,
            stages: stream.upload(tangents.stages.as_flattened())?,
        })
    }
}

/// How the device makes blocks.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) blocks: Blocks,
    pub(super) entry: Buffer<u32>,
    pub(super) wide_at: Buffer<u32>,
    /// The blocks before any is made, if some are fixed.
    pub(super) fixed: Option<Buffer<f64>>,
}

impl Made {
    /// `None` where devices do not have all of the plan's charts.
    pub(super) fn new(stream: &Stream, plan: &Plan<f32>) -> Result<Option<Self>> {
        let Some(blocks) = Blocks::new(plan) else { return Ok(None) };
        let (entry, wide_at) = (stream.upload(&blocks.entry)?, stream.upload(&blocks.wide_at)?);
        let fixed = blocks.fixed.as_ref().map(|fixed| stream.upload(fixed)).transpose()?;
        Ok(Some(Self { blocks, entry, wide_at, fixed }))
    }
}
