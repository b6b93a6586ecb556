//! Password hashes as they are stored (PHC strings of Argon2id), and passwords made up by us.
//! What must not live here: who computes a hash when, see `hash_pool`.

use std::fmt;

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash as Phc, Salt};
use argon2::{ARGON2ID_IDENT, Algorithm, Argon2, Block, Params, Version};
use subtle::ConstantTimeEq as _;

use crate::error::StoreError;
use crate::limits::{
    HASH_LANES_MAX, HASH_MEMORY_KIB, HASH_MEMORY_KIB_MAX, HASH_PASSES, HASH_PASSES_MAX,
    HASH_WORK_KIB_MAX, PHC_BYTES_MAX,
};

/// Bytes of a new salt.
const SALT_BYTES: usize = 16;
/// Bytes of a new hash; a stored one has as many or more up to 64.
const OUTPUT_BYTES: usize = 32;
/// Shorter stored hashes are refused: they would accept wrong passwords too often.
const OUTPUT_BYTES_MIN: usize = 16;

/// Why a stored hash cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadHash {
    /// Not in the form `$id$v=..$params$salt$hash`.
    #[error("it is not a PHC string")]
    NotPhc,
    /// Another algorithm or version than Argon2id 1.3.
    #[error("it is not of Argon2id version 19")]
    Algorithm,
    /// Costs that nobody verifies: a hostile hash could take memory and time without end.
    #[error(
        "its costs are out of bounds (at most {HASH_MEMORY_KIB_MAX} KiB, {HASH_PASSES_MAX} passes, \
         {HASH_LANES_MAX} lanes, memory x passes {HASH_WORK_KIB_MAX} KiB)"
    )]
    Costs,
    /// No salt, no hash, or a hash of less than 16 bytes.
    #[error("its salt or hash is missing or too short")]
    Short,
}

/// The hash of a password as a PHC string that [`PasswordHash::parse`] accepts. Not shown by
/// `Debug`: it is enough for an offline attack.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// Takes a PHC string of Argon2id whose costs are within `limits::HASH_*_MAX`.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(phc: &str) -> Result<Self, BadHash> {
        Recipe::parse(phc).map(|_| Self(phc.to_owned()))
    }

    /// The PHC string.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A hash that no password is known for and that costs as much to verify as a new one.
    pub(crate) fn dummy() -> Result<Self, StoreError> {
        let mut random = [0; SALT_BYTES + OUTPUT_BYTES];
        fill_random(&mut random)?;
        let (salt, output) = random.split_at(SALT_BYTES);
        let bad = |_| StoreError::Random { detail: "unusable salt".to_owned() };
        let params = new_params();
        let phc = Phc {
            algorithm: ARGON2ID_IDENT,
            version: Some(Version::V0x13.into()),
            params: ParamsString::try_from(&params)
                .map_err(|_| StoreError::Random { detail: "unusable costs".to_owned() })?,
            salt: Some(Salt::new(salt).map_err(bad)?),
            hash: Some(Output::new(output).map_err(bad)?),
        };
        Ok(Self(phc.to_string()))
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(..)")
    }
}

/// A PHC string taken apart: all that is needed to verify a password.
pub(crate) struct Recipe {
    params: Params,
    salt: Salt,
    output: Output,
}

impl Recipe {
    pub(crate) fn parse(phc: &str) -> Result<Self, BadHash> {
        if phc.len() > PHC_BYTES_MAX {
            return Err(BadHash::NotPhc);
        }
        let phc = Phc::new(phc).map_err(|_| BadHash::NotPhc)?;
        if phc.algorithm != ARGON2ID_IDENT || phc.version != Some(Version::V0x13.into()) {
            return Err(BadHash::Algorithm);
        }
        let (Some(salt), Some(output)) = (phc.salt, phc.hash) else {
            return Err(BadHash::Short);
        };
        if output.len() < OUTPUT_BYTES_MIN {
            return Err(BadHash::Short);
        }
        let params = Params::try_from(&phc).map_err(|_| BadHash::Costs)?;
        let (memory_kib, passes) = (params.m_cost(), params.t_cost());
        if memory_kib > HASH_MEMORY_KIB_MAX
            || passes > HASH_PASSES_MAX
            || params.p_cost() > HASH_LANES_MAX
            || memory_kib.saturating_mul(passes) > HASH_WORK_KIB_MAX
        {
            return Err(BadHash::Costs);
        }
        Ok(Self { params, salt, output })
    }

