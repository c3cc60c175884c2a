//! Where a publisher is, as the node's configuration writes it.

use std::path::PathBuf;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Tcp { host: String, port: u16 },
    Ipc(PathBuf),
}

impl Endpoint {
    /// Says what is wrong with `text`, where it is none.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let path = text.strip_prefix("ipc://").or_else(|| text.strip_prefix("unix:"));
        if let Some(path) = path {
            return match path {
                "" => Err("it names no socket file"),
                _ => Ok(Self::Ipc(path.into())),
            };
        }
        let address = text.strip_prefix("tcp://").ok_or("it begins with neither tcp:// nor ipc://")?;
        let (host, port) = address.rsplit_once(':').ok_or("it has no port")?;
        let port = match port.parse() {
            Ok(port) if port != 0 => port,
            _ => return Err("its port is no number from 1 to 65535"),
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        match bare.unwrap_or(host) {
            "" => Err("it names no host"),
            "*" => Err("* is for the node, to listen everywhere; here, name one host"),
            host if host.contains(['/', '[', ']']) || (bare.is_none() && host.contains(':')) => {
                Err("its host is none")
            }
            host => Ok(Self::Tcp { host: host.to_owned(), port }),
        }
    }
}
