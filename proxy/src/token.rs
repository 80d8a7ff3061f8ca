//! The TOKEN flow: subject token files, exchangers, the schedule, renewers, and the slots that the request flow reads.

pub mod params;
pub mod slot;
