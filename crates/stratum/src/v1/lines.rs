//! Lines out of a stream of bytes.

use bytes::BytesMut;

/// Cuts lines out of a buffer that fills as bytes arrive. Looks at every byte once, however slowly they come.
#[derive(Debug)]
pub struct Lines {
    limit: usize,
    searched: usize,
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
        Self { limit, searched: 0 }
    }

    /// Sets another limit, for the lines that follow.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Takes the next line off the front of `buf`, without its `\n` or `\r\n`; `None` if its end has not arrived.
    /// It has to be the same buffer each time, filled at its end only. After an error the stream is of no more use.
    ///
    /// No more than the limit and one read need ever be in the buffer.
    pub fn next(&mut self, buf: &mut BytesMut) -> Result<Option<BytesMut>, TooLong> {
        let unseen = buf.get(self.searched..).unwrap_or_default();
        let Some(end) = unseen.iter().position(|&byte| byte == b'\n').map(|at| self.searched + at) else {
            self.searched = buf.len();
            return self.fits(buf).map(|_| None);
        };
        let mut line = buf.split_to(end + 1);
        self.searched = 0;
        line.truncate(end);
        let length = self.fits(&line)?;
        line.truncate(length);
        Ok(Some(line))
    }

    /// The length of `line` without a `\r` at its end, if that is within the limit.
    fn fits(&self, line: &[u8]) -> Result<usize, TooLong> {
        let length = line.strip_suffix(b"\r").unwrap_or(line).len();
        if length > self.limit { Err(TooLong { limit: self.limit }) } else { Ok(length) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What comes out when `chunks` arrive one after the other.
    fn cut(limit: usize, chunks: &[&[u8]]) -> (Vec<Vec<u8>>, Result<(), TooLong>) {
        let (mut lines, mut buf, mut out) = (Lines::new(limit), BytesMut::new(), Vec::new());
        for chunk in chunks {
            buf.extend_from_slice(chunk);
            loop {
                match lines.next(&mut buf) {
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
        let (mut lines, mut buf) = (Lines::new(4), BytesMut::from(&b"1234"[..]));
        assert_eq!(lines.next(&mut buf), Ok(None));
        lines.set_limit(6);
        buf.extend_from_slice(b"56\n7");
        assert_eq!(lines.next(&mut buf), Ok(Some(BytesMut::from(&b"123456"[..]))));
        lines.set_limit(0);
        assert_eq!(lines.next(&mut buf), Err(TooLong { limit: 0 }));
    }

    #[test]
    fn f42_an_endless_line_is_looked_at_once() {
        let (mut lines, mut buf) = (Lines::new(4096), BytesMut::new());
        for arrived in 1..=4096 {
            buf.extend_from_slice(b"[");
            assert_eq!(lines.next(&mut buf), Ok(None));
            assert_eq!(lines.searched, arrived);
        }
        buf.extend_from_slice(b"[");
        assert_eq!(lines.next(&mut buf), Err(TooLong { limit: 4096 }));
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
