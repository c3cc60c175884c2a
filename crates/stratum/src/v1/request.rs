//! What a miner asks for, once the JSON is gone.

use std::borrow::Cow;

use share::{Difficulty, Extranonce, Reason};

/// The id of a request: any JSON token, echoed unchanged in the reply. Ids are not unique (some miners use one for
/// every submit), so nothing may be looked up by them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Id<'a>(pub(super) Option<Cow<'a, str>>);

/// One request of a miner.
#[derive(Clone, Debug, PartialEq)]
pub struct Request<'a> {
    /// Goes back with the reply.
    pub id: Id<'a>,
    /// What is asked for.
    pub call: Call<'a>,
}

/// The methods that a miner may call.
#[derive(Clone, Debug, PartialEq)]
pub enum Call<'a> {
    /// `mining.subscribe`.
    Subscribe {
        /// What the miner calls itself: at most 128 characters, none of them a control character; `None` if empty.
        agent: Option<Cow<'a, str>>,
        /// The session that it would like to go on with.
        session: Option<Cow<'a, str>>,
    },
    /// `mining.authorize`.
    Authorize {
        /// User name, as it came.
        user: Cow<'a, str>,
        /// Password, if one was sent.
        password: Option<Cow<'a, str>>,
    },
    /// `mining.configure`.
    Configure(Configure<'a>),
    /// `mining.suggest_difficulty` or `mining.suggest_target`; `None` if the value makes no sense.
    SuggestDifficulty(Option<Difficulty>),
    /// `mining.extranonce.subscribe`.
    ExtranonceSubscribe,
    /// `mining.submit`.
    Submit(Submit<'a>),
    /// `mining.ping`.
    Ping,
    /// Any other method, by name.
    Unknown(Cow<'a, str>),
}

/// What `mining.configure` asks for (BIP 310).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Configure<'a> {
    /// `version-rolling`.
    pub version_rolling: Option<VersionRolling>,
    /// `minimum-difficulty`; `Some(None)` if its value makes no sense.
    pub minimum_difficulty: Option<Option<Difficulty>>,
    /// `subscribe-extranonce`.
    pub subscribe_extranonce: bool,
    /// `info`: the miner tells about itself; nothing here depends on it.
    pub info: bool,
    /// Names of the other extensions, each once, so that the reply can say no to them. Only the first
    /// [`Self::MAX_UNKNOWN`], and none longer than [`Self::MAX_NAME`] bytes; the rest is not answered.
    pub unknown: Vec<Cow<'a, str>>,
}

/// What a miner would roll of the block version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionRolling {
    /// The bits that it can change; all of them if it does not say, none if what it says is not hex.
    pub mask: u32,
    /// How many bits it needs at least to work well; 0 if it does not say.
    pub min_bits: u32,
}

/// A share handed in: numbers and bytes, so that two spellings of one share are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submit<'a> {
    /// Worker name, as it came.
    pub worker: Cow<'a, str>,
    /// Id of the job; `None` if it cannot be one of ours.
    pub job: Option<u32>,
    /// The miner's part of the extranonce; `None` if it is not hex or longer than any extranonce.
    pub extranonce2: Option<Extranonce>,
    /// Header time, in seconds since 1970.
    pub time: u32,
    /// Header nonce.
    pub nonce: u32,
    /// The version bits as rolled; `None` if not said, which means that none were set.
    pub version_bits: Option<u32>,
}

/// A line that is no request. Unless the fault is [`Fault::NotJson`] it deserves an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fault}")]
pub struct Malformed<'a> {
    /// For the reply.
    pub id: Id<'a>,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Whoever sends this does not speak Stratum V1: close.
    #[error("the line is not one JSON object")]
    NotJson,
    /// A request that cannot be understood: refuse it with this text.
    #[error("{text}")]
    BadParams {
        /// Under which reason to answer and count it.
        reason: Reason,
        /// What is wrong, for the person who looks into the miner's log.
        text: &'static str,
    },
}

impl Id<'_> {
    /// Longest id that is echoed, in bytes of JSON.
    pub const MAX: usize = 64;
    /// Given where an id was sent that cannot be echoed.
    pub(super) const NULL: Id<'static> = Id(Some(Cow::Borrowed("null")));

    /// Whether the request had no id at all, so that no reply is due.
    pub fn is_absent(&self) -> bool {
        self.0.is_none()
    }

    /// The same, free of the line that it came in.
    pub fn into_owned(self) -> Id<'static> {
        Id(self.0.map(owned))
    }
}

impl Configure<'_> {
    /// How many unknown extensions are answered.
    pub const MAX_UNKNOWN: usize = 16;
    /// Longest name of an unknown extension that is answered, in bytes.
    pub const MAX_NAME: usize = 64;
}

impl Request<'_> {
    /// The same, free of the line that it came in.
    pub fn into_owned(self) -> Request<'static> {
        let call = match self.call {
            Call::Subscribe { agent, session } => {
                Call::Subscribe { agent: agent.map(owned), session: session.map(owned) }
            }
            Call::Authorize { user, password } => {
                Call::Authorize { user: owned(user), password: password.map(owned) }
            }
            Call::Configure(configure) => {
                let unknown = configure.unknown.into_iter().map(owned).collect();
                Call::Configure(Configure { unknown, ..configure })
            }
            Call::SuggestDifficulty(difficulty) => Call::SuggestDifficulty(difficulty),
            Call::ExtranonceSubscribe => Call::ExtranonceSubscribe,
            Call::Submit(submit) => Call::Submit(Submit { worker: owned(submit.worker), ..submit }),
            Call::Ping => Call::Ping,
            Call::Unknown(method) => Call::Unknown(owned(method)),
        };
        Request { id: self.id.into_owned(), call }
    }
}

impl Malformed<'_> {
    /// The same, free of the line that it came in.
    pub fn into_owned(self) -> Malformed<'static> {
        Malformed { id: self.id.into_owned(), fault: self.fault }
    }
}

fn owned(text: Cow<'_, str>) -> Cow<'static, str> {
    Cow::Owned(text.into_owned())
}
