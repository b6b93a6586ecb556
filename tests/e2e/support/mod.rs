//! What every chapter stands on: MQTT bytes, a client that speaks them, and the broker under test.
//! What must not live here: anything of the broker's own code, which would agree with its mistakes.

pub(crate) mod authority;
pub(crate) mod broker;
pub(crate) mod case;
pub(crate) mod client;
pub(crate) mod console;
pub(crate) mod instance;
pub(crate) mod packet;
pub(crate) mod property;
pub(crate) mod stream;
pub(crate) mod transport;
pub(crate) mod web_socket;
pub(crate) mod wire;

pub(crate) use authority::Authority;
pub(crate) use broker::Broker;
pub(crate) use case::{Case, both, each, v3, v5};
pub(crate) use client::Client;
pub(crate) use instance::Instance;
pub(crate) use packet::{Ack, Connack, Connect, Packet, Publish, Subscribe, Unsubscribe, Will};
pub(crate) use property::Property;
pub(crate) use stream::Endpoint;
pub(crate) use wire::Version;
