//! What a connection begins with: the protocol, its version and flags, then extensions. And what is not offered.

use std::sync::Arc;

use stratum::v2::{
    Frame, code,
    common::{Common, Protocol, SetupConnection, SetupConnectionError, SetupConnectionSuccess, VERSION},
    encode,
    extensions::{
        Negotiation, RequestExtensions, RequestExtensionsError, RequestExtensionsSuccess, WORKER_HASHRATE,
    },
    mining::{
        SetCustomMiningJob, SetCustomMiningJobError,
        flags::{REQUIRES_STANDARD_JOBS, REQUIRES_VERSION_ROLLING, REQUIRES_WORK_SELECTION},
    },
    wire::{Seq64K, Str255},
};

use crate::{closed::Closed, session::Outcome};

/// The flags that are there, and those of them that can be had.
const KNOWN: u32 = REQUIRES_STANDARD_JOBS | REQUIRES_WORK_SELECTION | REQUIRES_VERSION_ROLLING;
const OFFERED: u32 = REQUIRES_STANDARD_JOBS | REQUIRES_VERSION_ROLLING;

/// Most characters of what a miner calls itself.
const AGENT: usize = 64;

/// What was agreed on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Setup {
    /// It takes standard jobs only.
    pub only_standard: bool,
    /// It names the worker beside each share.
    pub names_workers: bool,
}

/// Answers the first message, which must be `SetupConnection`. `None` if there is nothing to go on with; what it was is
/// said in `out` if it was one.
pub(super) fn begin(frame: Frame<'_>, out: &mut Outcome) -> Option<(Setup, Arc<str>)> {
    let Ok((Common::SetupConnection(setup), _)) = Common::decode(frame) else { return None };
    if let Some(error_code) = refusal(&setup) {
        // All that cannot be had, and not only what was asked for: some ask in order to learn it.
        let flags = (KNOWN | setup.flags) & !OFFERED;
        let error_code = Str255::cut(error_code.as_bytes());
        encode(&SetupConnectionError { flags, error_code }, &mut out.reply);
        out.close = Some(Closed::NotOffered);
        return None;
    }
    encode(&SetupConnectionSuccess { used_version: VERSION, flags: 0 }, &mut out.reply);
    let only_standard = setup.flags & REQUIRES_STANDARD_JOBS != 0;
    Some((Setup { only_standard, names_workers: false }, agent(&setup)))
}

fn refusal(setup: &SetupConnection<'_>) -> Option<&'static str> {
    if Protocol::from_number(setup.protocol) != Some(Protocol::Mining) {
        Some(code::UNSUPPORTED_PROTOCOL)
    } else if !(setup.min_version..=setup.max_version).contains(&VERSION) {
        Some(code::PROTOCOL_VERSION_MISMATCH)
    } else if setup.flags & !OFFERED != 0 {
        Some(code::UNSUPPORTED_FEATURE_FLAGS)
    } else {
        None
    }
}

/// What the miner calls itself: vendor, device and firmware, as far as it says them.
fn agent(setup: &SetupConnection<'_>) -> Arc<str> {
    let parts = [setup.vendor, setup.hardware_version, setup.firmware];
    let parts = parts.map(|part| {
        String::from_utf8_lossy(part.get()).chars().filter(|c| !c.is_control()).collect::<String>()
    });
    let said: Vec<&str> = parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty()).collect();
    said.join("/").chars().take(AGENT).collect::<String>().into()
}

impl Setup {
    /// Answers a request for extensions.
    pub fn negotiate(&mut self, frame: Frame<'_>, out: &mut Outcome) {
        match Negotiation::decode(frame) {
            Ok((Negotiation::RequestExtensions(request), _)) => self.agree(&request, out),
            _ => out.close = Some(Closed::BadFrame),
        }
    }

    fn agree(&mut self, request: &RequestExtensions<'_>, out: &mut Outcome) {
        let RequestExtensions { request_id, requested_extensions } = *request;
        let names_workers = requested_extensions.iter().any(|number| number == WORKER_HASHRATE);
        self.names_workers |= names_workers;
        if names_workers || requested_extensions.is_empty() {
            let supported: &[u16] = if names_workers { &[WORKER_HASHRATE] } else { &[] };
            let supported_extensions = list(supported);
            encode(&RequestExtensionsSuccess { request_id, supported_extensions }, &mut out.reply);
        } else {
            let unsupported_extensions = requested_extensions;
            let required_extensions = list(&[]);
            let error = RequestExtensionsError { request_id, unsupported_extensions, required_extensions };
            encode(&error, &mut out.reply);
        }
    }
}

fn list(numbers: &[u16]) -> Seq64K<'_, u16> {
    Seq64K::new(numbers).expect("one at most")
}

/// Job declaration is not offered.
pub(super) fn refuse_custom(job: &SetCustomMiningJob<'_>, out: &mut Outcome) {
    let error = SetCustomMiningJobError {
        channel_id: job.channel_id,
        request_id: job.request_id,
        error_code: Str255::cut(code::JD_NOT_SUPPORTED.as_bytes()),
    };
    encode(&error, &mut out.reply);
}
