//! Bytes to packets and back: listeners, connections, framing, conversion.
//! What must not live here: what a packet means. ntex is known here and in `worker_loop` only.

pub(crate) mod alias;
pub(crate) mod bind;
pub(crate) mod connection;
pub(crate) mod decode;
pub(crate) mod encode;
pub(crate) mod frame;
pub(crate) mod link;
pub(crate) mod listener;
pub(crate) mod opening;
pub(crate) mod proxy;
pub(crate) mod socket;
pub(crate) mod strict;
pub(crate) mod tls;
pub(crate) mod ws;
