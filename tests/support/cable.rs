//! The cable between the pool and a node, which can be pulled: nobody is told, and nothing gets through.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

/// Forwards connections. Ends with the process.
pub struct Cable {
    /// Where the pool is to find the node.
    pub port: u16,
    /// How often it was pulled and plugged in: odd while it is out.
    moves: Arc<AtomicU64>,
}

impl Cable {
    /// A cable to `port` of the loopback address, plugged in.
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let cable = Self { port: listener.local_addr().expect("an address").port(), moves: Arc::default() };
        let moves = cable.moves.clone();
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let moves = moves.clone();
                thread::spawn(move || carry(near, port, &moves));
            }
        });
        cable
    }

    /// From now on nothing gets through, and what was under way is lost.
    pub fn pull(&self) {
        assert!(self.moves.fetch_add(1, Ordering::SeqCst).is_multiple_of(2), "it is pulled already");
    }

    /// New connections get through again; old ones are closed.
    pub fn plug(&self) {
        assert!(!self.moves.fetch_add(1, Ordering::SeqCst).is_multiple_of(2), "it is plugged in already");
    }
}

fn carry(near: TcpStream, port: u16, moves: &Arc<AtomicU64>) {
    let born = moves.load(Ordering::SeqCst);
    if born.is_multiple_of(2)
        && let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, port))
        && let (Ok(near), Ok(far), moves) = (near.try_clone(), far.try_clone(), moves.clone())
        && let (Ok(back_to), Ok(back_from)) = (near.try_clone(), far.try_clone())
    {
        let back_moves = moves.clone();
        thread::spawn(move || forward(back_from, back_to, born, &back_moves));
        return forward(near, far, born, &moves);
    }
    while moves.load(Ordering::SeqCst) == born && !born.is_multiple_of(2) {
        thread::sleep(Duration::from_millis(20));
    }
}

/// One direction, for as long as the cable is where it was when this began; then silence, until it is back.
fn forward(mut from: TcpStream, mut to: TcpStream, born: u64, moves: &AtomicU64) {
    let mut part = vec![0; 64 * 1024];
    let _ = from.set_read_timeout(Some(Duration::from_millis(20)));
    let _ = to.set_nodelay(true);
    while moves.load(Ordering::SeqCst) == born {
        let length = match from.read(&mut part) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                continue;
            }
            Err(_) => break,
        };
        if moves.load(Ordering::SeqCst) != born || to.write_all(&part[..length]).is_err() {
            break;
        }
    }
    while moves.load(Ordering::SeqCst) == born + 1 {
        thread::sleep(Duration::from_millis(20));
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
