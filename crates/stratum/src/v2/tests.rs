use super::{
    common::{Common, Protocol, SetupConnection},
    extensions::{Tlv, UserIdentity, fields, user_identity},
    job_declaration::ProvideMissingTransactionsSuccess,
    mining::{Mining, NewExtendedMiningJob, NewMiningJob, SubmitSharesExtended, SubmitSharesStandard},
    wire::{B16M, B32, B64K, Bytes, Field, HashRate, Malformed, Reader, Seq64K, Seq255, Str255, TooLong},
    *,
};

fn read<'a, T: Field<'a>>(bytes: &'a [u8]) -> Result<T, Malformed> {
    T::read(&mut Reader(bytes))
}

fn frame(extension_type: u16, msg_type: u8, payload: &[u8]) -> Frame<'_> {
    Frame { header: Header { extension_type, msg_type, length: payload.len() as u32 }, payload }
}

#[test]
fn headers_are_little_endian() {
    let header = Header::parse(&[1, 2, 3, 4, 5, 6]);
    assert_eq!(header, Header { extension_type: 0x0201, msg_type: 3, length: 0x06_0504 });
    assert_eq!(header.to_bytes(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(Header { extension_type: 0x8abc, ..header }.extension(), 0x0abc);
    assert_eq!(Header { extension_type: 0x0abc, ..header }.extension(), 0x0abc);
}

#[test]
fn frames_are_taken_off_a_stream() {
    let stream = [0, 0x80, 0x1a, 2, 0, 0, 7, 8, 1, 0, 2, 0, 0, 0, 9];
    let mut arrived = &stream[..];
    assert_eq!(Frame::next(&mut arrived, 2), Ok(Some(frame(0x8000, 0x1a, &[7, 8]))));
    assert_eq!(Frame::next(&mut arrived, 2), Ok(Some(frame(1, 2, &[]))));
    assert_eq!(arrived, [9]);
    assert_eq!(Frame::next(&mut arrived, 2), Ok(None));
    for end in 0..8 {
        let mut arrived = &stream[..end];
        assert_eq!(Frame::next(&mut arrived, 2), Ok(None));
        assert_eq!(arrived.len(), end, "what is not whole stays");
    }
}

#[test]
fn long_frames_are_refused_by_their_header() {
    let mut arrived = &[0, 0, 0, 0xff, 0xff, 0xff][..];
    assert_eq!(Frame::next(&mut arrived, 4096), Err(Oversized { length: 0xff_ffff, limit: 4096 }));
    assert_eq!(Frame::next(&mut arrived, 0xff_ffff), Ok(None));
}

#[test]
fn of_a_bool_only_the_lowest_bit_counts() {
    let check = |byte, expect| assert_eq!(read(&[byte]), Ok(expect), "{byte:#x}");
    check(0, false);
    check(1, true);
    check(3, true);
    check(0xfe, false);
    check(0xff, true);
}

#[test]
fn lengths_and_counts_above_the_type_s_are_refused() {
    let mut bytes = vec![0; 100];
    bytes[0] = 32;
    assert_eq!(read(&bytes), Ok(B32::new(&[0; 32]).unwrap()));
    bytes[0] = 33;
    assert_eq!(read::<B32<'_>>(&bytes), Err(Malformed::Long { length: 33, limit: 32 }));
    assert_eq!(B32::new(&[0; 33]), Err(TooLong { length: 33, limit: 32 }));
    assert_eq!(B32::cut(&[7; 33]), B32::new(&[7; 32]).unwrap());
    assert_eq!(B32::cut(&[7; 5]), B32::new(&[7; 5]).unwrap());
    bytes[0] = 2;
    assert_eq!(read::<Option<u32>>(&bytes), Err(Malformed::Long { length: 2, limit: 1 }));
    assert_eq!(Seq255::new(&[0u32; 256][..]).err(), Some(TooLong { length: 256, limit: 255 }));
    assert_eq!(Seq64K::new(&vec![0u16; 65_536][..]).err(), Some(TooLong { length: 65_536, limit: 65_535 }));
    assert_eq!(B64K::new(&[0; 65_536]).err(), Some(TooLong { length: 65_536, limit: 65_535 }));
}

#[test]
fn counts_that_promise_more_than_there_is_are_refused() {
    assert_eq!(read::<Seq64K<'_, [u8; 32]>>(&[0xff, 0xff, 1, 2, 3]), Err(Malformed::Short));
    assert_eq!(read::<Seq64K<'_, B16M<'_>>>(&[2, 0, 0, 0, 0, 0xff, 0xff, 0xff]), Err(Malformed::Short));
    assert_eq!(read::<B16M<'_>>(&[0xff, 0xff, 0xff]), Err(Malformed::Short));
}

#[test]
fn hash_rates() {
    let check = |rate: f32, expect| assert_eq!(HashRate(rate).get(), expect, "{rate}");
    check(1.5e14, Some(f64::from(1.5e14f32)));
    check(0.0, Some(0.0));
    check(f32::MIN_POSITIVE, Some(f64::from(f32::MIN_POSITIVE)));
    check(f32::MAX, Some(f64::from(f32::MAX)));
    check(f32::NAN, None);
    check(f32::INFINITY, None);
    check(f32::NEG_INFINITY, None);
    check(-1.0, None);
    assert_eq!(HashRate(-0.0).get(), Some(0.0));
    assert_eq!(read::<HashRate>(&f32::NAN.to_le_bytes()), Ok(HashRate(f32::NAN)));
}

#[test]
fn text_need_not_be_utf8() {
    let text: Str255<'_> = read(&[3, 0xff, b'a', 0]).unwrap();
    assert_eq!(text.get(), [0xff, b'a', 0]);
    assert_eq!(format!("{text:?}"), r#""\xffa\x00""#);
}

#[test]
fn lists_are_read_again_from_where_they_arrived() {
    let list: Seq64K<'_, B16M<'_>> = read(&[2, 0, 1, 0, 0, 9, 0, 0, 0]).unwrap();
    assert_eq!((list.len(), list.is_empty()), (2, false));
    assert_eq!(list.iter().map(Bytes::get).collect::<Vec<_>>(), [&[9][..], &[]]);
    let ours = [Bytes::new(&[9]).unwrap(), Bytes::new(&[]).unwrap()];
    assert_eq!(list, Seq64K::new(&ours).unwrap());
    assert_ne!(list, Seq64K::new(&ours[..1]).unwrap());
}

#[test]
fn what_the_number_of_a_message_says() {
    let check = |frame, expect| assert_eq!(Mining::decode(frame).map(|(message, _)| message), expect);
    let share =
        SubmitSharesStandard { channel_id: 1, sequence_number: 2, job_id: 3, nonce: 4, ntime: 5, version: 6 };
    let mut bytes = Vec::new();
    encode(&share, &mut bytes);
    assert_eq!(bytes[..10], [0, 0x80, 0x1a, 24, 0, 0, 1, 0, 0, 0]);
    let payload = &bytes[6..];
    check(frame(0x8000, 0x1a, payload), Ok(Mining::SubmitSharesStandard(share)));
    // Firmware of before 2026-05 has other ideas of which messages are for a channel.
    check(frame(0, 0x1a, payload), Ok(Mining::SubmitSharesStandard(share)));
    check(frame(0x4000, 0x1a, payload), Err(Fault::UnknownExtension(0x4000)));
    check(frame(0xc000, 0x1a, payload), Err(Fault::UnknownExtension(0x4000)));
    check(frame(0, 0x1e, payload), Err(Fault::UnknownMessage(0x1e)));
    check(frame(0, 0x57, payload), Err(Fault::UnknownMessage(0x57)));
    let fault = Fault::Malformed { message: "SubmitSharesStandard", malformed: Malformed::Short };
    check(frame(0, 0x1a, &payload[1..]), Err(fault));
    assert_eq!(fault.to_string(), "SubmitSharesStandard: the payload ends before the message does");
    assert_eq!(channel_id(payload), Some(1));
    assert_eq!(channel_id(&payload[..3]), None);
}

#[test]
fn sizes_of_the_specification_s_tables() {
    fn least<'a, M: Message<'a>>(payload: &'a [u8]) -> usize {
        let mut rest = Reader(payload);
        M::read(&mut rest).unwrap();
        payload.len() - rest.0.len()
    }
    let zeros = [0; 300];
    assert_eq!(least::<SetupConnection<'_>>(&zeros), 16);
    assert_eq!(least::<NewMiningJob>(&zeros), 45);
    assert_eq!(least::<SubmitSharesExtended<'_>>(&zeros), 25);
    assert_eq!((NewMiningJob::MAX, SubmitSharesStandard::MAX, SubmitSharesExtended::MAX), (49, 24, 57));
    assert_eq!(NewExtendedMiningJob::MAX, 18 + 1 + 255 * 32 + 2 * (2 + 65_535));
}

#[test]
fn what_is_longer_than_a_frame_is_not_written() {
    let long = vec![0; 0xff_ffff];
    let list = |count: usize| vec![B16M::new(&long[..1 << 23]).unwrap(); count];
    let check = |count, expect| {
        let items = list(count);
        let message = ProvideMissingTransactionsSuccess {
            request_id: 0,
            transaction_list: Seq64K::new(&items).unwrap(),
        };
        let mut out = b"before".to_vec();
        assert_eq!(encode_long(&message, &mut out), expect);
        assert_eq!(out.len() == 6, expect.is_err());
    };
    check(1, Ok(()));
    check(2, Err(TooLong { length: 4 + 2 + 2 * (3 + (1 << 23)), limit: 0xff_ffff }));
}

#[test]
fn protocols() {
    let known: Vec<Protocol> = (0..=u8::MAX).filter_map(Protocol::from_number).collect();
    assert_eq!(known, [Protocol::Mining, Protocol::JobDeclaration, Protocol::TemplateDistribution]);
}

#[test]
fn fields_of_extensions_in_either_order_of_bytes() {
    let worker = b"Worker_001";
    let little = [&[2, 0, 1, 10, 0], &worker[..]].concat();
    let big = [&[0, 2, 1, 0, 10], &worker[..]].concat();
    let name = Ok(Some(UserIdentity::new(worker).unwrap()));
    assert_eq!(user_identity(Reader(&little)), name);
    assert_eq!(user_identity(Reader(&big)), name);
    let other = [3, 0, 9, 1, 0, 7];
    assert_eq!(user_identity(Reader(&[&little[..], &other].concat())), name);
    assert_eq!(user_identity(Reader(&[&other, &little[..]].concat())), name);
    let all: Vec<Tlv<'_>> = fields(Reader(&other)).unwrap().collect();
    assert_eq!(all, [Tlv { extension: 3, field: 9, value: &[7] }]);
    assert_eq!(user_identity(Reader(&[])), Ok(None));
    assert_eq!(user_identity(Reader(&other)), Ok(None));
    assert_eq!(user_identity(Reader(&[2, 0, 2, 1, 0, 7])), Ok(None), "another field");
}

#[test]
fn names_of_workers_that_are_refused() {
    let tail = |length: u8| [&[2, 0, 1, length, 0], &vec![b'x'; length.into()][..]].concat();
    assert!(matches!(user_identity(Reader(&tail(32))), Ok(Some(name)) if name.get().len() == 32));
    assert_eq!(user_identity(Reader(&tail(33))), Err(Malformed::Long { length: 33, limit: 32 }));
    assert_eq!(user_identity(Reader(&[tail(1), tail(1)].concat())), Err(Malformed::Tail));
    for end in 1..tail(9).len() {
        assert_eq!(user_identity(Reader(&tail(9)[..end])), Err(Malformed::Tail), "{end} bytes");
    }
}

#[test]
fn what_stands_behind_a_message_is_handed_on() {
    let mut bytes = Vec::new();
    encode(&common::ChannelEndpointChanged { channel_id: 7 }, &mut bytes);
    let payload = [&bytes[6..], b"more"].concat();
    let (message, rest) = Common::decode(frame(0x8000, 0x03, &payload)).unwrap();
    assert_eq!(message, Common::ChannelEndpointChanged(common::ChannelEndpointChanged { channel_id: 7 }));
    assert_eq!(rest.0, b"more");
}
