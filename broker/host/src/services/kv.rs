//! The key-value store of one plugin and tenant: in memory, with quotas and expiry.
//! What must not live here: which plugin gets which store.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use wasmqtt_core::time::Millis;

use crate::limits::KvLimits;

/// Values that expired are looked for at most that often, when a quota is used up.
const PURGE_EVERY_MS: u64 = 1_000;

#[derive(Default)]
pub(crate) struct Kv(Mutex<Entries>);

/// Why a value was not kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum KvError {
    TooLarge,
    QuotaExceeded,
}

#[derive(Default)]
struct Entries {
    by_key: HashMap<String, Entry>,
    /// Keys and values together.
    bytes: usize,
    purged_at: Option<Millis>,
}

struct Entry {
    value: Vec<u8>,
    expires_at: Millis,
}

impl Kv {
    pub(crate) fn get(&self, key: &str, now: Millis) -> Option<Vec<u8>> {
        let mut entries = self.entries();
        let entry = entries.by_key.get(key)?;
        if entry.expires_at <= now {
            entries.remove(key);
            return None;
        }
        Some(entry.value.clone())
    }

    pub(crate) fn set(
        &self,
        key: String,
        value: Vec<u8>,
        ttl_ms: Option<u32>,
        now: Millis,
        limits: &KvLimits,
    ) -> Result<(), KvError> {
        if key.len() > limits.key_bytes_max || value.len() > limits.value_bytes_max {
            return Err(KvError::TooLarge);
        }
        let mut entries = self.entries();
        if !entries.has_room(&key, &value, limits) {
            entries.purge(now);
            if !entries.has_room(&key, &value, limits) {
                return Err(KvError::QuotaExceeded);
            }
        }
        let expires_at = ttl_ms.map_or(Millis::NEVER, |ttl| now + u64::from(ttl));
        entries.remove(&key);
        entries.bytes += key.len() + value.len();
        entries.by_key.insert(key, Entry { value, expires_at });
        Ok(())
    }

    pub(crate) fn remove(&self, key: &str) {
        self.entries().remove(key);
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn has_room(&self, key: &str, value: &[u8], limits: &KvLimits) -> bool {
        let (keys, bytes) = match self.by_key.get(key) {
            Some(old) => (self.by_key.len(), self.bytes - old.value.len() + value.len()),
            None => (self.by_key.len() + 1, self.bytes + key.len() + value.len()),
        };
        keys <= limits.keys_max && bytes <= limits.bytes_max
    }

    fn remove(&mut self, key: &str) {
        if let Some(entry) = self.by_key.remove(key) {
            self.bytes -= key.len() + entry.value.len();
        }
    }

    fn purge(&mut self, now: Millis) {
        if self.purged_at.is_some_and(|last| now.since(last) < PURGE_EVERY_MS) {
            return;
        }
        self.purged_at = Some(now);
        let mut freed = 0;
        self.by_key.retain(|key, entry| {
            let is_live = entry.expires_at > now;
            if !is_live {
                freed += key.len() + entry.value.len();
            }
            is_live
        });
        self.bytes -= freed;
    }
}

#[cfg(test)]
mod tests {
    use super::{Kv, KvError};
    use crate::limits::KvLimits;
    use wasmqtt_core::time::Millis;

    const LIMITS: KvLimits =
        KvLimits { key_bytes_max: 4, value_bytes_max: 8, keys_max: 3, bytes_max: 20 };

    #[track_caller]
    fn check(
        kv: &Kv,
        now: u64,
        key: &str,
        value: &[u8],
        ttl: Option<u32>,
        is: Result<(), KvError>,
    ) {
        assert_eq!(kv.set(key.to_owned(), value.to_vec(), ttl, Millis(now), &LIMITS), is);
    }

    #[test]
    fn a_value_lives_until_it_is_removed_or_its_time_is_over() {
        let kv = Kv::default();
        check(&kv, 0, "a", b"1", None, Ok(()));
        check(&kv, 0, "b", b"2", Some(10), Ok(()));
        assert_eq!(kv.get("a", Millis(9)).as_deref(), Some(&b"1"[..]));
        assert_eq!(kv.get("b", Millis(9)).as_deref(), Some(&b"2"[..]));
        assert_eq!(kv.get("b", Millis(10)), None);
        kv.remove("a");
        kv.remove("a");
        assert_eq!(kv.get("a", Millis(9)), None);
    }

    #[test]
    fn quotas_count_keys_and_bytes_and_expired_values_make_room() {
        let kv = Kv::default();
        check(&kv, 0, "12345", b"", None, Err(KvError::TooLarge));
        check(&kv, 0, "a", b"123456789", None, Err(KvError::TooLarge));
        check(&kv, 0, "a", b"12345678", Some(5), Ok(()));
        check(&kv, 0, "b", b"12345678", None, Ok(()));
        check(&kv, 0, "c", b"12", None, Err(KvError::QuotaExceeded));
        check(&kv, 0, "b", b"1", None, Ok(()));
        check(&kv, 0, "c", b"12", None, Ok(()));
        check(&kv, 0, "d", b"", None, Err(KvError::QuotaExceeded));
        check(&kv, 2_000, "d", b"", None, Ok(()));
    }
}
