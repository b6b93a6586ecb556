//! DISCONNECT, by client and server [MQTT 3.14].
//! What must not live here: what becomes of the Will (`will`) and the session (`session`).

use crate::support::packet::{PINGREQ, disconnect};
use crate::support::wire::frame;
use crate::support::{Property, Publish, both, v5};

#[test]
fn the_server_closes_after_a_disconnect_3_14_4_1() {
    both(|case| {
        case.client("a").disconnect();
        let mut client = case.client("a");
        client.send([0xe0, 0]);
        assert_eq!(client.rest(), []);
    });
}

#[test]
fn what_follows_a_disconnect_is_ignored_3_14_4_2() {
    both(|case| {
        let mut subscriber = case.subscriber("s", "t", 0);
        let mut client = case.client("a");
        let after = Publish::new(&case.topic("t"), "after").encode(case.version);
        client.send([disconnect(case.version, 0, &[]), after, PINGREQ.to_vec()].concat());
        assert_eq!(client.rest(), []);
        case.client("p").publish(&case.topic("t"), "marker", 0);
        assert_eq!(subscriber.texts(1), ["marker"]);
    });
}

#[test]
fn what_precedes_a_disconnect_is_done() {
    both(|case| {
        let mut subscriber = case.subscriber("s", "t", 1);
        for number in 0..20 {
            let mut client = case.client("a");
            let before = Publish::new(&case.topic("t"), number.to_string()).qos(1, 1);
            client.send([before.encode(case.version), disconnect(case.version, 0, &[])].concat());
            assert_eq!(subscriber.texts(1), [number.to_string()]);
        }
    });
}

#[test]
fn reason_codes_that_a_client_may_send_are_taken_3_14_2_1() {
    v5(|case| {
        let codes =
            [0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99];
        for code in codes {
            let properties = [Property::ReasonString("bye".into()), Property::user("a", "b")];
            case.client("a").disconnect_with(code, &properties);
            let mut short = case.client("a");
            short.send(frame(0xe0, &[code]));
            assert_eq!(short.rest(), []);
        }
    });
}

#[test]
fn reason_codes_that_no_disconnect_has_are_malformed_3_14_2_1() {
    v5(|case| {
        for code in [0x01, 0x02, 0x03, 0x05, 0x10, 0x18, 0x7f, 0x84, 0x85, 0x86, 0xa3, 0xff] {
            let mut client = case.client("a");
            client.send(frame(0xe0, &[code]));
            client.expect_end(&[0x81, 0x82]);
        }
    });
}

#[test]
fn a_malformed_disconnect_ends_the_connection_with_a_code_3_14_1_1() {
    v5(|case| {
        for body in [
            &[0x00, 5][..],
            &[0x00, 2, 0x7f, 1],
            &[0x00, 3, 0x23, 0, 1],
            &[0, 0, 0],
            &[0, 5, 0x11, 0, 0, 0, 1],
        ] {
            let mut client = case.client("a");
            client.send(frame(0xe0, body));
            client.expect_end(&[0x81, 0x82]);
        }
    });
}

#[test]
fn a_client_that_leaves_is_forgotten_by_others_deliveries() {
    both(|case| {
        let mut staying = case.subscriber("s", "t", 1);
        for _ in 0..20 {
            let leaving = case.subscriber("leaving", "t", 1);
            leaving.disconnect();
            staying.publish(&case.topic("t"), "x", 1);
            staying.message();
        }
    });
}
