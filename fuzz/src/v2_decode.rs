//! One frame, read as every protocol has it: what comes out is written and read again, and is the same.

use stratum::v2::{
    Decoded, Frame, Header,
    common::Common,
    extensions::{self, Negotiation},
    job_declaration::JobDeclaration,
    mining::Mining,
    template_distribution::TemplateDistribution,
};

/// Reads `input`: three bytes of a header, the rest is the payload.
pub fn run(input: &[u8]) {
    understood(input);
}

/// Whether `input` is a message.
pub fn understood(input: &[u8]) -> bool {
    let Some((&[a, b, msg_type], payload)) = input.split_first_chunk() else { return false };
    let length = payload.len().min(Header::MAX_LENGTH) as u32;
    let header = Header { extension_type: u16::from_le_bytes([a, b]), msg_type, length };
    let frame = Frame { header, payload };

    macro_rules! again {
        ($($protocol:ident),*) => {
            [$( again(frame, $protocol::decode, |message, out| message.encode(out).expect("not longer than it was")) ),*]
        };
    }
    let protocols = again!(Common, Mining, JobDeclaration, TemplateDistribution, Negotiation);
    let understood = protocols.iter().filter(|&&is| is).count();
    assert!(understood <= 1, "two protocols have the same message");
    understood == 1
}

/// Whether `frame` is a message that `decode` reads.
fn again<'a, M>(
    frame: Frame<'a>,
    decode: fn(Frame<'a>) -> Decoded<'a, M>,
    encode: fn(&M, &mut Vec<u8>),
) -> bool
where
    M: PartialEq + std::fmt::Debug,
{
    let Ok((message, rest)) = decode(frame) else { return false };
    let read = frame.payload.len() - rest.0.len();
    assert_eq!(&frame.payload[read..], rest.0);

    // Not all frames are as we write them: bools have bits that do not count, and the bit for a channel may be wrong.
    let mut bytes = Vec::new();
    encode(&message, &mut bytes);
    assert_eq!(bytes.len(), Header::SIZE + read, "{message:?}");
    let written = Header::parse(bytes.first_chunk().expect("a header"));
    assert_eq!((written.extension(), written.msg_type), (frame.header.extension(), frame.header.msg_type));
    let different = bytes[Header::SIZE..].iter().zip(frame.payload).filter(|(a, b)| a != b);
    assert!(different.count() <= 1, "{message:?}");

    let kept = Frame { header: written, payload: &frame.payload[..read] };
    assert!(decode(kept).is_ok_and(|(again, rest)| again == message && rest.0.is_empty()), "{message:?}");
    for cut in [0, read / 2, read.saturating_sub(1)] {
        let short = Frame { payload: &frame.payload[..cut], ..kept };
        assert!(cut == read || decode(short).is_err(), "{message:?} of {cut} bytes");
    }
    if let Ok(fields) = extensions::fields(rest) {
        assert_eq!(fields.map(|tlv| 5 + tlv.value.len()).sum::<usize>(), rest.0.len());
    }
    if let Ok(Some(worker)) = extensions::user_identity(rest) {
        assert!(worker.get().len() <= 32);
    }
    true
}
