//! The authentication order: plugins and passwords, run on the control runtime.
//! What must not live here: how a password or a plugin is checked.

use std::sync::Arc;

use wasmqtt_core::hook::{AuthenticateAnswer, AuthenticateRequest, HookAnswer, HookReply, Principal};
use wasmqtt_core::ids::{HookToken, WorkerId};

use crate::mailbox::{Letter, Mailbox};

/// The configured order with all that it needs.
pub(crate) struct AuthChain {
    mailboxes: Arc<[Mailbox]>,
    anonymous: Arc<Principal>,
}

impl AuthChain {
    pub(crate) fn open(mailboxes: Arc<[Mailbox]>) -> Self {
        Self { mailboxes, anonymous: Arc::new(Principal::default()) }
    }

    pub(crate) fn start(
        &self,
        worker: WorkerId,
        token: HookToken,
        request: AuthenticateRequest,
    ) -> HookReply<AuthenticateAnswer> {
        let _ = (worker, token, request);
        HookReply::Now(AuthenticateAnswer::Allow(Arc::clone(&self.anonymous)))
    }

    fn answer(&self, worker: WorkerId, token: HookToken, answer: AuthenticateAnswer) {
        let answer = HookAnswer::Authenticate(answer);
        self.mailboxes[worker.index()].post(Letter::HookDone(token, answer));
    }
}
