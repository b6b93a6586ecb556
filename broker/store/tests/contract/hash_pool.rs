//! The hashing threads: right answers, bounded queue, deadline, end.
//! What must not live here: users.

use std::sync::Arc;
use std::time::Duration;

use wasmqtt_store::{BadHash, HashPool, HashPoolError};

#[tokio::test]
async fn a_password_fits_its_own_hash_only() {
    let pool = HashPool::new(1, 8).unwrap();
    let hash = pool.hash(b"correct horse").await.unwrap();
    assert!(hash.as_str().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", hash.as_str());
    assert_eq!(pool.verify(hash.as_str(), b"correct horse").await, Ok(true));
    for wrong in [&b"correct horse "[..], b"", b"Correct horse", &[0; 65_535]] {
        assert_eq!(pool.verify(hash.as_str(), wrong).await, Ok(false));
    }
    assert_eq!(pool.hashes(), 6);
}

#[tokio::test]
async fn what_cannot_be_hashed_costs_nothing() {
    let pool = HashPool::new(1, 8).unwrap();
    let long = vec![b'x'; 65_536];
    let too_long = HashPoolError::TooLong { bytes: 65_536 };
    assert_eq!(pool.hash(&long).await, Err(too_long));
    let hostile =
        "$argon2id$v=19$m=4194304,t=3,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
    assert_eq!(pool.verify(hostile, b"x").await, Err(HashPoolError::BadHash(BadHash::Costs)));
    assert_eq!(pool.hashes(), 0);
}

#[tokio::test]
async fn beyond_the_queue_the_answer_is_busy_but_a_new_hash_still_gets_in() {
    let pool = HashPool::new(1, 4).unwrap().with_deadline(Duration::from_secs(60));
    let pool = Arc::new(pool);
    let phc = pool.hash(b"x").await.unwrap();
    let verify = || {
        let (pool, phc) = (Arc::clone(&pool), phc.clone());
        tokio::spawn(async move { pool.verify(phc.as_str(), b"x").await })
    };
    let logins: Vec<_> = (0..50).map(|_| verify()).collect();
    // This thread runs one task after the other: with the first answer all have been asked.
    let mut verdicts = Vec::new();
    let mut hash = None;
    for login in logins {
        verdicts.push(login.await.unwrap());
        if hash.is_none() {
            let pool = Arc::clone(&pool);
            hash = Some(tokio::spawn(async move { pool.hash(b"y").await }));
        }
    }
    let busy = verdicts.iter().filter(|verdict| **verdict == Err(HashPoolError::Busy)).count();
    let right = verdicts.iter().filter(|verdict| **verdict == Ok(true)).count();
    assert_eq!(busy + right, 50);
    // The thread may have taken some from the queue while the others were asked.
    assert!((4..50).contains(&right), "{right} of 50 with four places");
    assert!(hash.unwrap().await.unwrap().is_ok());
}

#[tokio::test]
async fn what_takes_too_long_is_given_up_and_not_hashed_later() {
    let pool = HashPool::new(1, 8).unwrap();
    let phc = pool.hash(b"x").await.unwrap();
    let pool = pool.with_deadline(Duration::ZERO);
    for _ in 0..20 {
        assert_eq!(pool.verify(phc.as_str(), b"x").await, Err(HashPoolError::Deadline));
    }
    // Eight places and twenty requests: the given up ones made room. At most the one that the
    // thread had begun was computed each time it looked.
    let pool = pool.with_deadline(Duration::from_secs(60));
    assert_eq!(pool.verify(phc.as_str(), b"x").await, Ok(true));
    assert!(pool.hashes() < 21, "{} hashes", pool.hashes());
}
