//! The traits a plugin implements: [`Plugin`] and one per hook; the values they exchange are in
//! `types`.
//!
//! No hook method has a default body: a plugin that names a hook says what it answers. One plugin
//! runs as several instances, each on one thread with memory of its own, and an instance may be
//! thrown away and started again at any time; what must be shared or last goes into [`crate::kv`].

use crate::types::{
    CacheHint, Connection, Decision, Exchange, Grant, Message, Request, Startup, StepDecision,
    Verdict,
};

/// A plugin: what every instance does first.
pub trait Plugin: Sized + 'static {
    /// Starts an instance. An error text keeps the plugin from being activated and is shown to the
    /// operator.
    ///
    /// # Errors
    /// Whatever makes the configuration unusable, in words for the operator.
    fn init(startup: &Startup<'_>) -> Result<Self, String>;
}

/// Who is this? Called once per CONNECT.
pub trait Authenticate: Plugin {
    /// Answers for the client that sent `password`. What is written to `grant` counts when the
    /// answer is [`Decision::Allow`].
    fn authenticate(
        &mut self,
        connection: &Connection<'_>,
        password: Option<&[u8]>,
        grant: &Grant<'_>,
    ) -> Decision;
}

/// Who is this, in more than one step? Called for a CONNECT of MQTT 5 with an Authentication Method
/// and for each AUTH packet, before the client is connected or when it authenticates again.
pub trait AuthExchange: Plugin {
    /// Answers one step. The next one may come to another instance: what it has to know goes into
    /// [`Exchange::set_state`]. What is written to `grant` counts when the answer is
    /// [`StepDecision::Allow`]; a client that authenticates again stays the same principal, or is
    /// disconnected.
    fn step(
        &mut self,
        connection: &Connection<'_>,
        exchange: &Exchange<'_>,
        grant: &Grant<'_>,
    ) -> StepDecision;
}

/// May this client do that?
pub trait Authorize: Plugin {
    /// Answers one publish, subscription or will. Without a word to `cache` the broker asks again
    /// each time.
    fn authorize(
        &mut self,
        connection: &Connection<'_>,
        request: &Request,
        cache: &CacheHint<'_>,
    ) -> Decision;
}

/// A message was published: let it pass, changed or not, or drop it.
pub trait OnPublish: Plugin {
    /// Answers for one message. Changes made to `message` count when the answer is
    /// [`Verdict::Pass`].
    fn on_publish(&mut self, connection: &Connection<'_>, message: &Message<'_>) -> Verdict;
}
