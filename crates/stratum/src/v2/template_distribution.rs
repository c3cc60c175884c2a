//! The Template Distribution Protocol: a node says what to mine.

use super::{
    message::messages,
    wire::{B16M, B64K, B255, Seq64K, Seq255, Str255},
};

messages! {
    /// Messages of the Template Distribution Protocol.
    enum TemplateDistribution = extension 0;

    0x70 => CoinbaseOutputConstraints {
        /// In bytes.
        coinbase_output_max_additional_size: u32,
        coinbase_output_max_additional_sigops: u16,
    }

    0x71 => NewTemplate<'a> {
        template_id: u64,
        future_template: bool,
        version: u32,
        coinbase_tx_version: u32,
        /// The beginning of the input's script, at most 8 bytes.
        coinbase_prefix: B255<'a>,
        coinbase_tx_input_sequence: u32,
        /// In satoshi.
        coinbase_tx_value_remaining: u64,
        coinbase_tx_outputs_count: u32,
        /// Without their count; they come last.
        coinbase_tx_outputs: B64K<'a>,
        coinbase_tx_locktime: u32,
        /// The deepest first.
        merkle_path: Seq255<'a, [u8; 32]>,
    }

    0x72 => SetNewPrevHash {
        template_id: u64,
        prev_hash: [u8; 32],
        /// Where to begin, which is not the least that is allowed.
        header_timestamp: u32,
        n_bits: u32,
        /// May be below that of `n_bits`.
        target: [u8; 32],
    }

    0x73 => RequestTransactionData {
        template_id: u64,
    }

    0x74 => RequestTransactionDataSuccess<'a> {
        template_id: u64,
        excess_data: B64K<'a>,
        transaction_list: Seq64K<'a, B16M<'a>>,
    }

    0x75 => RequestTransactionDataError<'a> {
        template_id: u64,
        error_code: Str255<'a>,
    }

    0x76 => SubmitSolution<'a> {
        template_id: u64,
        version: u32,
        header_timestamp: u32,
        header_nonce: u32,
        /// With its witness.
        coinbase_tx: B64K<'a>,
    }
}
