//! Tests of topic syntax and of the relations between filters, against brute force.
//! What must not live here: anything but tests.

use super::*;

fn filter(text: &str) -> TopicFilter {
    TopicFilter::parse(text).expect(text)
}

#[test]
fn a_number_sign_matches_its_parent_level() {
    assert!(filter("a/#").matches("a"));
}
