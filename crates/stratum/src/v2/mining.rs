//! The Mining Protocol: channels, jobs, shares.

use super::{
    message::messages,
    wire::{B32, B64K, B255, HashRate, Seq64K, Seq255, Str255},
};

/// What a client says in [`SetupConnection::flags`](super::common::SetupConnection::flags).
pub mod flags {
    /// It takes standard jobs only, on standard channels.
    pub const REQUIRES_STANDARD_JOBS: u32 = 1;
    /// It brings its own work.
    pub const REQUIRES_WORK_SELECTION: u32 = 1 << 1;
    /// It changes bits of the version.
    pub const REQUIRES_VERSION_ROLLING: u32 = 1 << 2;
}

/// What a server says in
/// [`SetupConnectionSuccess::flags`](super::common::SetupConnectionSuccess::flags).
pub mod success_flags {
    /// No bit of the version may be changed.
    pub const REQUIRES_FIXED_VERSION: u32 = 1;
    /// No standard channel can be opened.
    pub const REQUIRES_EXTENDED_CHANNELS: u32 = 1 << 1;
}

messages! {
    /// Messages of the Mining Protocol.
    enum Mining = extension 0;

    0x10 => OpenStandardMiningChannel<'a> {
        request_id: u32,
        user_identity: Str255<'a>,
        nominal_hash_rate: HashRate,
        max_target: [u8; 32],
    }

    0x11 => OpenStandardMiningChannelSuccess<'a> {
        request_id: u32,
        channel_id: u32,
        target: [u8; 32],
        extranonce_prefix: B32<'a>,
        group_channel_id: u32,
    }

    /// To whichever kind of channel was asked for.
    0x12 => OpenMiningChannelError<'a> {
        request_id: u32,
        error_code: Str255<'a>,
    }

    0x13 => OpenExtendedMiningChannel<'a> {
        request_id: u32,
        user_identity: Str255<'a>,
        nominal_hash_rate: HashRate,
        max_target: [u8; 32],
        /// In bytes.
        min_extranonce_size: u16,
    }

    0x14 => OpenExtendedMiningChannelSuccess<'a> {
        request_id: u32,
        channel_id: u32,
        target: [u8; 32],
        /// What the client may roll, in bytes: the prefix is not counted.
        extranonce_size: u16,
        extranonce_prefix: B32<'a>,
        group_channel_id: u32,
    }

    /// A job for a standard channel.
    0x15 channel => NewMiningJob {
        channel_id: u32,
        job_id: u32,
        /// Absent: for the block after a [`SetNewPrevHash`] that names this job.
        min_ntime: Option<u32>,
        version: u32,
        merkle_root: [u8; 32],
    }

    0x16 channel => UpdateChannel {
        channel_id: u32,
        nominal_hash_rate: HashRate,
        maximum_target: [u8; 32],
    }

    0x17 channel => UpdateChannelError<'a> {
        channel_id: u32,
        error_code: Str255<'a>,
    }

    0x18 channel => CloseChannel<'a> {
        /// A group's number closes all of its channels.
        channel_id: u32,
        reason_code: Str255<'a>,
    }

    0x19 channel => SetExtranoncePrefix<'a> {
        channel_id: u32,
        extranonce_prefix: B32<'a>,
    }

    0x1a channel => SubmitSharesStandard {
        channel_id: u32,
        sequence_number: u32,
        job_id: u32,
        nonce: u32,
        ntime: u32,
        /// The whole of the header's version.
        version: u32,
    }

    0x1b channel => SubmitSharesExtended<'a> {
        channel_id: u32,
        sequence_number: u32,
        job_id: u32,
        nonce: u32,
        ntime: u32,
        /// The whole of the header's version.
        version: u32,
        /// What the client rolled: the prefix is not in it.
        extranonce: B32<'a>,
    }

    0x1c channel => SubmitSharesSuccess {
        channel_id: u32,
        last_sequence_number: u32,
        /// Since the last of these messages.
        new_submits_accepted_count: u32,
        /// The sum of their difficulties.
        new_shares_sum: u64,
    }

    0x1d channel => SubmitSharesError<'a> {
        channel_id: u32,
        sequence_number: u32,
        error_code: Str255<'a>,
    }

    /// A job for an extended channel, or for a group.
    0x1f channel => NewExtendedMiningJob<'a> {
        channel_id: u32,
        job_id: u32,
        /// Absent: for the block after a [`SetNewPrevHash`] that names this job.
        min_ntime: Option<u32>,
        version: u32,
        version_rolling_allowed: bool,
        /// The deepest first.
        merkle_path: Seq255<'a, [u8; 32]>,
        /// The coinbase before the extranonce, without its witness.
        coinbase_tx_prefix: B64K<'a>,
        coinbase_tx_suffix: B64K<'a>,
    }

    0x20 channel => SetNewPrevHash {
        channel_id: u32,
        /// A job without `min_ntime`, which begins now; all others end.
        job_id: u32,
        prev_hash: [u8; 32],
        min_ntime: u32,
        nbits: u32,
    }

    0x21 channel => SetTarget {
        channel_id: u32,
        maximum_target: [u8; 32],
    }

    0x22 channel => SetCustomMiningJob<'a> {
        channel_id: u32,
        request_id: u32,
        mining_job_token: B255<'a>,
        version: u32,
        prev_hash: [u8; 32],
        min_ntime: u32,
        nbits: u32,
        coinbase_tx_version: u32,
        /// The beginning of the input's script.
        coinbase_prefix: B255<'a>,
        coinbase_tx_input_n_sequence: u32,
        /// Behind their count, as in a transaction.
        coinbase_tx_outputs: B64K<'a>,
        coinbase_tx_locktime: u32,
        /// The deepest first.
        merkle_path: Seq255<'a, [u8; 32]>,
    }

    0x23 channel => SetCustomMiningJobSuccess {
        channel_id: u32,
        request_id: u32,
        job_id: u32,
    }

    0x24 channel => SetCustomMiningJobError<'a> {
        channel_id: u32,
        request_id: u32,
        error_code: Str255<'a>,
    }

    0x25 => SetGroupChannel<'a> {
        group_channel_id: u32,
        channel_ids: Seq64K<'a, u32>,
    }
}
