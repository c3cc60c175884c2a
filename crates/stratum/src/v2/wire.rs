//! The types that messages are made of. All numbers are little-endian.
//!
//! Decoding borrows: bytes and lists stay where they arrived. What comes out has been looked at to its end, so reading
//! a list again cannot fail.

use std::fmt;

/// The bytes of a message that are not read yet.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(pub &'a [u8]);

/// The payload is no message of its type: it ends too early, or a length or count is above what the type allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The payload ends before the message does.
    #[error("the payload ends before the message does")]
    Short,
    /// A length or count is above what its type allows.
    #[error("a length of {length} where at most {limit} is allowed")]
    Long {
        /// What the payload says.
        length: usize,
        /// What the type allows.
        limit: usize,
    },
    /// Behind the message stands something that is no list of extension fields.
    #[error("the fields of extensions are not understood")]
    Tail,
}

/// What is to be written is longer than its type can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{length} is more than the {limit} that the field takes")]
pub struct TooLong {
    /// In bytes, or items of a list.
    pub length: usize,
    /// In bytes, or items of a list.
    pub limit: usize,
}

impl<'a> Reader<'a> {
    /// The next `length` bytes.
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (front, rest) = self.0.split_at_checked(length).ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(front)
    }

    fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], Malformed> {
        let (front, rest) = self.0.split_first_chunk().ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(front)
    }

    /// A length or count of `width` bytes.
    fn length(&mut self, width: usize, limit: usize) -> Result<usize, Malformed> {
        let length = self.take(width)?.iter().rev().fold(0, |sum, &byte| sum << 8 | usize::from(byte));
        if length > limit { Err(Malformed::Long { length, limit }) } else { Ok(length) }
    }
}

/// One field of a message.
pub trait Field<'a>: Copy {
    /// The most bytes that one can take.
    const MAX: usize;

    /// Takes one off the front.
    fn read(from: &mut Reader<'a>) -> Result<Self, Malformed>;

    /// Appends it.
    fn write(&self, out: &mut Vec<u8>);
}

macro_rules! numbers {
    ($($number:ty),*) => { $(
        impl Field<'_> for $number {
            const MAX: usize = size_of::<$number>();

            fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
                from.array().map(|bytes| <$number>::from_le_bytes(*bytes))
            }

            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }
    )* };
}
numbers!(u8, u16, u32, u64);

/// BOOL: only the lowest bit counts, whatever the others are.
impl Field<'_> for bool {
    const MAX: usize = 1;

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        from.array::<1>().map(|[byte]| byte & 1 == 1)
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

/// U256 and others of a fixed length: a hash in the order of SHA-256's output, which is that of the header; a target as
/// a little-endian number.
impl<const N: usize> Field<'_> for [u8; N] {
    const MAX: usize = N;

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        from.array().copied()
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}

/// F32: hashes per second, as a peer says them. Equal when the bits are.
#[derive(Clone, Copy)]
pub struct HashRate(pub f32);

impl HashRate {
    /// Hashes per second, which may be zero. `None` if it is negative, infinite or not a number.
    pub fn get(self) -> Option<f64> {
        (self.0.is_finite() && self.0 >= 0.0).then_some(f64::from(self.0))
    }
}

impl PartialEq for HashRate {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl fmt::Debug for HashRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Field<'_> for HashRate {
    const MAX: usize = 4;

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        u32::read(from).map(|bits| Self(f32::from_bits(bits)))
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.0.to_bits().write(out);
    }
}

/// Bytes behind their length, which takes `WIDTH` bytes and is at most `LIMIT`. Text is bytes too: it need not be UTF-8.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Bytes<'a, const WIDTH: usize, const LIMIT: usize>(&'a [u8]);

/// STR0_255.
pub type Str255<'a> = Bytes<'a, 1, 255>;
/// B0_32.
pub type B32<'a> = Bytes<'a, 1, 32>;
/// B0_255.
pub type B255<'a> = Bytes<'a, 1, 255>;
/// B0_64K.
pub type B64K<'a> = Bytes<'a, 2, 0xffff>;
/// B0_16M.
pub type B16M<'a> = Bytes<'a, 3, 0xff_ffff>;

