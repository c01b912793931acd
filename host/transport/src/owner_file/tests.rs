//! Whose file it is, and whether that host is dead.

use std::time::Duration;

use super::{Judge, OwnerFile, file_name, open_or_make, owner_id};

#[test]
fn who_wakes_and_registers_again_is_not_buried() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("owner");
    let stopped = OwnerFile::create(path.clone(), open_or_make).unwrap();
    stopped.beat();
    let proof = Judge::default().proof_of_death(&path, Duration::ZERO).expect("it is silent");
    stopped.remove();
    drop(stopped);
    let woken = OwnerFile::create(path.clone(), open_or_make).unwrap();
    proof.bury(&path);
    assert!(woken.is_in_place());
    woken.beat();
    let proof = Judge::default().proof_of_death(&path, Duration::ZERO).expect("it is silent");
    proof.bury(&path);
    assert!(!woken.is_in_place());
}

#[test]
fn who_wakes_between_judgement_and_fence_lives() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("owner");
    let stopped = OwnerFile::create(path.clone(), open_or_make).unwrap();
    stopped.beat();
    let proof = Judge::default().proof_of_death(&path, Duration::ZERO).expect("it is silent");
    stopped.beat();
    assert!(!proof.fence(&path));
    assert!(stopped.is_in_place());
    let proof = Judge::default().proof_of_death(&path, Duration::ZERO).expect("it is silent");
    assert!(proof.fence(&path));
    assert!(!stopped.is_in_place());
}

#[test]
fn ids_are_file_names_and_back() {
    for id in ["host:12:99", "a/../b", "", "é_x", ".."] {
        let name = file_name(id);
        assert!(!name.contains('/') && name != "..", "{name}");
        assert_eq!(owner_id(&name).as_deref(), Some(id));
    }
    assert_eq!(owner_id("README"), None);
}
