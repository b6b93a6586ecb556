//! `acl check`: the access order run for one question, with every answer written down.
//! What must not live here: how a rule matches or how a plugin is called.

use std::sync::{Arc, Mutex, PoisonError};

use wasmqtt_core::access::{Request, Requester, RuleId, RuleSet, Standing};
use wasmqtt_core::hook::{AccessAction, AuthorizeRequest, ConnectionFacts, Denial, Principal};
use wasmqtt_core::message::QoS;
use wasmqtt_core::reason::Version;
use wasmqtt_core::topic::{TopicFilter, check_topic_name};
use wasmqtt_core::worker::order::{self, Outcome};
use wasmqtt_store::{RuleRow, UserRecord};

use crate::config::{AccessStep, AuthStep, Config};
use crate::plugins::{Hooks, WorkerHooks};
use crate::service::view::{CheckAnswer, CheckRequest, CheckStep, RuleView};
use crate::service::{Fault, ServiceError};

/// Runs the access order outside of any connection.
pub(crate) struct Checker {
    config: Arc<Config>,
    hooks: Option<Hooks>,
    /// Made at the first question: most brokers are never asked one.
    instances: Mutex<Option<WorkerHooks>>,
}

/// What is asked, understood.
enum Object<'a> {
    Topic(&'a str),
    Filter(TopicFilter),
}

impl Object<'_> {
    const fn request(&self) -> Request<'_> {
        match self {
            Self::Topic(topic) => Request::Publish(topic),
            Self::Filter(filter) => Request::Subscribe(filter),
        }
    }
}

impl Checker {
    /// `hooks` are the broker's own, with their breakers and counters.
    pub(crate) fn new(config: Arc<Config>, hooks: Option<Hooks>) -> Self {
        Self { config, hooks, instances: Mutex::new(None) }
    }

    /// Asks in the access order, as a worker does.
    pub(crate) fn check(
        &self,
        request: &CheckRequest,
        record: Option<UserRecord>,
        rules: &RuleSet,
        rows: &[RuleRow],
    ) -> Result<CheckAnswer, ServiceError> {
        let object = object(request)?;
        let notes = self.notes(request, record.as_ref());
        let principal = Arc::new(Principal {
            name: request.user.as_deref().map(Arc::from),
            roles: record.map(|record| record.user.roles).unwrap_or_default(),
            ..Principal::default()
        });
        let requester = Requester {
            client_id: &request.client_id,
            username: principal.name.as_deref(),
            roles: &principal.roles,
        };
        let hooks = self.hooks.as_ref().ok_or_else(not_loaded)?;
        let mut instances = self.instances.lock().unwrap_or_else(PoisonError::into_inner);
        let instances = instances.get_or_insert_with(|| hooks.for_worker());
        let connection = self.connection(request);
        let question = question(&connection, &principal, &object);
        let ask = |_, plugin| Some(instances.authorize(plugin, &question).verdict);
        let decide = || rules.decide(&requester, object.request());
        let outcome = order::run(&hooks.access, 0, decide, ask);
        let allowed = matches!(outcome, Outcome::RulesAllow(..) | Outcome::PluginAllows(_));
        let (passed, last, decided_by) = match outcome {
            Outcome::RulesDeny(id) => {
                let line = line(rows, id);
                (0, Some(step("rules", "deny", Some(line.clone()))), line)
            }
            Outcome::RulesAllow(at, id) => {
                let line = line(rows, id);
                (at, Some(step("rules", "allow", Some(line.clone()))), line)
            }
            Outcome::PluginAllows(at) => {
                let name = self.step_name(at);
                (at, Some(step(&name, "allow", None)), name)
            }
            Outcome::PluginDenies(at, denial) => {
                let name = self.step_name(at);
                (at, Some(step(&name, "deny", Some(text_of(&denial)))), name)
            }
            Outcome::Parked(_) | Outcome::Nobody => {
                (hooks.access.len(), None, "default deny: nothing allows it".to_owned())
            }
        };
        let next = |at| match self.config.access_order.get(at) {
            Some(AccessStep::Rules) => {
                step("rules", "next", Some(why_none(rules, &requester, &object)))
            }
            Some(AccessStep::Plugin(_)) | None => step(&self.step_name(at), "next", None),
        };
        let steps = (0..passed).map(next).chain(last).collect();
        Ok(CheckAnswer { allowed, decided_by, steps, notes })
    }

    /// A step of the access order, as `broker.toml` names it.
    fn step_name(&self, at: usize) -> String {
        match self.config.access_order.get(at) {
            Some(AccessStep::Plugin(name)) => format!("plugin:{name}"),
            Some(AccessStep::Rules) | None => "rules".to_owned(),
        }
    }

