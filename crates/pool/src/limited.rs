//! Limits that were met without an end to the connection: a closed list, so that each has its counter.

/// What was held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limited {
    /// A connection handed in or asked for more than its budget, and was read more slowly.
    SubmitsPerSecond,
    /// A connection asked for more workers than it may have.
    Workers,
    /// A connection asked for more channels than it may have, or than there was room for (V2).
    Channels,
    /// The connections of an address asked for more channels than they may have together (V2).
    ChannelsPerAddress,
    /// Those of a network did (V2).
    ChannelsPerNetwork,
    /// All did (V2).
    ChannelsInAll,
    /// A user name was refused: nobody could be paid by it.
    User,
    /// A job was held back: the connection had asked for many.
    Jobs,
    /// An address was banned.
    Ban,
}

impl Limited {
    /// Every one, in the order of the type.
    pub const ALL: [Limited; 9] = [
        Limited::SubmitsPerSecond,
        Limited::Workers,
        Limited::Channels,
        Limited::ChannelsPerAddress,
        Limited::ChannelsPerNetwork,
        Limited::ChannelsInAll,
        Limited::User,
        Limited::Jobs,
        Limited::Ban,
    ];
}
