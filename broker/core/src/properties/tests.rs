//! Tests of the PUBLISH property section: a table of refusals, and round trips.
//! What must not live here: anything but tests.

use proptest::prelude::*;

use super::*;

fn section(properties: &[Property<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for property in properties {
        property.encode(&mut bytes);
    }
    bytes
}

#[track_caller]
fn check_refused(bytes: &[u8], error: PropertyError, code: u8) {
    assert_eq!(PublishProperties::parse(bytes), Err(error));
    assert_eq!(error.reason_code() as u8, code, "{error}");
}

#[test]
fn an_illegal_section_is_refused_with_the_code_that_the_specification_names() {
    use PropertyError as E;
    check_refused(&[0x01, 2], E::PayloadFormat { value: 2 }, 0x81);
    check_refused(&[0x01], E::Truncated { property: 0x01 }, 0x81);
    check_refused(&[0x02, 0, 0, 1], E::Truncated { property: 0x02 }, 0x81);
    check_refused(&[0x03, 0, 2, b'a'], E::Truncated { property: 0x03 }, 0x81);
    check_refused(&[0x03, 0xff], E::Truncated { property: 0x03 }, 0x81);
    check_refused(&[0x26, 0, 1, b'a', 0], E::Truncated { property: 0x26 }, 0x81);
    check_refused(&[0x11, 0, 0, 0, 0], E::Unknown { property: 0x11 }, 0x81);
    check_refused(&[0x80, 0x01], E::Unknown { property: 0x80 }, 0x81);
    check_refused(&[0x00], E::Unknown { property: 0 }, 0x81);
    check_refused(&[0x01, 0, 0x01, 0], E::Duplicate { property: 0x01 }, 0x82);
    check_refused(&[0x23, 0, 1, 0x23, 0, 1], E::Duplicate { property: 0x23 }, 0x82);
    check_refused(&[0x09, 0, 0, 0x09, 0, 0], E::Duplicate { property: 0x09 }, 0x82);
    check_refused(&[0x23, 0, 0], E::TopicAliasZero, 0x94);
    check_refused(&[0x0b, 1], E::SubscriptionIdentifier, 0x82);
    check_refused(&[0x0b, 0x81, 0], E::VariableByteInteger { property: 0x0b }, 0x81);
    check_refused(&[0x0b, 255, 255, 255, 255], E::VariableByteInteger { property: 0x0b }, 0x81);
    let wildcard = TopicError::Wildcard { level: 2, wildcard: '+' };
    check_refused(&[0x08, 0, 3, b'a', b'/', b'+'], E::ResponseTopic(wildcard), 0x82);
    check_refused(&[0x08, 0, 0], E::ResponseTopic(TopicError::Empty), 0x82);
}

#[test]
fn strings_that_are_not_utf8_or_hold_a_null_character_are_refused_in_every_field() {
    let ill_formed: [&[u8]; 4] = [b"\xc0\x80", b"\xed\xa0\x80", b"\xff", b"\xf4\x90\x80\x80"];
    for property in [0x03, 0x08, 0x26] {
        for text in ill_formed {
            let mut bytes = vec![property, 0, u8::try_from(text.len()).unwrap()];
            bytes.extend(text);
            check_refused(&bytes, PropertyError::Utf8 { property }, 0x81);
        }
        check_refused(&[property, 0, 2, b'a', 0], PropertyError::Nul { property }, 0x81);
    }
    let value = [0x26, 0, 1, b'k', 0, 1, 0];
    check_refused(&value, PropertyError::Nul { property: 0x26 }, 0x81);
    let value = [0x26, 0, 1, b'k', 0, 1, 0x80];
    check_refused(&value, PropertyError::Utf8 { property: 0x26 }, 0x81);
    let byte_order_mark = section(&[Property::UserProperty("\u{feff}k", "")]);
    let parsed = PublishProperties::parse(&byte_order_mark).unwrap();
    assert_eq!(*parsed.forward, *byte_order_mark, "U+FEFF is kept [MQTT-1.5.4-3]");
}

#[test]
fn what_travels_on_is_borrowed_when_it_stands_together() {
    let kept = [Property::UserProperty("a", "b"), Property::ContentType("c")];
    let cut = [Property::MessageExpiryInterval(7), Property::TopicAlias(9)];
    for order in [
        [cut[0], cut[1], kept[0], kept[1]],
        [kept[0], kept[1], cut[0], cut[1]],
        [cut[0], kept[0], kept[1], cut[1]],
    ] {
        let bytes = section(&order);
        let parsed = PublishProperties::parse(&bytes).unwrap();
        assert!(matches!(parsed.forward, Cow::Borrowed(_)), "{order:?}");
        assert_eq!(*parsed.forward, *section(&kept));
        assert_eq!((parsed.message_expiry_seconds, parsed.topic_alias), (Some(7), Some(9)));
    }
    let bytes = section(&[kept[0], cut[0], kept[1]]);
    assert_eq!(*PublishProperties::parse(&bytes).unwrap().forward, *section(&kept));
}

/// A property to build from: kind, number, two strings.
type Seed = (u8, u32, String, String);

fn property(seed: &Seed) -> Property<'_> {
    let (kind, number, first, second) = seed;
    match kind {
        0 => Property::PayloadFormatIndicator(u8::from(number % 2 == 1)),
        1 => Property::MessageExpiryInterval(*number),
        2 => Property::ContentType(first),
        3 => Property::ResponseTopic(first),
        4 => Property::CorrelationData(second.as_bytes()),
        5 => Property::TopicAlias(u16::try_from(number % 65_535).unwrap() + 1),
        _ => Property::UserProperty(first, second),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn valid_sections_round_trip_in_order(
        seeds in prop::collection::vec(
            (0_u8..10, any::<u32>(), "[a-zé/]{1,6}", "[a-z+#é]{0,6}"), 0..8),
    ) {
        let mut kinds = [false; 6];
        let properties: Vec<Property<'_>> = seeds.iter().map(property).filter(|property| {
            let kind = match property {
                Property::PayloadFormatIndicator(_) => 0,
                Property::MessageExpiryInterval(_) => 1,
                Property::ContentType(_) => 2,
                Property::ResponseTopic(_) => 3,
                Property::CorrelationData(_) => 4,
                Property::TopicAlias(_) => 5,
                Property::SubscriptionIdentifier(_) | Property::UserProperty(..) => return true,
            };
            !std::mem::replace(&mut kinds[kind], true)
        }).collect();
        let bytes = section(&properties);
        prop_assert_eq!(iter(&bytes).collect::<Vec<_>>(), properties.clone());

        let parsed = PublishProperties::parse(&bytes).unwrap();
        let is_cut = |property: &Property<'_>| {
            matches!(property, Property::MessageExpiryInterval(_) | Property::TopicAlias(_))
        };
        let (cut, kept): (Vec<_>, Vec<_>) = properties.into_iter().partition(is_cut);
        prop_assert_eq!(parsed.iter().collect::<Vec<_>>(), kept.clone());
        prop_assert_eq!(&*parsed.forward, &*section(&kept));
        let mut found = Vec::new();
        found.extend(parsed.message_expiry_seconds.map(Property::MessageExpiryInterval));
        found.extend(parsed.topic_alias.map(Property::TopicAlias));
        prop_assert_eq!(found.len(), cut.len());
        prop_assert!(found.iter().all(|property| cut.contains(property)));
        // What travels on is valid by itself.
        prop_assert!(PublishProperties::parse(&parsed.forward).is_ok());
    }

    #[test]
    fn no_bytes_make_it_panic(
        start in prop::sample::select(vec![0x01, 0x02, 0x03, 0x08, 0x09, 0x0b, 0x23, 0x26, 0x7f]),
        mut rest in prop::collection::vec(prop_oneof![0_u8..4, any::<u8>()], 0..24),
    ) {
        rest.insert(0, start);
        if let Ok(parsed) = PublishProperties::parse(&rest) {
            prop_assert!(PublishProperties::parse(&parsed.forward).is_ok());
        }
        prop_assert!(iter(&rest).count() <= rest.len());
    }

    #[test]
    fn subscription_identifiers_round_trip(identifier in 1..=VARIABLE_BYTE_INTEGER_MAX) {
        let property = Property::SubscriptionIdentifier(identifier);
        let bytes = section(&[property]);
        prop_assert_eq!(iter(&bytes).collect::<Vec<_>>(), vec![property]);
    }
}
