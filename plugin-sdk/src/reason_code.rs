//! The MQTT 5 Reason Codes that a plugin may answer with [MQTT5 2.4]; those that only the protocol
//! itself gives are left out.

/// Success: in a drop, the message is acknowledged and forgotten.
pub const SUCCESS: u8 = 0x00;
/// Unspecified error.
pub const UNSPECIFIED_ERROR: u8 = 0x80;
/// Implementation specific error.
pub const IMPLEMENTATION_SPECIFIC_ERROR: u8 = 0x83;
/// Client Identifier not valid (CONNACK).
pub const CLIENT_IDENTIFIER_NOT_VALID: u8 = 0x85;
/// Bad User Name or Password (CONNACK).
pub const BAD_USER_NAME_OR_PASSWORD: u8 = 0x86;
/// Not authorized.
pub const NOT_AUTHORIZED: u8 = 0x87;
/// Server unavailable (CONNACK).
pub const SERVER_UNAVAILABLE: u8 = 0x88;
/// Banned (CONNACK).
pub const BANNED: u8 = 0x8A;
/// Topic Filter invalid (SUBACK).
pub const TOPIC_FILTER_INVALID: u8 = 0x8F;
/// Topic Name invalid.
pub const TOPIC_NAME_INVALID: u8 = 0x90;
/// Packet too large.
pub const PACKET_TOO_LARGE: u8 = 0x95;
/// Quota exceeded.
pub const QUOTA_EXCEEDED: u8 = 0x97;
/// Payload format invalid.
pub const PAYLOAD_FORMAT_INVALID: u8 = 0x99;
