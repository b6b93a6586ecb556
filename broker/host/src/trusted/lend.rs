//! Lending: host functions read borrowed facts for the time of one call.
//! What must not live here: who lends what, and what host functions do with it.

use std::cell::Cell;
use std::ptr::NonNull;

use wasmqtt_core::hook::{ConnectionFacts, ExchangeRequest, Principal};
use wasmqtt_core::message::MessageRef;

/// What the host functions of one call may read. A Store's data has to be `'static`, so borrowed
/// facts can't be in there; they are lent by [`lend`] instead.
#[derive(Clone, Copy)]
pub(crate) struct Lent<'a> {
    pub(crate) connection: &'a ConnectionFacts,
    /// None before authentication.
    pub(crate) principal: Option<&'a Principal>,
    /// Only in `on-publish`.
    pub(crate) message: Option<MessageRef<'a>>,
    /// Only in `auth-exchange`.
    pub(crate) exchange: Option<&'a ExchangeRequest>,
}

thread_local! {
    static LENT: Cell<Option<NonNull<Lent<'static>>>> = const { Cell::new(None) };
}

/// Runs `call`; meanwhile [`with_lent`] on this thread gets `facts`. Nested calls see the innermost.
pub(crate) fn lend<R>(facts: &Lent<'_>, call: impl FnOnce() -> R) -> R {
    /// Takes the loan back, also when `call` panics.
    struct Back(Option<NonNull<Lent<'static>>>);
    impl Drop for Back {
        fn drop(&mut self) {
            LENT.set(self.0);
        }
    }
    let loan = NonNull::from(facts).cast::<Lent<'static>>();
    let _back = Back(LENT.replace(Some(loan)));
    call()
}

/// Runs `read` with what [`lend`] lends at the moment, `None` outside of it.
pub(crate) fn with_lent<R>(read: impl FnOnce(Option<&Lent<'_>>) -> R) -> R {
    let loan = LENT.get();
    // SAFETY: the pointer was made from a reference by a `lend` that is still running further down
    // this thread's stack: it is taken back before `lend` returns, it never leaves the thread, and
    // that reference outlives `lend`. `read` is generic over the lifetimes of what it gets, so it
    // can't keep anything of it.
    let facts = loan.map(|loan| unsafe { loan.cast::<Lent<'_>>().as_ref() });
    read(facts)
}

#[cfg(test)]
mod tests {
    use super::{Lent, lend, with_lent};
    use std::sync::Arc;
    use wasmqtt_core::hook::ConnectionFacts;
    use wasmqtt_core::reason::Version;

    fn facts(client_id: &str) -> ConnectionFacts {
        ConnectionFacts {
            tenant: Arc::from("t"),
            client_id: Arc::from(client_id),
            username: None,
            listener: Arc::from("l"),
            peer: Box::from("127.0.0.1:1"),
            version: Version::V5,
            clean_start: true,
            keep_alive_seconds: 60,
            tls: None,
        }
    }

    fn lent_client() -> Option<String> {
        with_lent(|lent| lent.map(|lent| lent.connection.client_id.to_string()))
    }

    #[test]
    fn facts_are_lent_for_the_time_of_the_call_and_nested_calls_see_their_own() {
        let (outer, inner) = (facts("outer"), facts("inner"));
        let outer = Lent { connection: &outer, principal: None, message: None, exchange: None };
        let inner = Lent { connection: &inner, principal: None, message: None, exchange: None };
        assert_eq!(lent_client(), None);
        lend(&outer, || {
            assert_eq!(lent_client().as_deref(), Some("outer"));
            lend(&inner, || {
                assert_eq!(lent_client().as_deref(), Some("inner"));
            });
            assert_eq!(lent_client().as_deref(), Some("outer"));
        });
        assert_eq!(lent_client(), None);
    }

    #[test]
    fn a_panic_takes_the_loan_back() {
        let outer = facts("outer");
        let outer = Lent { connection: &outer, principal: None, message: None, exchange: None };
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            lend(&outer, || std::panic::resume_unwind(Box::new("no output")));
        }));
        assert!(panicked.is_err());
        assert_eq!(lent_client(), None);
    }
}