    /// Whether `password` is the one, compared in constant time.
    pub(crate) fn verify(self, password: &[u8], memory: &mut Memory) -> Result<bool, BadHash> {
        let mut output = [0; Output::MAX_LENGTH];
        let output = &mut output[..self.output.len()];
        memory
            .run(self.params, password, self.salt.as_ref(), output)
            .map_err(|_| BadHash::Costs)?;
        Ok((*output).ct_eq(self.output.as_bytes()).into())
    }
}

/// The working memory of one hashing thread, reused from hash to hash: fresh pages would cost
/// half as much again as the hash itself.
pub(crate) struct Memory {
    blocks: Vec<Block>,
}

impl Memory {
    /// Memory for the costs of a new hash.
    pub(crate) fn new() -> Self {
        Self { blocks: vec![Block::new(); new_params().block_count()] }
    }

    fn run(
        &mut self,
        params: Params,
        password: &[u8],
        salt: &[u8],
        output: &mut [u8],
    ) -> Result<(), argon2::Error> {
        let blocks = params.block_count();
        let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        if blocks > self.blocks.len() {
            // A stored hash with higher costs: its memory goes back when it is done.
            return hasher.hash_password_into(password, salt, output);
        }
        hasher.hash_password_into_with_memory(password, salt, output, &mut self.blocks[..blocks])
    }
}

/// Hashes a new password with a new salt.
pub(crate) fn hash(password: &[u8], memory: &mut Memory) -> Result<PasswordHash, HashFailed> {
    let params = new_params();
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt).map_err(|error| HashFailed(error.to_string()))?;
    let failed = |error: &dyn fmt::Display| HashFailed(error.to_string());
    let mut output = [0; OUTPUT_BYTES];
    let phc_params = ParamsString::try_from(&params).map_err(|error| failed(&error))?;
    memory.run(params, password, &salt, &mut output).map_err(|error| failed(&error))?;
    let phc = Phc {
        algorithm: ARGON2ID_IDENT,
        version: Some(Version::V0x13.into()),
        params: phc_params,
        salt: Some(Salt::new(&salt).map_err(|error| failed(&error))?),
        hash: Some(Output::new(&output).map_err(|error| failed(&error))?),
    };
    Ok(PasswordHash(phc.to_string()))
}

/// Why no hash came out, in the words of the cause.
#[derive(Debug)]
pub(crate) struct HashFailed(pub(crate) String);

fn new_params() -> Params {
    Params::new(HASH_MEMORY_KIB, HASH_PASSES, 1, None).expect("constants within Argon2's bounds")
}

/// Makes up a password to hand to a person: 125 random bits as five groups of five of Crockford's
/// 32 characters, which lack `i l o u`, so that nothing read aloud or copied by hand is ambiguous.
///
/// # Errors
/// [`StoreError::Random`] when the system gives no random numbers.
pub fn generate_password() -> Result<String, StoreError> {
    const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    const GROUPS: usize = 5;
    const GROUP_CHARACTERS: usize = 5;
    let mut random = [0; GROUPS * GROUP_CHARACTERS];
    fill_random(&mut random)?;
    let mut password = String::with_capacity(random.len() + GROUPS);
    for (at, byte) in random.iter().enumerate() {
        if at > 0 && at % GROUP_CHARACTERS == 0 {
            password.push('-');
        }
        // The lower five bits: every character is as likely as any other.
        password.push(char::from(ALPHABET[usize::from(byte & 31)]));
    }
    Ok(password)
}

