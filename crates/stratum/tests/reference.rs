//! Stratum V2 as the Stratum Reference Implementation speaks it: both say the same bytes, and each understands the other.

#![allow(clippy::unwrap_used)]

#[path = "reference/messages.rs"]
mod messages;
#[path = "reference/noise.rs"]
mod noise;
#[path = "reference/sample.rs"]
mod sample;
