//! Delayed messages: authorized when they come, published not before they are due.
//! What must not live here: how they are acknowledged (`publish`).

use wasmqtt_core::hook::AccessAction;
use wasmqtt_core::time::Millis;

use super::publish::expires_at;
use super::{Attempt, Model, Outcome, SessionIx};
use crate::hooks::Fate;
use crate::packet::Content;

/// A message that waits.
#[derive(Debug)]
pub(crate) struct Delayed {
    session: SessionIx,
    content: Content,
    due: Millis,
}

impl Model {
    /// A message comes that is to be published later: nobody gets it by the topic that it has
    /// until then.
    pub(super) fn delay(&mut self, session: SessionIx, content: &Content, seconds: u32) -> Fate {
        let Content { topic, qos, retain, .. } = content;
        let name = &self.clients[self.sessions[session].client].name;
        let may = self.judge.authorize(name, AccessAction::Publish, topic, *qos, *retain);
        if let Err(code) = may {
            return Fate::Refuse(code);
        }
        let due = self.now.plus_seconds(u64::from(seconds));
        self.delayed.push(Delayed { session, content: content.clone(), due });
        self.cover.hit("message delayed");
        self.fire_delayed();
        Fate::Pass(Content { topic: content.named(), retain: false, ..content.clone() })
    }

    /// Time goes on: what is due may be published from here on. A commit may have failed, or its
    /// user be gone, so it need not be.
    pub(super) fn fire_delayed(&mut self) {
        let now = self.now;
        let (due, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.delayed).into_iter().partition(|it| it.due <= now);
        self.delayed = waiting;
        for Delayed { session, content, due } in due {
            let client = self.sessions[session].client;
            let content = Content { delay_seconds: None, ..content };
            let name = &self.clients[client].name;
            let fate = self.judge.fate(name, AccessAction::Publish, &content);
            self.attempt(Attempt {
                uid: content.uid,
                client,
                session,
                // As of a Will, nobody but the worker knows when it is published.
                is_will: true,
                is_delayed: true,
                packet_id: None,
                qos: content.qos,
                is_repetition: false,
                fate,
                // Counted from when it is due.
                expires_at: expires_at(due, &content),
                first_handed: self.step,
                handed: self.step,
                done: None,
                settled: None,
                outcome: Outcome::Open,
                is_sure: false,
            });
            self.cover.hit("delayed message due");
        }
    }
}
