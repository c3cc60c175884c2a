//! Error codes, in the words of the Stratum Reference Implementation: the specification names none any more, and there
//! are clients that compare these.

/// Names codes, and lists them all.
macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        $( $(#[$doc])* #[allow(missing_docs)] pub const $name: &str = $text; )*

        /// All of them.
        pub const ALL: &[&str] = &[$($text),*];
    };
}

codes! {
    // Of a connection.
    UNSUPPORTED_PROTOCOL = "unsupported-protocol";
    PROTOCOL_VERSION_MISMATCH = "protocol-version-mismatch";
    UNSUPPORTED_FEATURE_FLAGS = "unsupported-feature-flags";
    MISSING_DECLARE_TX_DATA_FLAG = "missing-declare-tx-data-flag";

    // Of a channel.
    UNKNOWN_USER = "unknown-user";
    INVALID_USER_IDENTITY = "invalid-user-identity";
    INVALID_NOMINAL_HASHRATE = "invalid-nominal-hashrate";
    MAX_TARGET_OUT_OF_RANGE = "max-target-out-of-range";
    MIN_EXTRANONCE_SIZE_TOO_LARGE = "min-extranonce-size-too-large";
    UNSUPPORTED_MIN_EXTRANONCE_SIZE = "unsupported-min-extranonce-size";
    CHANNEL_CAPACITY_EXHAUSTED = "channel-capacity-exhausted";
    EXTENDED_CHANNELS_NOT_SUPPORTED = "extended-channels-not-supported-for-standard-jobs";
    STANDARD_CHANNELS_NOT_SUPPORTED = "standard-channels-not-supported-for-custom-work";
    INVALID_CHANNEL_ID = "invalid-channel-id";

    // Of a share: see `reason::v2`.
    INVALID_SHARE = "invalid-share";
    STALE_SHARE = "stale-share";
    INVALID_JOB_ID = "invalid-job-id";
    DIFFICULTY_TOO_LOW = "difficulty-too-low";
    DUPLICATE_SHARE = "duplicate-share";
    BAD_EXTRANONCE_SIZE = "bad-extranonce-size";
    VERSION_ROLLING_NOT_ALLOWED = "version-rolling-not-allowed";
    INVALID_NON_ROLLABLE_VERSION_BIT = "invalid-non-rollable-version-bit";
    /// Ours: no other server refuses shares for this.
    SHARE_NOT_STORED = "share-not-stored";

    // Of work that the client brings.
    JD_NOT_SUPPORTED = "jd-not-supported";
    INVALID_MINING_JOB_TOKEN = "invalid-mining-job-token";
    JOB_NOT_YET_VALIDATED = "job-not-yet-validated";
    /// The one that job declaration clients stay for: all others drive them away.
    STALE_CHAIN_TIP = "stale-chain-tip";
    INVALID_MIN_NTIME = "invalid-min-ntime";
    INVALID_NBITS = "invalid-nbits";
    INVALID_VERSION = "invalid-version";
    INVALID_COINBASE_TX = "invalid-coinbase-tx";
    INVALID_COINBASE_TX_VERSION = "invalid-coinbase-tx-version";
    INVALID_COINBASE_PREFIX = "invalid-coinbase-prefix";
    INVALID_COINBASE_TX_INPUT = "invalid-coinbase-tx-input";
    INVALID_COINBASE_TX_INPUT_N_SEQUENCE = "invalid-coinbase-tx-input-n-sequence";
    INVALID_COINBASE_TX_OUTPUTS = "invalid-coinbase-tx-outputs";
    INVALID_COINBASE_TX_LOCKTIME = "invalid-coinbase-tx-locktime";
    INVALID_MERKLE_PATH = "invalid-merkle-path";
    MISSING_TXS = "missing-txs";
    INVALID_JOB = "invalid-job";
    INTERNAL_ERROR = "internal-error";

    // Of a template.
    TEMPLATE_ID_NOT_FOUND = "template-id-not-found";
    STALE_TEMPLATE_ID = "stale-template-id";
}
