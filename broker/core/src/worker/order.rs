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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reason::ReasonCode;

    const ORDER: [AccessStep; 3] =
        [AccessStep::Plugin(0), AccessStep::Rules, AccessStep::Plugin(1)];

    fn never(index: usize, _: u16) -> Option<Verdict> {
        panic!("step {index} is asked")
    }

    #[test]
    fn a_deny_rule_is_final_also_when_a_plugin_was_asked_before() {
        let deny = || Decision::Deny(RuleId(7));
        for first in 0..=ORDER.len() {
            assert_eq!(run(&ORDER, first, deny, never), Outcome::RulesDeny(RuleId(7)), "{first}");
        }
        let unlisted = run(&ORDER[..1], 0, deny, |_, _| Some(Verdict::Allow));
        assert_eq!(
            unlisted,
            Outcome::PluginAllows(0),
            "rules that are not in the order say nothing"
        );
    }

    #[test]
    fn each_step_is_asked_in_turn_until_one_decides() {
        let allow = || Decision::Allow(RuleId(7));
        let nothing = || Decision::NoMatch;
        let mut asked = Vec::new();
        let outcome = run(&ORDER, 0, nothing, |index, plugin| {
            asked.push((index, plugin));
            Some(Verdict::Next)
        });
        assert_eq!((outcome, asked), (Outcome::Nobody, vec![(0, 0), (2, 1)]));
        assert_eq!(
            run(&ORDER, 0, allow, |_, _| Some(Verdict::Next)),
            Outcome::RulesAllow(1, RuleId(7))
        );
        assert_eq!(run(&ORDER, 0, allow, |_, _| None), Outcome::Parked(0));
        assert_eq!(run(&ORDER, 1, nothing, |_, _| Some(Verdict::Allow)), Outcome::PluginAllows(2));
        let denial = Denial::new(ReasonCode::NotAuthorized);
        let denies = |_, _| Some(Verdict::Deny(denial.clone()));
        assert_eq!(run(&ORDER, 0, allow, denies), Outcome::PluginDenies(0, denial.clone()));
        assert_eq!(run(&[], 0, allow, never), Outcome::Nobody);
    }
}
