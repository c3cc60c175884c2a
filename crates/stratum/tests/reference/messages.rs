//! Random messages of every type, byte for byte.

use std::{collections::BTreeSet, fmt::Debug};

use binary_sv2::{Encodable, GetSize};
use framing_sv2::header::Header;
use parsers_sv2::{AnyMessage, IsSv2Message};
use proptest::prelude::*;
use stratum::v2::{
    Decoded, Fault, Frame, Message, code, common, encode_long, extensions, job_declaration, mining,
    template_distribution, wire::Malformed,
};

use crate::sample::{Pool, Random, Sample, Say};

/// Both sides write the same, and read it; ours also in every way that it can be cut short.
fn agree<'a, M, P>(
    ours: M,
    theirs: Vec<u8>,
    decode: fn(Frame<'a>) -> Decoded<'a, P>,
    expect: P,
    random: &mut Random,
) where
    M: Message<'a> + Debug,
    P: PartialEq + Debug,
{
    let mut bytes = Vec::new();
    encode_long(&ours, &mut bytes).unwrap();
    assert_eq!(bytes[6..], theirs, "{ours:?}");
    assert!(theirs.len() <= M::MAX);

    let header = Header::from_bytes(&bytes).unwrap();
    let mut payload = theirs.clone();
    let parsed = AnyMessage::try_from((header, &mut payload[..])).unwrap();
    let told = (parsed.extension_type(), parsed.message_type(), parsed.channel_bit());
    assert_eq!(told, (M::EXTENSION, M::TYPE, M::IS_FOR_CHANNEL), "{ours:?}");
    assert_eq!(header.channel_msg(), M::IS_FOR_CHANNEL);
    assert_eq!(binary_sv2::to_bytes(parsed).unwrap(), theirs);

    let bytes: &'a [u8] = bytes.leak();
    let frame = Frame::next(&mut &bytes[..], bytes.len()).unwrap().unwrap();
    let (message, rest) = decode(frame).unwrap();
    assert_eq!(rest.0, [0u8; 0]);
    // NaN is not itself, so hash rates are compared by their bits: all other fields can be compared.
    assert_eq!(message, expect);

    let every = frame.payload.len() <= 300;
    for cut in 0..if every { frame.payload.len() } else { 20 } {
        let cut = if every { cut } else { random.below(frame.payload.len()) };
        match decode(Frame { payload: &frame.payload[..cut], ..frame }) {
            Err(Fault::Malformed { malformed: Malformed::Short, .. }) => (),
            other => panic!("{ours:?} of {cut} bytes: {other:?}"),
        }
    }
}

/// The rows of one protocol: our names of fields, which are theirs too unless it says `= theirs`.
macro_rules! protocol {
    ($random:ident $pool:ident $types:ident $module:ident::$protocol:ident like $theirs:ident;
     $($name:ident { $($field:ident $(= $their:ident)?),* $(,)? })*) => { $({
        let ours = $module::$name { $($field: Sample::sample($random, $pool)),* };
        let theirs = protocol!(@theirs $theirs $name ours [] $($field $(= $their)?,)*);
        $types.insert(type_of(&ours));
        agree(ours, bytes_of(theirs), $module::$protocol::decode, $module::$protocol::$name(ours), $random);
    })* };
    (@theirs $theirs:ident $name:ident $ours:ident [$($done:tt)*] $field:ident = $their:ident, $($rest:tt)*) => {
        protocol!(@theirs $theirs $name $ours [$($done)* $their: $ours.$field.say(),] $($rest)*)
    };
    (@theirs $theirs:ident $name:ident $ours:ident [$($done:tt)*] $field:ident, $($rest:tt)*) => {
        protocol!(@theirs $theirs $name $ours [$($done)* $field: $ours.$field.say(),] $($rest)*)
    };
    (@theirs $theirs:ident $name:ident $ours:ident [$($done:tt)*]) => {
        $theirs::$name { $($done)* }
    };
}

fn bytes_of<T: Encodable + GetSize>(theirs: T) -> Vec<u8> {
    binary_sv2::to_bytes(theirs).unwrap()
}

fn type_of<'a, M: Message<'a>>(_: &M) -> (u16, u8) {
    (M::EXTENSION, M::TYPE)
}

