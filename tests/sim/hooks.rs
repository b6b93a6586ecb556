//! What the simulated plugins say: a function of the question, so that the model can look it up.
//! What must not live here: when they say it, and what the broker does then.

use wasmqtt_core::action::AccessStep;
use wasmqtt_core::hook::{AccessAction, Denial, PublishVerdict, Replacement, Verdict};
use wasmqtt_core::message::QoS;
use wasmqtt_core::reason::ReasonCode;

use crate::packet::{Content, Uid};
use crate::rng::{mix, text};

/// All plugins of a run.
#[derive(Clone, Debug)]
pub(crate) struct Judge {
    pub(crate) seed: u64,
    pub(crate) access: Vec<AccessStep>,
    pub(crate) deny_percent: u32,
    /// Whether an on-publish chain looks at topics that begin with `h`.
    pub(crate) chain: bool,
}

/// What becomes of a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// It passes, as that.
    Pass(Content),
    /// It is refused.
    Refuse(ReasonCode),
}

impl Judge {
    /// One plugin's verdict.
    pub(crate) fn plugin(
        &self,
        plugin: u16,
        client_id: &str,
        (action, topic): (AccessAction, &str),
        qos: QoS,
        retain: bool,
    ) -> Verdict {
        let kind = match action {
            AccessAction::Publish => 1,
            AccessAction::Subscribe => 2,
            AccessAction::Will => 3,
        };
        let question = [self.seed, u64::from(plugin), text(client_id), kind, text(topic)];
        let dice = mix(&[mix(&question), qos as u64, u64::from(retain)]);
        let is_last = self.access.last() == Some(&AccessStep::Plugin(plugin));
        if !is_last && dice % 10 < 6 {
            return Verdict::Next;
        }
        if (dice >> 8) % 100 >= u64::from(self.deny_percent) {
            return Verdict::Allow;
        }
        match (dice >> 16) % 6 {
            0 => Verdict::Deny(Denial::new(ReasonCode::UnspecifiedError)),
            1 => Verdict::Deny(Denial::new(ReasonCode::QuotaExceeded)),
            2 => Verdict::Next,
            _ => Verdict::Deny(Denial::new(ReasonCode::NotAuthorized)),
        }
    }

    /// What the whole access order comes to.
    pub(crate) fn authorize(
        &self,
        client_id: &str,
        action: AccessAction,
        topic: &str,
        qos: QoS,
        retain: bool,
    ) -> Result<(), ReasonCode> {
        for step in &self.access {
            let AccessStep::Plugin(plugin) = *step else {
                continue;
            };
            match self.plugin(plugin, client_id, (action, topic), qos, retain) {
                Verdict::Next => {}
                Verdict::Allow => return Ok(()),
                Verdict::Deny(denial) => return Err(denial.code),
            }
        }
        Err(ReasonCode::NotAuthorized)
    }

    /// Whether the on-publish chain looks at a topic.
    pub(crate) fn is_hooked(&self, topic: &str) -> bool {
        self.chain && topic.starts_with('h')
    }

    /// The on-publish chain's verdict.
    pub(crate) fn verdict(&self, uid: Uid, qos: QoS, retain: bool) -> PublishVerdict {
        let dice = mix(&[self.seed, 77, u64::from(uid)]);
        let mut replacement = Replacement::default();
        match dice % 20 {
            0..=6 => return PublishVerdict::Pass,
            7 | 8 => replacement.payload = Some(format!("replaced {uid}").into_bytes().into()),
            9 => replacement.payload = Some(Box::default()),
            10 => replacement.topic = Some("a/b".into()),
            11 => replacement.topic = Some("h/b".into()),
            12 => replacement.topic = Some("h/#".into()),
            13 => replacement.qos = Some(QoS::from_u8((qos as u8 + 1) % 3).unwrap()),
            14 => replacement.qos = Some(QoS::from_u8((qos as u8 + 2) % 3).unwrap()),
            15 => replacement.retain = Some(!retain),
            16 => {
                replacement.topic = Some("b".into());
                replacement.retain = Some(true);
            }
            17 => return PublishVerdict::Drop(Denial::new(ReasonCode::Success)),
            18 => return PublishVerdict::Drop(Denial::new(ReasonCode::UnspecifiedError)),
            _ => return PublishVerdict::Drop(Denial::new(ReasonCode::NotAuthorized)),
        }
        PublishVerdict::Replace(Box::new(replacement))
    }

    /// What becomes of a message that a client publishes, or leaves as its Will.
    pub(crate) fn fate(&self, client_id: &str, action: AccessAction, content: &Content) -> Fate {
        let Content { uid, qos, retain, .. } = *content;
        if let Err(code) = self.authorize(client_id, action, &content.topic, qos, retain) {
            return Fate::Refuse(code);
        }
        if !self.is_hooked(&content.topic) {
            return Fate::Pass(content.clone());
        }
        let Replacement { topic, payload, qos, retain } = match self.verdict(uid, qos, retain) {
            PublishVerdict::Pass => return Fate::Pass(content.clone()),
            PublishVerdict::Drop(denial) => return Fate::Refuse(denial.code),
            PublishVerdict::Replace(replacement) => *replacement,
        };
        let changed = Content {
            uid,
            delay_seconds: None,
            topic: topic.map_or_else(|| content.topic.clone(), String::from),
            payload: payload.map_or_else(|| content.payload.clone(), Vec::from),
            qos: qos.unwrap_or(content.qos),
            retain: retain.unwrap_or(content.retain),
            expiry_seconds: content.expiry_seconds,
        };
        if changed.topic.contains(['#', '+']) {
            return Fate::Refuse(ReasonCode::TopicNameInvalid);
        }
        let again = self.authorize(client_id, action, &changed.topic, changed.qos, changed.retain);
        let is_same = (&changed.topic, changed.qos, changed.retain)
            == (&content.topic, content.qos, content.retain);
        match again {
            Err(code) if !is_same => Fate::Refuse(code),
            _ => Fate::Pass(changed),
        }
    }
}
