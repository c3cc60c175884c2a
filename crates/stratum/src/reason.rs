//! Why a submission earns nothing, in the words of each protocol.

use share::Reason;

use crate::v2::code;

/// Code and text of `reason` in a V1 error. The codes stay within 20 to 25, since miners know no others; monitors
/// search for the texts, so they never change.
pub fn v1(reason: Reason) -> (u32, &'static str) {
    match reason {
        Reason::Malformed => (20, "Other/Unknown"),
        Reason::UnknownMethod => (20, "Unsupported method"),
        Reason::NotSubscribed => (25, "Not subscribed"),
        Reason::Unauthorized => (24, "Unauthorized worker"),
        Reason::UnknownJob => (21, "Job not found"),
        Reason::Stale => (21, "Job not found"),
        Reason::Duplicate => (22, "Duplicate share"),
        Reason::LowDifficulty => (23, "Low difficulty share"),
        Reason::TimeTooOld => (20, "Time too old"),
        Reason::TimeTooNew => (20, "Time too new"),
        Reason::VersionMask => (20, "Invalid version mask"),
        Reason::ExtranonceLength => (20, "Invalid extranonce2 length"),
        Reason::NotStored => (20, "Shares cannot be stored now, try again later"),
    }
}

/// `reason` as the error code of a V2 share. Clients know none for a time out of range, so it is
/// an invalid share.
pub fn v2(reason: Reason) -> &'static str {
    match reason {
        Reason::Malformed => code::INVALID_SHARE,
        Reason::UnknownMethod => code::INVALID_SHARE,
        Reason::NotSubscribed => code::INVALID_CHANNEL_ID,
        Reason::Unauthorized => code::UNKNOWN_USER,
        Reason::UnknownJob => code::INVALID_JOB_ID,
        Reason::Stale => code::STALE_SHARE,
        Reason::Duplicate => code::DUPLICATE_SHARE,
        Reason::LowDifficulty => code::DIFFICULTY_TOO_LOW,
        Reason::TimeTooOld => code::INVALID_SHARE,
        Reason::TimeTooNew => code::INVALID_SHARE,
        Reason::VersionMask => code::INVALID_NON_ROLLABLE_VERSION_BIT,
        Reason::ExtranonceLength => code::BAD_EXTRANONCE_SIZE,
        Reason::NotStored => code::SHARE_NOT_STORED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_monitors_search_for() {
        let check = |reason, code, text| assert_eq!(v1(reason), (code, text));
        check(Reason::Stale, 21, "Job not found");
        check(Reason::UnknownJob, 21, "Job not found");
        check(Reason::Duplicate, 22, "Duplicate share");
        check(Reason::LowDifficulty, 23, "Low difficulty share");
        check(Reason::Unauthorized, 24, "Unauthorized worker");
        check(Reason::NotSubscribed, 25, "Not subscribed");
        check(Reason::UnknownMethod, 20, "Unsupported method");
        check(Reason::VersionMask, 20, "Invalid version mask");
        check(Reason::ExtranonceLength, 20, "Invalid extranonce2 length");
        check(Reason::TimeTooNew, 20, "Time too new");
    }

    #[test]
    fn codes_stay_within_those_that_miners_know() {
        for reason in Reason::ALL {
            let (code, text) = v1(reason);
            assert!((20..=25).contains(&code) && !text.is_empty(), "{reason:?}");
        }
    }

    #[test]
    fn codes_that_v2_clients_compare() {
        let check = |reason, code| assert_eq!(v2(reason), code);
        check(Reason::Stale, "stale-share");
        check(Reason::UnknownJob, "invalid-job-id");
        check(Reason::Duplicate, "duplicate-share");
        check(Reason::LowDifficulty, "difficulty-too-low");
        check(Reason::VersionMask, "invalid-non-rollable-version-bit");
        check(Reason::ExtranonceLength, "bad-extranonce-size");
        check(Reason::NotSubscribed, "invalid-channel-id");
        check(Reason::Unauthorized, "unknown-user");
    }

    #[test]
    fn v2_codes_are_those_of_the_list() {
        Reason::ALL.into_iter().for_each(|reason| assert!(code::ALL.contains(&v2(reason)), "{reason:?}"));
    }
}
