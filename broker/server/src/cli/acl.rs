//! `wasmqtt acl`: access rules, listed, changed and tried out.
//! What must not live here: what a rule means.

use std::path::Path;
use std::process::ExitCode;

use crate::admin::router::Done;
use crate::cli::arguments::{Acl, CheckAction, Rule, RuleAction};
use crate::cli::failure::Failure;
use crate::cli::output::{json, note, say, table};
use crate::cli::session::{Needs, Session};
use crate::service::view::{AddedRule, CheckAnswer, CheckRequest, NewRuleRequest, RuleView};

/// Runs one of the commands; `check` says what it found by its exit code too.
pub(crate) async fn run(
    directory: &Path,
    command: Acl,
    as_json: bool,
) -> Result<ExitCode, Failure> {
    match command {
        Acl::Allow(rule) => add(directory, "allow", rule, as_json).await?,
        Acl::Deny(rule) => add(directory, "deny", rule, as_json).await?,
        Acl::List => {
            let session = Session::open(directory, Needs::Directory).await?;
            list(&session.tenant_get::<Vec<RuleView>>("/rules").await?, as_json)?;
        }
        Acl::Rm { id } => {
            let session = Session::open(directory, Needs::Directory).await?;
            let Done {} = session.tenant_delete(&format!("/rules/{id}")).await?;
            say(format!("removed rule {id}"))?;
        }
        Acl::Check { user, client_id, action, topic } => {
            let action = match action {
                CheckAction::Publish => "publish",
                CheckAction::Subscribe => "subscribe",
            };
            let user = Some(user).filter(|user| user != "-");
            let request = CheckRequest { user, client_id, action: action.to_owned(), topic };
            let session = Session::open(directory, Needs::Plugins).await?;
            let answer: CheckAnswer = session.tenant_post("/check", &request).await?;
            if as_json {
                json(&answer)?;
            } else {
                show(&request, &answer)?;
            }
            return Ok(if answer.allowed { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn add(directory: &Path, effect: &str, rule: Rule, as_json: bool) -> Result<(), Failure> {
    let Rule { action, pattern, to } = rule;
    let actions = match action {
        RuleAction::Publish => "publish",
        RuleAction::Subscribe => "subscribe",
        RuleAction::All => "all",
    };
    let request =
        NewRuleRequest { effect: effect.to_owned(), actions: actions.to_owned(), pattern, to };
    let session = Session::open(directory, Needs::Directory).await?;
    let added: AddedRule = session.tenant_post("/rules", &request).await?;
    if as_json {
        return json(&added);
    }
    let NewRuleRequest { pattern, to, .. } = request;
    say(format!("rule {}: {effect} {actions} {pattern} to {to}", added.id))
}

fn list(rules: &[RuleView], as_json: bool) -> Result<(), Failure> {
    if as_json {
        return json(&rules);
    }
    if rules.is_empty() {
        return say("no rules: what no plugin allows is denied");
    }
    let rows: Vec<[String; 5]> = rules
        .iter()
        .map(|rule| {
            let RuleView { id, effect, actions, pattern, to, .. } = rule.clone();
            [id.to_string(), effect, actions, pattern, to]
        })
        .collect();
    say(table(["ID", "EFFECT", "ACTION", "PATTERN", "TO"], &rows))
}

fn show(request: &CheckRequest, answer: &CheckAnswer) -> Result<(), Failure> {
    let CheckRequest { user, client_id, action, topic } = request;
    let user = user.as_deref().unwrap_or("anonymous");
    let word = if answer.allowed { "allow" } else { "deny" };
    say(format!("{word}: {user} as client {client_id}, {action} {topic}"))?;
    say(format!("decided by {}", answer.decided_by))?;
    let rows: Vec<[String; 3]> = answer
        .steps
        .iter()
        .map(|step| {
            let reason = step.reason.clone().unwrap_or_default();
            [format!("  {}", step.step), step.answer.clone(), reason]
        })
        .collect();
    if !rows.is_empty() {
        say(table(["  STEP", "ANSWER", "WHY"], &rows))?;
    }
    for text in &answer.notes {
        note(format!("note: {text}"));
    }
    Ok(())
}
