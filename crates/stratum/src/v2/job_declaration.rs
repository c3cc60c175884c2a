//! The Job Declaration Protocol: a client chooses the transactions, the pool agrees to pay for them.

use super::{
    message::messages,
    wire::{B16M, B32, B64K, B255, Seq64K, Str255},
};

/// What a client says in [`SetupConnection::flags`](super::common::SetupConnection::flags).
pub mod flags {
    /// It shows the transactions of its jobs.
    pub const DECLARE_TX_DATA: u32 = 1;
}

messages! {
    /// Messages of the Job Declaration Protocol.
    enum JobDeclaration = extension 0;

    0x50 => AllocateMiningJobToken<'a> {
        user_identifier: Str255<'a>,
        request_id: u32,
    }

    0x51 => AllocateMiningJobTokenSuccess<'a> {
        request_id: u32,
        mining_job_token: B255<'a>,
        /// Behind their count, as in a transaction; the first is the pool's.
        coinbase_tx_outputs: B64K<'a>,
    }

    0x55 => ProvideMissingTransactions<'a> {
        /// That of the [`DeclareMiningJob`].
        request_id: u32,
        /// From 0, not counting the coinbase.
        unknown_tx_position_list: Seq64K<'a, u16>,
    }

    0x56 => ProvideMissingTransactionsSuccess<'a> {
        request_id: u32,
        /// In the order they were asked for.
        transaction_list: Seq64K<'a, B16M<'a>>,
    }

    0x57 => DeclareMiningJob<'a> {
        request_id: u32,
        mining_job_token: B255<'a>,
        version: u32,
        /// With its witness.
        coinbase_tx_prefix: B64K<'a>,
        coinbase_tx_suffix: B64K<'a>,
        /// Without the coinbase.
        wtxid_list: Seq64K<'a, [u8; 32]>,
        excess_data: B64K<'a>,
    }

    0x58 => DeclareMiningJobSuccess<'a> {
        request_id: u32,
        new_mining_job_token: B255<'a>,
    }

    0x59 => DeclareMiningJobError<'a> {
        request_id: u32,
        error_code: Str255<'a>,
        error_details: B64K<'a>,
    }

    0x60 => PushSolution<'a> {
        /// All of it, with the prefix.
        extranonce: B32<'a>,
        prev_hash: [u8; 32],
        nonce: u32,
        ntime: u32,
        nbits: u32,
        version: u32,
    }
}