/// One of each. Returns the extensions and numbers of what was compared.
fn one_of_each(random: &mut Random, pool: &Pool) -> BTreeSet<(u16, u8)> {
    let mut types = BTreeSet::new();
    protocol! { random pool types common::Common like common_messages_sv2;
        SetupConnection {
            protocol, min_version, max_version, flags, endpoint_host, endpoint_port, vendor, hardware_version,
            firmware, device_id,
        }
        SetupConnectionSuccess { used_version, flags }
        SetupConnectionError { flags, error_code }
        ChannelEndpointChanged { channel_id }
        Reconnect { new_host, new_port }
    }
    protocol! { random pool types mining::Mining like mining_sv2;
        OpenStandardMiningChannel { request_id, user_identity, nominal_hash_rate, max_target }
        OpenStandardMiningChannelSuccess {
            request_id, channel_id, target, extranonce_prefix, group_channel_id,
        }
        OpenMiningChannelError { request_id, error_code }
        OpenExtendedMiningChannel {
            request_id, user_identity, nominal_hash_rate, max_target, min_extranonce_size,
        }
        OpenExtendedMiningChannelSuccess {
            request_id, channel_id, target, extranonce_size, extranonce_prefix, group_channel_id,
        }
        NewMiningJob { channel_id, job_id, min_ntime, version, merkle_root }
        UpdateChannel { channel_id, nominal_hash_rate, maximum_target }
        UpdateChannelError { channel_id, error_code }
        CloseChannel { channel_id, reason_code }
        SetExtranoncePrefix { channel_id, extranonce_prefix }
        SubmitSharesStandard { channel_id, sequence_number, job_id, nonce, ntime, version }
        SubmitSharesExtended { channel_id, sequence_number, job_id, nonce, ntime, version, extranonce }
        SubmitSharesSuccess { channel_id, last_sequence_number, new_submits_accepted_count, new_shares_sum }
        SubmitSharesError { channel_id, sequence_number, error_code }
        NewExtendedMiningJob {
            channel_id, job_id, min_ntime, version, version_rolling_allowed, merkle_path, coinbase_tx_prefix,
            coinbase_tx_suffix,
        }
        SetNewPrevHash { channel_id, job_id, prev_hash, min_ntime, nbits }
        SetTarget { channel_id, maximum_target }
        SetCustomMiningJob {
            channel_id, request_id, mining_job_token = token, version, prev_hash, min_ntime, nbits,
            coinbase_tx_version, coinbase_prefix, coinbase_tx_input_n_sequence, coinbase_tx_outputs,
            coinbase_tx_locktime, merkle_path,
        }
        SetCustomMiningJobSuccess { channel_id, request_id, job_id }
        SetCustomMiningJobError { channel_id, request_id, error_code }
        SetGroupChannel { group_channel_id, channel_ids }
    }
    protocol! { random pool types job_declaration::JobDeclaration like job_declaration_sv2;
        AllocateMiningJobToken { user_identifier, request_id }
        AllocateMiningJobTokenSuccess {
            request_id, mining_job_token, coinbase_tx_outputs = coinbase_outputs,
        }
        ProvideMissingTransactions { request_id, unknown_tx_position_list }
        ProvideMissingTransactionsSuccess { request_id, transaction_list }
        DeclareMiningJob {
            request_id, mining_job_token, version, coinbase_tx_prefix, coinbase_tx_suffix, wtxid_list, excess_data,
        }
        DeclareMiningJobSuccess { request_id, new_mining_job_token }
        DeclareMiningJobError { request_id, error_code, error_details }
        PushSolution { extranonce, prev_hash, nonce, ntime, nbits, version }
    }
    protocol! { random pool types template_distribution::TemplateDistribution like template_distribution_sv2;
        CoinbaseOutputConstraints { coinbase_output_max_additional_size, coinbase_output_max_additional_sigops }
        NewTemplate {
            template_id, future_template, version, coinbase_tx_version, coinbase_prefix,
            coinbase_tx_input_sequence, coinbase_tx_value_remaining, coinbase_tx_outputs_count,
            coinbase_tx_outputs, coinbase_tx_locktime, merkle_path,
        }
        SetNewPrevHash { template_id, prev_hash, header_timestamp, n_bits, target }
        RequestTransactionData { template_id }
        RequestTransactionDataSuccess { template_id, excess_data, transaction_list }
        RequestTransactionDataError { template_id, error_code }
        SubmitSolution { template_id, version, header_timestamp, header_nonce, coinbase_tx }
    }
    protocol! { random pool types extensions::Negotiation like extensions_sv2;
        RequestExtensions { request_id, requested_extensions }
        RequestExtensionsSuccess { request_id, supported_extensions }
        RequestExtensionsError { request_id, unsupported_extensions, required_extensions }
    }
    types
}

