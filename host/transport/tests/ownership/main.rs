//! The protocol of claims in PostgreSQL as a simulation: hosts that are interleaved at random, crash,
//! are stopped, lose their connections and the store itself. The rules are the real ones
//! (`rex_transport::ownership`), the store's transactions are modelled in `world.rs`. The same
//! simulation finds what breaks when a rule is taken out.

mod world;

use std::time::{SystemTime, UNIX_EPOCH};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

use world::{HOSTS, Rules, Step, World};

fn step() -> impl Strategy<Value = Step> {
    let host = 0..HOSTS;
    prop_oneof![
        12 => (1_u64..12).prop_map(Step::Wait),
        2 => (12_u64..90).prop_map(Step::Wait),
        50 => host.clone().prop_map(Step::Work),
        4 => host.clone().prop_map(Step::Break),
        2 => host.clone().prop_map(Step::Cut),
        4 => host.clone().prop_map(Step::Heal),
        2 => host.clone().prop_map(Step::Stop),
        4 => host.clone().prop_map(Step::Continue),
        2 => host.clone().prop_map(Step::Crash),
        4 => host.prop_map(Step::Boot),
        1 => Just(Step::StoreDown),
        4 => Just(Step::StoreUp),
    ]
}

/// Tries many interleavings; the shortest that breaks a promise, with what it breaks.
fn explore(rules: Rules, seed: u64, cases: u32) -> Result<(), String> {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let run = runner
        .run(&vec(step(), 0..250), |steps| World::run(rules, &steps).map_err(TestCaseError::fail));
    match run {
        Ok(()) => Ok(()),
        Err(TestError::Fail(reason, steps)) => Err(format!("seed {seed}: {reason}: {steps:?}")),
        Err(TestError::Abort(reason)) => panic!("seed {seed}: {reason}"),
    }
}

#[test]
fn nothing_is_lost_and_nothing_doubled_without_need() {
    let drawn = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is set");
    let seed = match std::env::var("SEED") {
        Ok(seed) => seed.parse().expect("SEED is a number"),
        Err(_) => u64::from(drawn.subsec_nanos()),
    };
    if let Err(found) = explore(Rules::default(), seed, 3000) {
        panic!("{found}");
    }
}

#[track_caller]
fn is_found(rules: Rules, what: &str) {
    let found = explore(rules, 1, 20_000).expect_err("it must be found");
    assert!(found.contains(what), "{found}");
}

#[test]
fn without_the_fence_a_doubled_outcome_is_found() {
    is_found(Rules { fence: false, ..Rules::default() }, "was recorded 2 times");
}

#[test]
fn without_the_grace_a_healthy_host_is_robbed() {
    is_found(Rules { grace: false, ..Rules::default() }, "was taken for dead");
}

#[test]
fn without_the_lease_a_start_of_what_others_have_is_found() {
    is_found(Rules { lease: false, ..Rules::default() }, "which is not its own");
}

#[test]
fn without_a_rescue_a_loss_is_found() {
    is_found(Rules { rescue: false, ..Rules::default() }, "is lost");
}
