//! An MQTT client for the commands `pub`, `sub` and `bench`: 3.1, 3.1.1 and 5 over TCP, TLS, WebSocket
//! and Unix sockets. It reads and writes packets by itself and not through the broker's codec: one
//! form for all versions, and what both ends of a test get wrong they don't get wrong alike.
//! What must not live here: options, exit codes, anything that is printed.

pub(crate) mod error;
pub(crate) mod link;
pub(crate) mod packet;
pub(crate) mod property;
pub(crate) mod session;
pub(crate) mod tls;
pub(crate) mod trace;
pub(crate) mod transport;
pub(crate) mod url;
pub(crate) mod websocket;
