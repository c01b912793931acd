//! End-to-end tests through the built tree, in one binary. One module a question; `tidy` asks the
//! repository itself.

mod bad_input;
mod commands;
mod crash_table;
mod crashing;
mod delivery;
mod deploy;
mod job_commands;
mod job_hosts;
mod job_locks;
mod job_queues;
mod job_submits;
mod jobs;
mod mart_crashes;
mod marts;
mod outage;
mod plugin_commands;
mod query;
mod readme;
mod refusals;
mod reload;
mod schedules;
mod seed_asynctask;
mod sharing;
mod shop;
mod store;
mod supervision;
mod tidy;
mod transports;
mod work;

/// A file that nobody lists is a test that nobody runs.
#[test]
fn every_file_is_a_module() {
    let listed = include_str!("main.rs");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/it");
    for entry in std::fs::read_dir(folder).expect("the sources are here") {
        let name = entry.expect("it can be read").file_name().into_string().expect("UTF-8");
        if let Some(module) = name.strip_suffix(".rs").filter(|module| *module != "main") {
            assert!(
                listed.contains(&format!("\nmod {module};")),
                "{name} is not listed in main.rs"
            );
        }
    }
}
