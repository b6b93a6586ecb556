//! Making, locking and finding a broker's directory.
//! What must not live here: the contents of its files.

use super::*;

async fn fill(staging: Layout) -> anyhow::Result<()> {
    write_private(&staging.broker_toml(), b"")?;
    write_private(&staging.secret_key(), b"k")?;
    Ok(())
}

#[track_caller]
fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// The text and the hint.
#[track_caller]
fn refusal<T: std::fmt::Debug>(result: anyhow::Result<T>) -> String {
    result.unwrap_err().to_string()
}

#[tokio::test]
async fn a_created_directory_is_private_and_complete() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("a/b");
    let (instance, ()) = Instance::create(&directory, fill).await.unwrap();
    assert_eq!(mode(&directory), 0o700);
    for file in [instance.layout.broker_toml(), instance.layout.lock()] {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    assert!(!directory.join(STAGING).exists());
}

#[tokio::test]
async fn a_failed_create_leaves_nothing() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("a");
    let fails = async |staging: Layout| {
        fill(staging).await?;
        Err::<(), _>(anyhow::anyhow!("disk full"))
    };
    assert_eq!(refusal(Instance::create(&directory, fails).await), "disk full");
    assert!(!directory.exists());
    fs::create_dir(&directory).unwrap();
    assert_eq!(refusal(Instance::create(&directory, fails).await), "disk full");
    assert!(directory.exists(), "it was there before");
    Instance::create(&directory, fill).await.unwrap();
}

#[tokio::test]
async fn an_existing_directory_must_be_empty() {
    let parent = tempfile::tempdir().unwrap();
    fs::create_dir(parent.path().join(STAGING)).unwrap();
    drop(Instance::create(parent.path(), fill).await.unwrap());
    let again = refusal(Instance::create(parent.path(), fill).await);
    assert!(again.ends_with("is a broker's directory already"), "{again}");
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("letter.txt"), "dear").unwrap();
    let full = refusal(Instance::create(other.path(), fill).await);
    assert!(full.ends_with("is not empty: there is letter.txt in it"), "{full}");
    let file = refusal(Instance::create(&other.path().join("letter.txt"), fill).await);
    assert!(file.ends_with("letter.txt is not a directory"), "{file}");
}

#[tokio::test]
async fn a_broker_that_holds_the_lock_is_named() {
    let parent = tempfile::tempdir().unwrap();
    let (mut instance, ()) = Instance::create(parent.path(), fill).await.unwrap();
    instance.become_broker().unwrap();
    let pid = Some(std::process::id());
    assert_eq!(probe(&instance.layout).unwrap(), LockState::Broker(pid));
    for holder in [Holder::Broker, Holder::Command] {
        let refused = Instance::open(parent.path(), holder).unwrap_err();
        assert!(
            matches!(refused, InstanceError::LockedByBroker { pid: holder, .. } if holder == pid),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn a_lock_is_free_when_its_holder_is_gone() {
    let parent = tempfile::tempdir().unwrap();
    let (mut instance, ()) = Instance::create(parent.path(), fill).await.unwrap();
    instance.become_broker().unwrap();
    drop(instance);
    let text = fs::read_to_string(Layout::new(parent.path()).lock()).unwrap();
    assert!(text.starts_with("broker "), "the name stays, as after a kill: {text}");
    assert_eq!(probe(&Layout::new(parent.path())).unwrap(), LockState::Free);
    Instance::open(parent.path(), Holder::Broker).unwrap();
}

#[tokio::test]
async fn a_command_waits_for_another_to_finish() {
    let parent = tempfile::tempdir().unwrap();
    let (first, ()) = Instance::create(parent.path(), fill).await.unwrap();
    let path = parent.path().to_owned();
    let second = std::thread::spawn(move || Instance::open(&path, Holder::Command).is_ok());
    drop(first);
    assert!(second.join().unwrap());
}

#[test]
fn what_is_no_brokers_directory_is_told() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("file");
    fs::write(&file, "").unwrap();
    let check = |path: &Path, text: String, hint: Option<String>| {
        let error = probe(&Layout::new(path)).unwrap_err();
        assert_eq!((error.to_string(), error.hint()), (text, hint));
    };
    let shown = parent.path().display();
    check(&file, format!("{shown}/file is not a directory"), None);
    check(
        &parent.path().join("none"),
        format!("there is no directory {shown}/none"),
        Some(format!("make one: wasmqtt create {shown}/none")),
    );
    check(
        parent.path(),
        format!("{shown} is not a broker's directory: it has no broker.toml"),
        Some(format!("make one: wasmqtt create {shown}")),
    );
}
