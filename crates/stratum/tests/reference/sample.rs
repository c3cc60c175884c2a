//! Random fields, and the same fields as the reference has them.

use binary_sv2::{B016M, B064K, B0255, Seq064K, Seq0255, Sv2Option, U256};
use common_messages_sv2::Protocol;
use stratum::v2::wire::{B16M, B32, B64K, B255, Bytes, HashRate, Seq, Seq64K, Seq255};

/// What random messages are made of. Byte strings and lists are parts of it.
pub struct Pool {
    bytes: Vec<u8>,
    u16s: Vec<u16>,
    u32s: Vec<u32>,
    hashes: Vec<[u8; 32]>,
}

impl Pool {
    pub fn new() -> Self {
        let mut random = Random(1);
        let mut numbers = |count: usize| (0..count).map(|_| random.next()).collect::<Vec<u64>>();
        Self {
            bytes: numbers(100_000).iter().map(|&n| n as u8).collect(),
            u16s: numbers(70_000).iter().map(|&n| n as u16).collect(),
            u32s: numbers(70_000).iter().map(|&n| n as u32).collect(),
            hashes: numbers(70_000)
                .iter()
                .map(|&n| std::array::from_fn(|at| (n >> (at % 57)) as u8))
                .collect(),
        }
    }
}

/// Splitmix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// A length up to `limit`: mostly short, at times none or the limit.
    fn length(&mut self, limit: usize) -> usize {
        match self.below(32) {
            0 | 1 => 0,
            2 => limit,
            _ => self.below(limit.min(80) + 1),
        }
    }

    fn part<'a, T>(&mut self, of: &'a [T], limit: usize) -> &'a [T] {
        let length = self.length(limit);
        let begin = self.below(of.len() - length + 1);
        &of[begin..begin + length]
    }
}

/// A field of a random message.
pub trait Sample<'a> {
    fn sample(random: &mut Random, pool: &'a Pool) -> Self;
}

/// The only one is the number of a protocol; the reference reads no other.
impl Sample<'_> for u8 {
    fn sample(random: &mut Random, _: &Pool) -> Self {
        random.below(3) as u8
    }
}

macro_rules! numbers {
    ($($number:ty),*) => { $(
        impl Sample<'_> for $number {
            fn sample(random: &mut Random, _: &Pool) -> Self {
                random.next() as $number
            }
        }
    )* };
}
numbers!(u16, u32, u64);

impl Sample<'_> for bool {
    fn sample(random: &mut Random, _: &Pool) -> Self {
        random.below(2) == 1
    }
}

impl Sample<'_> for HashRate {
    fn sample(random: &mut Random, _: &Pool) -> Self {
        let odd = [0.0, -0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MIN_POSITIVE, 1.4e14];
        Self(odd.get(random.below(14)).copied().unwrap_or(f32::from_bits(random.next() as u32)))
    }
}

impl Sample<'_> for [u8; 32] {
    fn sample(random: &mut Random, pool: &Pool) -> Self {
        pool.hashes[random.below(pool.hashes.len())]
    }
}

impl<'a, const WIDTH: usize, const LIMIT: usize> Sample<'a> for Bytes<'a, WIDTH, LIMIT> {
    fn sample(random: &mut Random, pool: &'a Pool) -> Self {
        Self::new(random.part(&pool.bytes, LIMIT.min(70_000))).unwrap()
    }
}

impl Sample<'_> for Option<u32> {
    fn sample(random: &mut Random, pool: &Pool) -> Self {
        bool::sample(random, pool).then(|| u32::sample(random, pool))
    }
}

macro_rules! lists {
    ($($item:ty, $part:ident);*) => { $(
        impl<'a, const WIDTH: usize> Sample<'a> for Seq<'a, $item, WIDTH> {
            fn sample(random: &mut Random, pool: &'a Pool) -> Self {
                Self::new(random.part(&pool.$part, Self::LIMIT)).unwrap()
            }
        }
    )* };
}
lists!(u16, u16s; u32, u32s; [u8; 32], hashes);

impl<'a, const WIDTH: usize> Sample<'a> for Seq<'a, B16M<'a>, WIDTH> {
    fn sample(random: &mut Random, pool: &'a Pool) -> Self {
        let count = random.below(6);
        let items: Vec<B16M<'a>> = (0..count).map(|_| Sample::sample(random, pool)).collect();
        Self::new(kept(items)).unwrap()
    }
}

/// Some items are made on the way: tests are short, so they are never freed.
fn kept<'a, T>(items: impl IntoIterator<Item = T>) -> &'a [T] {
    items.into_iter().collect::<Vec<T>>().leak()
}

/// A field of ours as the reference has it.
pub trait Say<'a, T> {
    fn say(&'a self) -> T;
}

macro_rules! say {
    ($($ours:ty => $theirs:ty: |$field:ident| $say:expr;)*) => { $(
        impl<'a> Say<'a, $theirs> for $ours {
            fn say(&'a self) -> $theirs {
                let $field = self;
                $say
            }
        }
    )* };
}

say! {
    bool => bool: |field| *field;
    u16 => u16: |field| *field;
    u32 => u32: |field| *field;
    u64 => u64: |field| *field;
    HashRate => f32: |field| field.0;
    [u8; 32] => U256<'a>: |field| field.into();
    B32<'_> => binary_sv2::B032<'a>: |field| binary_sv2::B032::new(field.get()).unwrap();
    B255<'_> => B0255<'a>: |field| B0255::new(field.get()).unwrap();
    B64K<'_> => B064K<'a>: |field| B064K::new(field.get()).unwrap();
    Option<u32> => Sv2Option<'a, u32>: |field| Sv2Option::new(*field);
    Seq255<'_, [u8; 32]> => Seq0255<'a, U256<'a>>: |field| {
        Seq0255::new(kept(field.iter()).iter().map(U256::from).collect()).unwrap()
    };
    Seq64K<'_, [u8; 32]> => Seq064K<'a, U256<'a>>: |field| {
        Seq064K::new(kept(field.iter()).iter().map(U256::from).collect()).unwrap()
    };
    Seq64K<'_, B16M<'_>> => Seq064K<'a, B016M<'a>>: |field| {
        Seq064K::new(field.iter().map(|item| B016M::new(kept(item.get().to_vec())).unwrap()).collect()).unwrap()
    };
    Seq64K<'_, u16> => Seq064K<'a, u16>: |field| Seq064K::new(field.iter().collect()).unwrap();
    Seq64K<'_, u32> => Seq064K<'a, u32>: |field| Seq064K::new(field.iter().collect()).unwrap();
    u8 => Protocol: |field| match field {
        0 => Protocol::MiningProtocol,
        1 => Protocol::JobDeclarationProtocol,
        _ => Protocol::TemplateDistributionProtocol,
    };
}
