//! One table per protocol, as the specification has them: a row is a message, its number, whether it is for one channel,
//! and its fields in order.

use super::{
    frame::Frame,
    wire::{Malformed, Reader},
};

/// A message that can be written and read.
pub trait Message<'a>: Copy {
    /// The extension it belongs to, 0 for the protocols themselves.
    const EXTENSION: u16;
    /// Its number.
    const TYPE: u8;
    /// Whether it is for one channel, whose number is its first field.
    const IS_FOR_CHANNEL: bool;
    /// The most bytes that one can take, without what extensions add.
    const MAX: usize;

    /// Takes its fields off the front.
    fn read(from: &mut Reader<'a>) -> Result<Self, Malformed>;

    /// Appends its fields.
    fn write(&self, out: &mut Vec<u8>);
}

/// A frame is not one of the messages that it was taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It belongs to an extension that is not spoken here: to be ignored.
    #[error("extension {0:#06x} is not known")]
    UnknownExtension(u16),
    /// No message of this protocol has that number.
    #[error("message {0:#04x} is not known")]
    UnknownMessage(u8),
    /// The payload of this message cannot be read.
    #[error("{message}: {malformed}")]
    Malformed {
        /// The name of the message.
        message: &'static str,
        /// What is wrong with it.
        malformed: Malformed,
    },
}

/// What a frame held: the message, and what stands behind it.
pub type Decoded<'a, M> = Result<(M, Reader<'a>), Fault>;

/// Reads `frame` as an `M`, whatever type its header names.
pub(super) fn read<'a, M: Message<'a>>(frame: Frame<'a>, message: &'static str) -> Decoded<'a, M> {
    let mut rest = Reader(frame.payload);
    let read = M::read(&mut rest).map_err(|malformed| Fault::Malformed { message, malformed })?;
    Ok((read, rest))
}

/// Makes the messages of one protocol out of its table, and the enum of all of them.
macro_rules! messages {
    (
        $(#[$about:meta])* enum $protocol:ident = extension $extension:literal;
        $(
            $(#[$doc:meta])*
            $number:literal $($channel:ident)? => $name:ident $(<$life:lifetime>)? {
                $( $(#[$field_doc:meta])* $field:ident : $type:ty, )*
            }
        )*
    ) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, PartialEq)]
            #[allow(missing_docs)] // Fields are the specification's; what stands there is what their names do not say.
            pub struct $name $(<$life>)? { $( $(#[$field_doc])* pub $field: $type, )* }

            impl<'a> $crate::v2::Message<'a> for $name $(<$life>)? {
                const EXTENSION: u16 = $extension;
                const TYPE: u8 = $number;
                const IS_FOR_CHANNEL: bool = messages!(@channel $($channel)?);
                const MAX: usize = 0 $( + <$type as $crate::v2::wire::Field<'_>>::MAX )*;

                fn read(
                    from: &mut $crate::v2::wire::Reader<'a>,
                ) -> Result<Self, $crate::v2::wire::Malformed> {
                    Ok(Self { $( $field: $crate::v2::wire::Field::read(from)?, )* })
                }

                fn write(&self, out: &mut Vec<u8>) {
                    $( $crate::v2::wire::Field::write(&self.$field, out); )*
                }
            }
        )*

        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq)]
        #[allow(missing_docs)]
        pub enum $protocol<'a> { $( $name($name $(<$life>)?), )* }

        impl<'a> $protocol<'a> {
            /// The extension that these messages belong to, 0 for the protocols themselves.
            pub const EXTENSION: u16 = $extension;

            /// Reads `frame`, which borrows. Also gives what stands behind the message, which extensions add and
            /// whoever speaks none ignores.
            pub fn decode(frame: $crate::v2::Frame<'a>) -> $crate::v2::Decoded<'a, Self> {
                if frame.header.extension() != Self::EXTENSION {
                    return Err($crate::v2::Fault::UnknownExtension(frame.header.extension()));
                }
                match frame.header.msg_type {
                    $( $number => {
                        let (message, rest) = $crate::v2::message::read(frame, stringify!($name))?;
                        Ok((Self::$name(message), rest))
                    } )*
                    unknown => Err($crate::v2::Fault::UnknownMessage(unknown)),
                }
            }

            /// Appends its frame; nothing if it is too long for one.
            pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), $crate::v2::wire::TooLong> {
                match self {
                    $( Self::$name(message) => $crate::v2::encode_long(message, out), )*
                }
            }
        }
    };
    (@channel channel) => { true };
    (@channel) => { false };
}
pub(super) use messages;
