//! Stratum V1 as miners really speak it: rule by rule, in raw lines, against the running server. A test's name begins
//! with the rules that it holds; docs/STRATUM-V1.md says what each rule is.

use crate::support::{address, node::Chain};

mod difficulty;
mod envelope;
mod framing;
mod jobs;
mod manners;
mod start;
mod submit;
mod tips;
mod users;
mod versions;

/// A worker on the still chain: another address for each rule.
fn miner(rule: u8) -> String {
    format!("{}.rig", address(Chain::Signet, 100 + rule))
}
