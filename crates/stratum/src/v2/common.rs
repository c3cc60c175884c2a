//! What every protocol begins with.

use super::{message::messages, wire::Str255};

messages! {
    /// Messages that are the same in every protocol.
    enum Common = extension 0;

    /// The first message of a connection.
    0x00 => SetupConnection<'a> {
        /// See [`Protocol`].
        protocol: u8,
        min_version: u16,
        max_version: u16,
        /// What the client cannot do without; their meaning is the protocol's.
        flags: u32,
        endpoint_host: Str255<'a>,
        endpoint_port: u16,
        vendor: Str255<'a>,
        hardware_version: Str255<'a>,
        firmware: Str255<'a>,
        device_id: Str255<'a>,
    }

    0x01 => SetupConnectionSuccess {
        used_version: u16,
        /// What the server cannot do without.
        flags: u32,
    }

    /// After it the server closes the connection.
    0x02 => SetupConnectionError<'a> {
        /// All flags that the server does not support, whatever the client asked for.
        flags: u32,
        error_code: Str255<'a>,
    }

    /// From proxies: another device is at the end of a channel now.
    0x03 channel => ChannelEndpointChanged {
        channel_id: u32,
    }

    0x04 => Reconnect<'a> {
        /// Empty: the same.
        new_host: Str255<'a>,
        /// 0: the same.
        new_port: u16,
    }
}

/// The version of all protocols.
pub const VERSION: u16 = 2;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// See [`super::mining`].
    Mining = 0,
    /// See [`super::job_declaration`].
    JobDeclaration = 1,
    /// See [`super::template_distribution`].
    TemplateDistribution = 2,
}

impl Protocol {
    /// The protocol of that number, if there is one.
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::Mining, Self::JobDeclaration, Self::TemplateDistribution]
            .into_iter()
            .find(|&p| p as u8 == number)
    }
}