/// Fills `bytes` from the system's source.
pub(crate) fn fill_random(bytes: &mut [u8]) -> Result<(), StoreError> {
    getrandom::fill(bytes).map_err(|error| StoreError::Random { detail: error.to_string() })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{BadHash, Memory, PasswordHash, Recipe, generate_password, hash};

    #[track_caller]
    fn check(phc: &str, expected: Result<(), BadHash>) {
        assert_eq!(PasswordHash::parse(phc).map(|_| ()), expected, "{phc}");
    }

    const TAIL: &str = "c2FsdHNhbHRzYWx0$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    #[test]
    fn a_stored_hash_is_taken_only_with_bearable_costs() {
        let with = |costs: &str| format!("$argon2id$v=19${costs}${TAIL}");
        check(&with("m=19456,t=2,p=1"), Ok(()));
        check(&with("m=65536,t=4,p=4"), Ok(()));
        check(&with("m=4194304,t=1,p=1"), Err(BadHash::Costs));
        check(&with("m=65536,t=5,p=1"), Err(BadHash::Costs));
        check(&with("m=64,t=4294967295,p=1"), Err(BadHash::Costs));
        check(&with("m=65536,t=1,p=64"), Err(BadHash::Costs));
        check(&with("m=1,t=1,p=1"), Err(BadHash::Costs));
    }

    #[test]
    fn a_stored_hash_of_anything_else_is_refused() {
        check("", Err(BadHash::NotPhc));
        check("secret", Err(BadHash::NotPhc));
        check(&"$".repeat(2000), Err(BadHash::NotPhc));
        check(&format!("$argon2i$v=19$m=19456,t=2,p=1${TAIL}"), Err(BadHash::Algorithm));
        check(&format!("$argon2id$v=16$m=19456,t=2,p=1${TAIL}"), Err(BadHash::Algorithm));
        check(&format!("$argon2id$m=19456,t=2,p=1${TAIL}"), Err(BadHash::Algorithm));
        check("$argon2id$v=19$m=19456,t=2,p=1", Err(BadHash::Short));
        check("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0", Err(BadHash::Short));
        let ten_bytes = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$AAAAAAAAAAAAAA";
        check(ten_bytes, Err(BadHash::Short));
    }

    #[test]
    fn a_hash_of_the_reference_implementation_verifies() {
        // From src/test.c of the reference implementation, phc-winner-argon2: costs other than ours
        // and more memory than a thread has of its own.
        let phc = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ\
                   $CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        let mut memory = Memory::new();
        let verify = |password: &[u8], memory: &mut Memory| {
            Recipe::parse(phc).unwrap().verify(password, memory)
        };
        assert_eq!(verify(b"password", &mut memory), Ok(true));
        assert_eq!(verify(b"Password", &mut memory), Ok(false));
    }

    #[test]
    fn reused_memory_does_not_change_a_verdict() {
        let mut memory = Memory::new();
        let first = hash(b"one", &mut memory).unwrap();
        let second = hash(b"two", &mut memory).unwrap();
        assert_ne!(first, hash(b"one", &mut memory).unwrap(), "a new salt each time");
        for (phc, password, expected) in
            [(&first, "one", true), (&second, "one", false), (&second, "two", true)]
        {
            let recipe = Recipe::parse(phc.as_str()).unwrap();
            assert_eq!(recipe.verify(password.as_bytes(), &mut memory), Ok(expected));
        }
        assert_eq!(format!("{first:?}"), "PasswordHash(..)");
    }

    #[test]
    fn the_dummy_hash_costs_what_a_new_one_costs() {
        let mut memory = Memory::new();
        let dummy = PasswordHash::dummy().unwrap();
        let real = hash(b"x", &mut memory).unwrap();
        let costs = |phc: &PasswordHash| phc.as_str().split('$').nth(3).map(str::to_owned);
        assert_eq!(costs(&dummy), costs(&real));
        assert_eq!(dummy.as_str().len(), real.as_str().len());
        assert_eq!(Recipe::parse(dummy.as_str()).unwrap().verify(b"", &mut memory), Ok(false));
    }

    #[test]
    fn made_up_passwords_are_readable_and_never_the_same() {
        let passwords: HashSet<_> = (0..1000).map(|_| generate_password().unwrap()).collect();
        assert_eq!(passwords.len(), 1000);
        for password in passwords {
            assert_eq!(password.split('-').map(str::len).collect::<Vec<_>>(), [5; 5]);
            assert!(!password.contains(['i', 'l', 'o', 'u', 'I', 'O']), "{password}");
        }
    }
}
