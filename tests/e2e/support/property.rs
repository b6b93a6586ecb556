//! MQTT 5 properties [MQTT 2.2.2]: written as a test wants them, read as the specification does.
//! What must not live here: where in a packet they stand.

use super::wire::{Reader, prefixed, variable_length};

macro_rules! properties {
    ($($name:ident($kind:ident) = $id:literal;)*) => {
        /// One property; `Raw` is written as it is, for packets that no client should send.
        #[derive(Clone, PartialEq, Eq, Debug)]
        #[allow(clippy::enum_variant_names, reason = "User Property is its name")]
        pub(crate) enum Property {
            $($name(properties!(@type $kind)),)*
            Raw(Vec<u8>),
        }

        impl Property {
            fn read(reader: &mut Reader<'_>) -> (u8, Self) {
                let id = reader.u8();
                match id {
                    $($id => (id, Self::$name(properties!(@read $kind reader))),)*
                    _ => panic!("no property has the identifier {id:#04x}"),
                }
            }

            fn write(&self, bytes: &mut Vec<u8>) {
                match self {
                    $(Self::$name(value) => {
                        bytes.push($id);
                        properties!(@write bytes value $kind);
                    })*
                    Self::Raw(raw) => bytes.extend_from_slice(raw),
                }
            }
        }
    };
    (@type Byte) => { u8 };
    (@type Two) => { u16 };
    (@type Four) => { u32 };
    (@type Variable) => { u32 };
    (@type Text) => { String };
    (@type Binary) => { Vec<u8> };
    (@type Pair) => { (String, String) };
    (@read Byte $reader:ident) => { $reader.u8() };
    (@read Two $reader:ident) => { $reader.u16() };
    (@read Four $reader:ident) => { $reader.u32() };
    (@read Variable $reader:ident) => { $reader.variable() };
    (@read Text $reader:ident) => { $reader.string() };
    (@read Binary $reader:ident) => { $reader.binary() };
    (@read Pair $reader:ident) => { ($reader.string(), $reader.string()) };
    (@write $bytes:ident $value:ident Byte) => { $bytes.push(*$value) };
    (@write $bytes:ident $value:ident Two) => { $bytes.extend_from_slice(&$value.to_be_bytes()) };
    (@write $bytes:ident $value:ident Four) => { $bytes.extend_from_slice(&$value.to_be_bytes()) };
    (@write $bytes:ident $value:ident Variable) => {
        $bytes.extend_from_slice(&variable_length(usize::try_from(*$value).unwrap()))
    };
    (@write $bytes:ident $value:ident Text) => {
        $bytes.extend_from_slice(&prefixed($value.as_bytes()))
    };
    (@write $bytes:ident $value:ident Binary) => { $bytes.extend_from_slice(&prefixed($value)) };
    (@write $bytes:ident $value:ident Pair) => {{
        $bytes.extend_from_slice(&prefixed($value.0.as_bytes()));
        $bytes.extend_from_slice(&prefixed($value.1.as_bytes()));
    }};
}

properties! {
    PayloadFormat(Byte) = 0x01;
    MessageExpiry(Four) = 0x02;
    ContentType(Text) = 0x03;
    ResponseTopic(Text) = 0x08;
    CorrelationData(Binary) = 0x09;
    SubscriptionId(Variable) = 0x0b;
    SessionExpiry(Four) = 0x11;
    AssignedClientId(Text) = 0x12;
    ServerKeepAlive(Two) = 0x13;
    AuthMethod(Text) = 0x15;
    AuthData(Binary) = 0x16;
    RequestProblemInformation(Byte) = 0x17;
    WillDelay(Four) = 0x18;
    RequestResponseInformation(Byte) = 0x19;
    ResponseInformation(Text) = 0x1a;
    ServerReference(Text) = 0x1c;
    ReasonString(Text) = 0x1f;
    ReceiveMaximum(Two) = 0x21;
    TopicAliasMaximum(Two) = 0x22;
    TopicAlias(Two) = 0x23;
    MaximumQos(Byte) = 0x24;
    RetainAvailable(Byte) = 0x25;
    UserProperty(Pair) = 0x26;
    MaximumPacketSize(Four) = 0x27;
    WildcardsAvailable(Byte) = 0x28;
    SubscriptionIdsAvailable(Byte) = 0x29;
    SharedAvailable(Byte) = 0x2a;
}

impl Property {
    pub(crate) fn user(name: &str, value: &str) -> Self {
        Self::UserProperty((name.to_owned(), value.to_owned()))
    }
}

/// The section with its length in front.
pub(crate) fn write_section(properties: &[Property]) -> Vec<u8> {
    let mut section = Vec::new();
    for property in properties {
        property.write(&mut section);
    }
    [variable_length(section.len()), section].concat()
}

/// Reads the section of a packet sent by a server, whose properties must be among `allowed`; only
/// User Property and Subscription Identifier may come more than once.
pub(crate) fn read_section(reader: &mut Reader<'_>, allowed: &[u8]) -> Vec<Property> {
    let length = usize::try_from(reader.variable()).unwrap();
    let mut section = Reader(reader.take(length));
    let (mut seen, mut properties) = (Vec::new(), Vec::new());
    while !section.is_empty() {
        let (id, property) = Property::read(&mut section);
        assert!(allowed.contains(&id), "{property:?} does not belong into this packet");
        assert!(matches!(id, 0x0b | 0x26) || !seen.contains(&id), "{property:?} comes twice");
        seen.push(id);
        properties.push(property);
    }
    properties
}