    /// What is unusual about the question: without these words the answer would mislead.
    fn notes(&self, request: &CheckRequest, record: Option<&UserRecord>) -> Vec<String> {
        let mut notes = Vec::new();
        match (&request.user, record) {
            (Some(name), None) => {
                let by_plugin =
                    self.config.auth_order.iter().any(|step| matches!(step, AuthStep::Plugin(_)));
                notes.push(if by_plugin {
                    format!("{name} is not in directory.db: checked without roles, as a plugin may let it in")
                } else {
                    format!("{name} is not in directory.db: it can't connect")
                });
            }
            (Some(name), Some(record)) if !record.user.enabled => {
                notes.push(format!("{name} is disabled: it can't connect"));
            }
            (None, _) if !self.config.auth_order.contains(&AuthStep::Anonymous) => {
                notes.push(
                    "`auth.order` has no \"anonymous\": such a client can't connect".to_owned(),
                );
            }
            (Some(_), Some(_)) | (None, _) => {}
        }
        notes
    }

    /// The connection that is asked for: one that came in by the first listener.
    fn connection(&self, request: &CheckRequest) -> Arc<ConnectionFacts> {
        let listener = self.config.listeners.keys().next();
        Arc::new(ConnectionFacts {
            tenant: "default".into(),
            client_id: request.client_id.as_str().into(),
            username: request.user.as_deref().map(Into::into),
            listener: listener.map_or_else(|| "mqtt".into(), Arc::clone),
            peer: "127.0.0.1:0".into(),
            version: Version::V5,
            clean_start: true,
            keep_alive_seconds: 60,
            tls: None,
        })
    }
}

fn question<'a>(
    connection: &'a Arc<ConnectionFacts>,
    principal: &'a Arc<Principal>,
    object: &'a Object<'_>,
) -> AuthorizeRequest<'a> {
    let (action, topic) = match object {
        Object::Topic(topic) => (AccessAction::Publish, *topic),
        Object::Filter(filter) => (AccessAction::Subscribe, filter.as_str()),
    };
    AuthorizeRequest {
        connection,
        principal,
        action,
        topic,
        qos: QoS::AtMostOnce,
        retain: false,
        payload_length: 0,
    }
}

fn not_loaded() -> ServiceError {
    ServiceError::new(Fault::Failed, "the plugins are not loaded")
}

fn step(step: &str, answer: &str, reason: Option<String>) -> CheckStep {
    CheckStep { step: step.to_owned(), answer: answer.to_owned(), reason }
}

/// A rule as one line.
fn line(rows: &[RuleRow], id: RuleId) -> String {
    let row = rows.iter().find(|row| row.id == id);
    row.map_or_else(|| format!("rule {}", id.0), |row| RuleView::from(row.clone()).line())
}

/// Why no rule says anything: the first few that are for this client, and what is in their way.
fn why_none(rules: &RuleSet, requester: &Requester<'_>, object: &Object<'_>) -> String {
    const SHOWN: usize = 5;
    let considered = rules.explain(requester, object.request());
    if considered.is_empty() {
        return "no rule is for this client".to_owned();
    }
    let count = considered.len();
    let mut reasons: Vec<String> = considered
        .into_iter()
        .take(SHOWN)
        .map(|one| {
            let why = match (one.standing, object) {
                (Standing::Applies, _) => "applies",
                (Standing::OtherAction, _) => "another action",
                (Standing::OtherTopics, Object::Topic(_)) => "another topic",
                (Standing::OtherTopics, Object::Filter(_)) => "does not cover the whole filter",
                (Standing::Unbound, _) => "its variable has no usable value",
            };
            format!("rule {}: {why}", one.rule.id.0)
        })
        .collect();
    if count > SHOWN {
        reasons.push(format!("{} more", count - SHOWN));
    }
    format!("no rule applies ({})", reasons.join("; "))
}

fn object(request: &CheckRequest) -> Result<Object<'_>, ServiceError> {
    let topic = request.topic.as_str();
    match request.action.as_str() {
        "publish" => check_topic_name(topic).map(|()| Object::Topic(topic)).map_err(|error| {
            ServiceError::new(Fault::Invalid, format!("\"{topic}\" is not a topic: {error}"))
        }),
        "subscribe" => TopicFilter::parse(topic).map(Object::Filter).map_err(|error| {
            ServiceError::new(Fault::Invalid, format!("\"{topic}\" is not a topic filter: {error}"))
        }),
        other => {
            let error = format!("no action \"{other}\"");
            Err(ServiceError::invalid(error, "actions: publish, subscribe"))
        }
    }
}

fn text_of(denial: &Denial) -> String {
    let code = denial.code as u8;
    match &denial.reason {
        Some(reason) => format!("{reason} (0x{code:02x})"),
        None => format!("{:?} (0x{code:02x})", denial.code),
    }
}
