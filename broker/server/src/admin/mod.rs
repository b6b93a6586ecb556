//! The admin interface: HTTP and JSON over `DIR/admin.sock`, and its client.
//! What must not live here: what a request does (`service`).

pub(crate) mod client;
pub(crate) mod router;
pub(crate) mod server;