impl<'a, const WIDTH: usize, const LIMIT: usize> Bytes<'a, WIDTH, LIMIT> {
    /// `bytes`, if they are not too many.
    pub fn new(bytes: &'a [u8]) -> Result<Self, TooLong> {
        let length = bytes.len();
        if length > LIMIT { Err(TooLong { length, limit: LIMIT }) } else { Ok(Self(bytes)) }
    }

    /// As many of `bytes` as fit.
    pub const fn cut(bytes: &'a [u8]) -> Self {
        match bytes.split_at_checked(LIMIT) {
            Some((front, _)) => Self(front),
            None => Self(bytes),
        }
    }

    /// Without the length.
    pub fn get(self) -> &'a [u8] {
        self.0
    }
}

impl<'a, const WIDTH: usize, const LIMIT: usize> Field<'a> for Bytes<'a, WIDTH, LIMIT> {
    const MAX: usize = WIDTH + LIMIT;

    fn read(from: &mut Reader<'a>) -> Result<Self, Malformed> {
        let length = from.length(WIDTH, LIMIT)?;
        from.take(length).map(Self)
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.len().to_le_bytes()[..WIDTH]);
        out.extend_from_slice(self.0);
    }
}

impl<const WIDTH: usize, const LIMIT: usize> fmt::Debug for Bytes<'_, WIDTH, LIMIT> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

/// OPTION: one byte, 0 or 1, says how many follow.
impl<'a, T: Field<'a>> Field<'a> for Option<T> {
    const MAX: usize = 1 + T::MAX;

    fn read(from: &mut Reader<'a>) -> Result<Self, Malformed> {
        match from.length(1, 1)? {
            0 => Ok(None),
            _ => T::read(from).map(Some),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        u8::from(self.is_some()).write(out);
        self.iter().for_each(|item| item.write(out));
    }
}

/// A list behind the count of its items, which takes `WIDTH` bytes.
#[derive(Clone, Copy)]
pub struct Seq<'a, T, const WIDTH: usize> {
    count: usize,
    items: Items<'a, T>,
}

/// SEQ0_255.
pub type Seq255<'a, T> = Seq<'a, T, 1>;
/// SEQ0_64K.
pub type Seq64K<'a, T> = Seq<'a, T, 2>;

/// As they arrived, every one of them looked at; or as they are to be sent.
#[derive(Clone, Copy)]
enum Items<'a, T> {
    Arrived(&'a [u8]),
    Ours(&'a [T]),
}

impl<'a, T: Field<'a>, const WIDTH: usize> Seq<'a, T, WIDTH> {
    /// The most items.
    pub const LIMIT: usize = (1 << (8 * WIDTH)) - 1;

    /// `items`, if they are not too many.
    pub fn new(items: &'a [T]) -> Result<Self, TooLong> {
        let count = items.len();
        if count > Self::LIMIT {
            return Err(TooLong { length: count, limit: Self::LIMIT });
        }
        Ok(Self { count, items: Items::Ours(items) })
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The items, in order.
    pub fn iter(self) -> impl Iterator<Item = T> + use<'a, T, WIDTH> {
        let mut arrived = Reader(match self.items {
            Items::Arrived(bytes) => bytes,
            Items::Ours(_) => &[],
        });
        (0..self.count).map_while(move |at| match self.items {
            Items::Arrived(_) => T::read(&mut arrived).ok(),
            Items::Ours(items) => items.get(at).copied(),
        })
    }
}

impl<'a, T: Field<'a>, const WIDTH: usize> Field<'a> for Seq<'a, T, WIDTH> {
    const MAX: usize = WIDTH + Self::LIMIT * T::MAX;

    fn read(from: &mut Reader<'a>) -> Result<Self, Malformed> {
        let count = from.length(WIDTH, Self::LIMIT)?;
        let before = from.0;
        for _ in 0..count {
            T::read(from)?;
        }
        let items = Items::Arrived(&before[..before.len() - from.0.len()]);
        Ok(Self { count, items })
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.count.to_le_bytes()[..WIDTH]);
        match self.items {
            Items::Arrived(bytes) => out.extend_from_slice(bytes),
            Items::Ours(items) => items.iter().for_each(|item| item.write(out)),
        }
    }
}

impl<'a, T: Field<'a> + PartialEq, const WIDTH: usize> PartialEq for Seq<'a, T, WIDTH> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<'a, T: Field<'a> + fmt::Debug, const WIDTH: usize> fmt::Debug for Seq<'a, T, WIDTH> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
