//! Why a submission earns nothing: one closed list, for every protocol.

/// Why a submission earns nothing. `stratum` has the one table that says it in the words of V1 and V2; the pool
/// counts by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The message itself is not understood: wrong count or type of parameters, not hex.
    Malformed,
    /// The method is not one we serve.
    UnknownMethod,
    /// Work was asked for or handed in before `mining.subscribe`.
    NotSubscribed,
    /// The worker was not authorized on this connection.
    Unauthorized,
    /// The job was never given on this connection, or is long forgotten.
    UnknownJob,
    /// The job was for a block that has been found by now.
    Stale,
    /// The hash was handed in before.
    Duplicate,
    /// The hash does not meet the target of its job.
    LowDifficulty,
    /// The header time is before what the chain would accept.
    TimeTooOld,
    /// The header time is too far ahead.
    TimeTooNew,
    /// Version bits outside of the negotiated mask were changed.
    VersionMask,
    /// The extranonce has another length than was agreed.
    ExtranonceLength,
    /// The pool cannot store shares at this time, so it does not acknowledge them.
    NotStored,
}

impl Reason {
    /// Every reason, in the order of the type: for counters and tables.
    pub const ALL: [Reason; 13] = [
        Reason::Malformed,
        Reason::UnknownMethod,
        Reason::NotSubscribed,
        Reason::Unauthorized,
        Reason::UnknownJob,
        Reason::Stale,
        Reason::Duplicate,
        Reason::LowDifficulty,
        Reason::TimeTooOld,
        Reason::TimeTooNew,
        Reason::VersionMask,
        Reason::ExtranonceLength,
        Reason::NotStored,
    ];
}