proptest! {
    #[test]
    fn every_message(seed: u64) {
        let pool = Pool::new();
        one_of_each(&mut Random(seed), &pool);
    }
}

/// So that no message is left out above, and none is known here that the specification does not have.
#[test]
fn those_are_all_messages() {
    let mut known = BTreeSet::new();
    for (extension, msg_type) in (0..=1).flat_map(|e| (0..=u8::MAX).map(move |t| (e, t))) {
        let header = stratum::v2::Header { extension_type: extension, msg_type, length: 0 };
        let frame = Frame { header, payload: &[] };
        let faults = [
            common::Common::decode(frame).err(),
            mining::Mining::decode(frame).err(),
            job_declaration::JobDeclaration::decode(frame).err(),
            template_distribution::TemplateDistribution::decode(frame).err(),
            extensions::Negotiation::decode(frame).err(),
        ];
        let knows = faults.iter().filter(|fault| matches!(fault, Some(Fault::Malformed { .. }))).count();
        assert!(knows <= 1, "{msg_type:#04x} of extension {extension} is in two protocols");
        if knows == 1 {
            known.insert((extension, msg_type));
        }
    }
    assert_eq!(known, one_of_each(&mut Random(0), &Pool::new()));
    assert_eq!(known.len(), 5 + 21 + 8 + 7 + 3);
}

#[test]
fn shares_that_name_their_worker() {
    let share = mining::SubmitSharesExtended {
        channel_id: 1,
        sequence_number: 2,
        job_id: 3,
        nonce: 4,
        ntime: 5,
        version: 6,
        extranonce: stratum::v2::wire::Bytes::new(&[7; 8]).unwrap(),
    };
    for name in ["", "Worker_001", "Worker_1234567890123456789012345"] {
        let worker = extensions::UserIdentity::new(name.as_bytes()).unwrap();
        let mut bytes = Vec::new();
        extensions::encode_share_of(&share, worker, &mut bytes);
        let frame = Frame::next(&mut &bytes[..], 99).unwrap().unwrap();
        let (message, tail) = mining::Mining::decode(frame).unwrap();
        assert_eq!(message, mining::Mining::SubmitSharesExtended(share));
        let theirs = parsers_sv2::Tlv::new(2, 1, name.as_bytes().to_vec()).encode().unwrap();
        assert_eq!(tail.0, theirs);
        assert_eq!(extensions::user_identity(tail), Ok(Some(worker)));
    }
}

