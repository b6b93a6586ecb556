//! Routing: who gets a message of a topic.
//! What must not live here: sessions, and whether the publisher may publish.

pub mod group;
pub mod routes;
pub mod shared;
pub mod subscriptions;
pub mod traffic;
pub mod tree;

pub use group::{Choice, Group, GroupRule, GroupSet, Member, Presence, Strategy};
pub use routes::{Route, RouteRef, Routes};
pub use shared::{MatchSet, Owner, Shared, Subscriber, Subscription, Target, TenantShared};
pub use subscriptions::Subscriptions;
