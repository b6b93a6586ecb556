//! Every bound of the store, with its unit in its name.
//! What must not live here: anything that enforces one.

/// Bytes of the name of a principal or a role.
pub const NAME_BYTES_MAX: usize = 256;

/// Bytes of a tenant's or plugin's name: a DNS label, since it may come from SNI.
pub const LABEL_BYTES_MAX: usize = 63;

/// Roles of one principal.
pub const ROLES_PER_PRINCIPAL_MAX: usize = 64;

/// Bytes of one plugin's configuration, hooks or grants as JSON.
pub const PLUGIN_JSON_BYTES_MAX: usize = 1 << 20;

/// Secrets of one principal that are tried at a login; two overlap during a rotation.
pub const CREDENTIALS_PER_PRINCIPAL_MAX: usize = 2;

/// Connections that read `directory.db` at the same time.
pub const READERS_MAX: u32 = 4;

/// How long a reader or writer waits for its turn before it reports the file as locked.
pub const DATABASE_WAIT_SECONDS: u64 = 5;

/// Bytes of a password: what an MQTT binary data field can hold [MQTT 1.5.6].
pub const PASSWORD_BYTES_MAX: usize = 65_535;

/// Bytes of a stored password hash.
pub const PHC_BYTES_MAX: usize = 1_024;

/// Argon2 memory of a new hash, in KiB (19 MiB, OWASP's first choice together with two passes).
pub const HASH_MEMORY_KIB: u32 = 19_456;

/// Argon2 passes of a new hash.
pub const HASH_PASSES: u32 = 2;

/// Argon2 memory of a stored hash that is verified at most, in KiB.
pub const HASH_MEMORY_KIB_MAX: u32 = 65_536;

/// Argon2 passes of a stored hash that is verified at most.
pub const HASH_PASSES_MAX: u32 = 16;

/// Argon2 lanes of a stored hash that is verified at most.
pub const HASH_LANES_MAX: u32 = 16;

/// Argon2 memory times passes of a stored hash that is verified at most, in KiB: about 0.3 s.
pub const HASH_WORK_KIB_MAX: u32 = 262_144;

/// Logins that wait for a hashing thread, by default.
pub const HASH_QUEUE_MAX: usize = 256;

/// Places in the queue beyond that which only new hashes may take: a login storm must not keep an
/// operator from changing a password.
pub const HASH_QUEUE_RESERVED: usize = 8;

/// How long one hash may take, waiting included.
pub const HASH_DEADLINE_MILLISECONDS: u64 = 5_000;

/// Good logins that are remembered. Each takes about 40 bytes.
pub const LOGINS_REMEMBERED_MAX: usize = 131_072;

/// Failed logins that are remembered.
pub const FAILURES_REMEMBERED_MAX: usize = 4_096;