/// Every code that the reference names, and one more.
#[test]
fn codes() {
    use common_messages_sv2 as c;
    use job_declaration_sv2 as j;
    use mining_sv2 as m;
    use template_distribution_sv2 as t;
    let theirs = [
        c::ERROR_CODE_SETUP_CONNECTION_UNSUPPORTED_FEATURE_FLAGS,
        c::ERROR_CODE_SETUP_CONNECTION_UNSUPPORTED_PROTOCOL,
        c::ERROR_CODE_SETUP_CONNECTION_MISSING_DECLARE_TX_DATA_FLAG,
        c::ERROR_CODE_SETUP_CONNECTION_PROTOCOL_VERSION_MISMATCH,
        m::ERROR_CODE_OPEN_MINING_CHANNEL_STANDARD_CHANNELS_NOT_SUPPORTED_FOR_CUSTOM_WORK,
        m::ERROR_CODE_OPEN_MINING_CHANNEL_EXTENDED_CHANNELS_NOT_SUPPORTED_FOR_STANDARD_JOBS,
        m::ERROR_CODE_OPEN_MINING_CHANNEL_CHANNEL_CAPACITY_EXHAUSTED,
        m::ERROR_CODE_OPEN_MINING_CHANNEL_INVALID_USER_IDENTITY,
        m::ERROR_CODE_OPEN_MINING_CHANNEL_INVALID_NOMINAL_HASHRATE,
        m::ERROR_CODE_OPEN_MINING_CHANNEL_MIN_EXTRANONCE_SIZE_TOO_LARGE,
        m::ERROR_CODE_OPEN_MINING_CHANNEL_MAX_TARGET_OUT_OF_RANGE,
        m::ERROR_CODE_OPEN_MINING_CHANNEL_UNSUPPORTED_MIN_EXTRANONCE_SIZE,
        m::ERROR_CODE_OPEN_MINING_CHANNEL_UNKNOWN_USER,
        m::ERROR_CODE_UPDATE_CHANNEL_INVALID_NOMINAL_HASHRATE,
        m::ERROR_CODE_UPDATE_CHANNEL_MAX_TARGET_OUT_OF_RANGE,
        m::ERROR_CODE_UPDATE_CHANNEL_INVALID_CHANNEL_ID,
        m::ERROR_CODE_SUBMIT_SHARES_INVALID_CHANNEL_ID,
        m::ERROR_CODE_SUBMIT_SHARES_INVALID_SHARE,
        m::ERROR_CODE_SUBMIT_SHARES_STALE_SHARE,
        m::ERROR_CODE_SUBMIT_SHARES_INVALID_JOB_ID,
        m::ERROR_CODE_SUBMIT_SHARES_DIFFICULTY_TOO_LOW,
        m::ERROR_CODE_SUBMIT_SHARES_DUPLICATE_SHARE,
        m::ERROR_CODE_SUBMIT_SHARES_BAD_EXTRANONCE_SIZE,
        m::ERROR_CODE_VERSION_ROLLING_NOT_ALLOWED,
        m::ERROR_CODE_SUBMIT_SHARES_INVALID_NON_ROLLABLE_VERSION_BIT,
        m::ERROR_CODE_SET_CUSTOM_MINING_JOB_JD_NOT_SUPPORTED,
        m::ERROR_CODE_SET_CUSTOM_MINING_JOB_INVALID_CHANNEL_ID,
        m::ERROR_CODE_SET_CUSTOM_MINING_JOB_INVALID_MINING_JOB_TOKEN,
        m::ERROR_CODE_SET_CUSTOM_MINING_JOB_JOB_NOT_YET_VALIDATED,
        m::ERROR_CODE_SET_CUSTOM_MINING_JOB_STALE_CHAIN_TIP,
        m::ERROR_CODE_SET_CUSTOM_MINING_JOB_INVALID_MIN_NTIME,
        m::ERROR_CODE_SET_CUSTOM_MINING_JOB_INVALID_NBITS,
        m::ERROR_CODE_SET_CUSTOM_MINING_JOB_INVALID_VERSION,
        m::ERROR_CODE_SET_CUSTOM_MINING_JOB_INVALID_COINBASE_TX,
        m::ERROR_CODE_SET_CUSTOM_MINING_JOB_INVALID_COINBASE_TX_VERSION,
        m::ERROR_CODE_SET_CUSTOM_MINING_JOB_INVALID_COINBASE_PREFIX,
        m::ERROR_CODE_SET_CUSTOM_MINING_JOB_INVALID_COINBASE_TX_INPUT_N_SEQUENCE,
        m::ERROR_CODE_SET_CUSTOM_MINING_JOB_INVALID_COINBASE_TX_OUTPUTS,
        m::ERROR_CODE_SET_CUSTOM_MINING_JOB_INVALID_COINBASE_TX_LOCKTIME,
        m::ERROR_CODE_SET_CUSTOM_MINING_JOB_INVALID_MERKLE_PATH,
        j::ERROR_CODE_DECLARE_MINING_JOB_INVALID_MINING_JOB_TOKEN,
        j::ERROR_CODE_DECLARE_MINING_JOB_MISSING_TXS,
        j::ERROR_CODE_DECLARE_MINING_JOB_INVALID_COINBASE_TX,
        j::ERROR_CODE_DECLARE_MINING_JOB_INVALID_COINBASE_TX_INPUT,
        j::ERROR_CODE_DECLARE_MINING_JOB_INTERNAL_ERROR,
        j::ERROR_CODE_DECLARE_MINING_JOB_STALE_CHAIN_TIP,
        j::ERROR_CODE_DECLARE_MINING_JOB_INVALID_JOB,
        t::ERROR_CODE_REQUEST_TRANSACTION_DATA_STALE_TEMPLATE_ID,
        t::ERROR_CODE_REQUEST_TRANSACTION_DATA_TEMPLATE_ID_NOT_FOUND,
    ];
    let theirs: BTreeSet<&str> = theirs.into_iter().collect();
    let ours: BTreeSet<&str> = code::ALL.iter().copied().collect();
    assert_eq!(ours.len(), code::ALL.len(), "a code stands there twice");
    assert_eq!(ours.difference(&theirs).collect::<Vec<_>>(), [&code::SHARE_NOT_STORED]);
    assert_eq!(theirs.difference(&ours).count(), 0);
    for code in ours {
        assert!(
            (1..=255).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_graphic()),
            "{code}"
        );
    }
}
