//! MQTT over WebSocket: the HTTP upgrade, then frames, as a layer of a connection's stream.
//! What must not live here: packets. A connection that is no WebSocket never comes here.

pub(crate) mod filter;
mod frame;
pub(crate) mod upgrade;
