//! The access order, one for all who ask: a worker's connections and the operator's `acl check`.
//! What must not live here: what a step says, and what is done with the answer.

use crate::access::{Decision, RuleId};
use crate::action::AccessStep;
use crate::hook::{Denial, Verdict};

/// What the access order came to, and which of its steps decided.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// That rule denies: final, before any step is asked.
    RulesDeny(RuleId),
    /// That rule allows, at that step.
    RulesAllow(usize, RuleId),
    /// That step's plugin allows.
    PluginAllows(usize),
    /// That step's plugin denies.
    PluginDenies(usize, Denial),
    /// That step's plugin answers later.
    Parked(usize),
    /// No step has decided: no.
    Nobody,
}

/// Runs the access order from the step `first` on: an explicit deny of the rules is final and comes
/// first, if they are in the order at all; then each step in turn may allow or deny; if none does,
/// the answer is no. `ask` gets a step's number and its plugin; none: it answers later.
pub fn run(
    order: &[AccessStep],
    first: usize,
    rules: impl FnOnce() -> Decision,
    mut ask: impl FnMut(usize, u16) -> Option<Verdict>,
) -> Outcome {
    let rules = if order.contains(&AccessStep::Rules) { rules() } else { Decision::NoMatch };
    if let Decision::Deny(rule) = rules {
        return Outcome::RulesDeny(rule);
    }
    for (index, step) in order.iter().enumerate().skip(first) {
        match (*step, rules) {
            (AccessStep::Rules, Decision::Allow(rule)) => return Outcome::RulesAllow(index, rule),
            (AccessStep::Rules, Decision::Deny(_) | Decision::NoMatch) => {}
            (AccessStep::Plugin(plugin), _) => match ask(index, plugin) {
                None => return Outcome::Parked(index),
                Some(Verdict::Allow) => return Outcome::PluginAllows(index),
                Some(Verdict::Deny(denial)) => return Outcome::PluginDenies(index, denial),
                Some(Verdict::Next) => {}
            },
        }
    }
    Outcome::Nobody
}
