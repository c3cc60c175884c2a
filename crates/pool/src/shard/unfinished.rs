//! Sessions that have more to say than they say at once: each has its turn, between which all others are served.

use super::Shard;

/// Sessions with more to say that say a slice of it in one turn: each takes up to some tenths of a millisecond.
const GO_ON: usize = 8;

impl Shard {
    /// Lets some sessions that have more to say say a little of it. Who does not read goes on when it has read.
    #[inline(never)]
    pub(super) fn go_on(&mut self) {
        let some = self.unfinished.len().min(GO_ON);
        for index in self.unfinished.drain(..some).collect::<Vec<_>>() {
            let Some(connection) = self.connections.get_mut(index) else { continue };
            connection.is_unfinished = false;
            if connection.session.has_more() && !connection.is_blocked() {
                self.hear(index, |connection, now, out| connection.session.go_on(now, out));
            }
        }
        self.settle();
    }
}
