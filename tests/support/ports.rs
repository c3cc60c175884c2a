//! Ports for what tests start. Shared by all tests that start nodes, whichever crate they are of.

use std::{
    net::{Ipv4Addr, TcpListener},
    sync::atomic::{AtomicU16, Ordering},
};

/// A port of the loopback address that nothing listens on. Taken from below the range that the system hands out by
/// itself, and never twice, so that no outgoing connection or other test gets in between.
pub fn free_port() -> u16 {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 22_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Two test processes at once start at different places.
    let offset = (std::process::id() % u32::from(COUNT)) as u16;
    for _ in 0..COUNT {
        let port = FIRST + (offset.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT);
        if is_free(port) {
            return port;
        }
    }
    panic!("no port between {FIRST} and {} is free", FIRST + COUNT);
}

/// Whether one could listen on `port` of the loopback address.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}
