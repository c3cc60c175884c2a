//! The sockets that miners connect to: for each address one per shard, among which the kernel deals out connections, so
//! that no connection is ever handed from thread to thread.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use crate::wire::Door;

/// Connections that wait to be accepted; the kernel cuts it to what it allows. A restart brings all miners at once
/// (F-43).
const BACKLOG: i32 = 65_535;
/// What the kernel may hold for a peer that does not read, in bytes: a few dozen jobs. By itself it would take megabytes.
const SEND_BUFFER: usize = 64 * 1024;

/// An address that miners may connect to.
pub struct Listener {
    address: SocketAddr,
    sockets: Vec<TcpListener>,
    door: Door,
}

impl Listener {
    /// Listens on `address`, for `shards` shards; who connects comes in by `door`. Port 0: the system chooses one.
    ///
    /// # Errors
    /// If the address cannot be had, also when another process has it.
    pub fn bind(address: SocketAddr, shards: usize, door: Door) -> io::Result<Self> {
        // Sockets that share an address would share it with those of another pool as well; one that does not finds out
        // whether there are any, and which port is free.
        let address = TcpListener::bind(address)?.local_addr()?;
        let sockets = (0..shards.max(1)).map(|_| listen(address)).collect::<io::Result<_>>()?;
        Ok(Self { address, sockets, door })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The sockets, one per shard, and their door.
    pub(crate) fn into_sockets(self) -> impl Iterator<Item = (TcpListener, Door)> {
        self.sockets.into_iter().map(move |socket| (socket, self.door.clone()))
    }

    pub(crate) fn door(&self) -> &Door {
        &self.door
    }
}

/// What is set here every accepted connection inherits: answers go out at once, and who vanished without a word is
/// noticed within two minutes (F-40).
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let keepalive =
        TcpKeepalive::new().with_time(Duration::from_secs(45)).with_interval(Duration::from_secs(15));
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.set_tcp_keepalive(&keepalive.with_retries(4))?;
    socket.set_tcp_user_timeout(Some(Duration::from_secs(120)))?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::{
        io::ErrorKind,
        net::{Ipv4Addr, TcpStream},
    };

    use socket2::SockRef;

    use super::*;

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    #[test]
    fn shards_share_an_address_but_pools_do_not() {
        let listener = Listener::bind(ANY, 3, Door::default()).unwrap();
        assert_eq!(listener.sockets.len(), 3);
        let all_alike = |socket: &TcpListener| socket.local_addr().unwrap() == listener.address();
        assert!(listener.sockets.iter().all(all_alike) && listener.address().port() != 0);
        let second = Listener::bind(listener.address(), 1, Door::default());
        assert_eq!(second.err().map(|error| error.kind()), Some(ErrorKind::AddrInUse));
    }

    #[test]
    fn f40_accepted_connections_inherit_what_notices_the_dead() {
        let listener = Listener::bind(ANY, 1, Door::default()).unwrap();
        let _miner = TcpStream::connect(listener.address()).unwrap();
        let socket = &listener.sockets[0];
        socket.set_nonblocking(false).unwrap();
        let (accepted, _) = socket.accept().unwrap();
        let options = SockRef::from(&accepted);
        assert!(options.tcp_nodelay().unwrap() && options.keepalive().unwrap());
        assert_eq!(options.tcp_keepalive_time().unwrap(), Duration::from_secs(45));
        assert_eq!(options.tcp_keepalive_interval().unwrap(), Duration::from_secs(15));
        assert_eq!(options.tcp_keepalive_retries().unwrap(), 4);
        assert_eq!(options.tcp_user_timeout().unwrap(), Some(Duration::from_secs(120)));
        assert!(options.send_buffer_size().unwrap() <= 2 * SEND_BUFFER);
    }
}
