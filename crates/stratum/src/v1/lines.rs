//! Lines out of a stream of bytes.

/// Cuts lines out of bytes as they arrive. A line that arrives whole is never copied, a part of one is kept until the
/// rest is there. Looks at every byte once, however slowly they come.
#[derive(Debug)]
pub struct Lines {
    limit: usize,
    /// The beginning of a line whose end has not arrived; or else the line that was given out last.
    begun: Vec<u8>,
    is_given: bool,
}

/// A line is longer than this connection may send: close it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line is longer than the limit of {limit} bytes")]
pub struct TooLong {
    /// The limit in force, in bytes.
    pub limit: usize,
}

impl Lines {
    /// `limit`: the longest line, in bytes without its end.
    pub fn new(limit: usize) -> Self {
        Self { limit, begun: Vec::new(), is_given: false }
    }

    /// Sets another limit, for the lines that follow.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Whether the next byte is the first of a line.
    pub fn is_between(&self) -> bool {
        self.begun.is_empty() || self.is_given
    }

    /// Takes the next line off the front of `arrived`, without its `\n` or `\r\n`. `None` if its end has not arrived;
    /// what there is of it is kept then, never more than the limit, and `arrived` is empty. After an error the stream is
    /// of no more use.
    pub fn next<'a, 'b: 'a>(&'a mut self, arrived: &mut &'b [u8]) -> Result<Option<&'a [u8]>, TooLong> {
        if self.is_given {
            // Not kept: most connections send their next line much later, and in one piece.
            (self.begun, self.is_given) = (Vec::new(), false);
        }
        let Some(end) = memchr::memchr(b'\n', arrived) else {
            self.begun.extend_from_slice(arrived);
            *arrived = &[];
            return fits(&self.begun, self.limit).map(|_| None);
        };
        let (line, rest) = arrived.split_at(end);
        *arrived = &rest[1..];
        if self.begun.is_empty() {
            return fits(line, self.limit).map(Some);
        }
        self.begun.extend_from_slice(line);
        self.is_given = true;
        fits(&self.begun, self.limit).map(Some)
    }
}

/// `line` without a `\r` at its end, if that is within the limit.
fn fits(line: &[u8], limit: usize) -> Result<&[u8], TooLong> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.len() > limit { Err(TooLong { limit }) } else { Ok(line) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What comes out when `chunks` arrive one after the other.
    fn cut(limit: usize, chunks: &[&[u8]]) -> (Vec<Vec<u8>>, Result<(), TooLong>) {
        let (mut lines, mut out) = (Lines::new(limit), Vec::new());
        for mut arrived in chunks.iter().copied() {
            loop {
                match lines.next(&mut arrived) {
                    Ok(Some(line)) => out.push(line.to_vec()),
                    Ok(None) => break,
                    Err(error) => return (out, Err(error)),
                }
            }
        }
        (out, Ok(()))
    }

    #[test]
    fn c01_ends_of_lines() {
        let check = |stream: &str, expect: &[&str]| {
            let expect: Vec<Vec<u8>> = expect.iter().map(|line| line.as_bytes().to_vec()).collect();
            assert_eq!(cut(9, &[stream.as_bytes()]), (expect, Ok(())), "{stream:?}");
        };
        check("", &[]);
        check("a", &[]);
        check("a\n", &["a"]);
        check("a\r\nb\n", &["a", "b"]);
        check("\n\r\na\n", &["", "", "a"]);
        check("a\rb\r\r\n", &["a\rb\r"]);
        check("a\nb", &["a"]);
    }

    #[test]
    fn c03_limit_counts_the_line_without_its_end() {
        let check = |stream: &str, lines: usize, fits: bool| {
            let (out, end) = cut(4, &[stream.as_bytes()]);
            assert_eq!((out.len(), end.is_ok()), (lines, fits), "{stream:?}");
        };
        check("1234\n1234\r\n", 2, true);
        check("1234\n12345\n1\n", 1, false);
        check("12345", 0, false);
        check("1234", 0, true);
        check("1234\r", 0, true);
        check("1234\r1", 0, false);
        check("12345\r\n", 0, false);
    }

    #[test]
    fn c03_limit_can_be_raised_while_a_line_is_arriving() {
        let mut lines = Lines::new(4);
        assert_eq!(lines.next(&mut &b"1234"[..]), Ok(None));
        lines.set_limit(6);
        let mut arrived = &b"56\n7"[..];
        assert_eq!(lines.next(&mut arrived), Ok(Some(&b"123456"[..])));
        lines.set_limit(0);
        assert_eq!(lines.next(&mut arrived), Err(TooLong { limit: 0 }));
    }

    #[test]
    fn f42_of_an_endless_line_no_more_than_the_limit_is_kept() {
        let mut lines = Lines::new(4096);
        for arrived in 1..=4096 {
            assert_eq!(lines.next(&mut &b"["[..]), Ok(None));
            assert_eq!((lines.begun.len(), lines.is_between()), (arrived, false));
        }
        assert_eq!(lines.next(&mut &b"["[..]), Err(TooLong { limit: 4096 }));
    }

    #[test]
    fn nothing_is_kept_between_lines() {
        let mut lines = Lines::new(9);
        assert_eq!(lines.next(&mut &b"ab"[..]), Ok(None));
        assert_eq!(lines.next(&mut &b"c\n"[..]), Ok(Some(&b"abc"[..])));
        assert!(lines.is_between());
        assert_eq!(lines.next(&mut &b""[..]), Ok(None));
        assert_eq!(lines.begun.capacity(), 0);
    }

    proptest! {
        #[test]
        fn c02_the_way_a_stream_is_chunked_does_not_matter(
            stream in "[ab\r\n]{0,60}", cuts in prop::collection::vec(1usize..9, 0..30), limit in 0usize..12,
        ) {
            let (mut chunks, mut rest) = (Vec::new(), stream.as_bytes());
            for cut in cuts {
                let (chunk, after) = rest.split_at(cut.min(rest.len()));
                chunks.push(chunk);
                rest = after;
            }
            chunks.push(rest);
            prop_assert_eq!(cut(limit, &chunks), cut(limit, &[stream.as_bytes()]));
        }
    }
}
