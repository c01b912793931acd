//! Habits of the repository that no compiler checks: which way crates depend, module docs, links.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use rex_test_support::env::repository;

/// The files that git knows or would add, with this ending.
fn files(ending: &str) -> Vec<PathBuf> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
        .current_dir(repository())
        .output();
    let listed = match &output {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout),
        // A source tree without git: everything but what is built.
        _ => return walk(repository(), ending),
    };
    let names = listed.split('\0').filter(|name| name.ends_with(ending));
    names.map(|name| repository().join(name)).filter(|path| path.exists()).collect()
}

fn walk(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("it can be read") {
        let path = entry.expect("it can be read").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && name != "target" && name != "dist" {
            found.extend(walk(&path, ending));
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn shown(path: &Path) -> String {
    path.strip_prefix(repository()).unwrap_or(path).display().to_string()
}

/// Our packages, as cargo reads the manifests.
fn packages() -> Vec<serde_json::Value> {
    let metadata = Command::new("cargo")
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(repository())
        .output()
        .expect("cargo runs");
    assert!(metadata.status.success(), "{}", String::from_utf8_lossy(&metadata.stderr));
    let metadata: serde_json::Value =
        serde_json::from_slice(&metadata.stdout).expect("cargo prints JSON");
    metadata["packages"].as_array().expect("a list").clone()
}

/// Our crates that each of our crates needs to run, from the manifests.
fn dependencies() -> BTreeMap<String, Vec<String>> {
    let packages = packages().into_iter().map(|package| {
        let needs = package["dependencies"].as_array().expect("a list").iter();
        let needs = needs.filter(|needed| needed["kind"].is_null() && !needed["path"].is_null());
        let needs = needs.map(|needed| needed["name"].as_str().expect("a name").to_owned());
        (package["name"].as_str().expect("a name").to_owned(), needs.collect())
    });
    packages.collect()
}

#[test]
fn crates_depend_in_one_direction() {
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("rex-plugin-api", &[] as &[&str]),
        ("rex-htsql", &[]),
        ("rex-pg", &[]),
        ("rex-transport", &["rex-pg"]),
        ("rex-cron", &[]),
        ("rex-db", &["rex-htsql", "rex-pg"]),
        ("rex-yaml", &["rex-plugin-api"]),
        ("rex-deploy", &["rex-db", "rex-htsql", "rex-yaml"]),
        (
            "rex-host",
            &[
                "rex-plugin-api",
                "rex-transport",
                "rex-cron",
                "rex-db",
                "rex-deploy",
                "rex-htsql",
                "rex-yaml",
            ],
        ),
        ("rex-fixture-frozen-v1", &["rex-plugin-api-v1"]),
        ("rex-mart", &["rex-db", "rex-deploy", "rex-htsql", "rex-yaml"]),
        ("rex-plugin-mart", &["rex-plugin-api", "rex-mart", "rex-yaml"]),
    ]);
    for (package, needs) in dependencies() {
        if package == "rex-tests" || package == "rex-test-support" {
            continue;
        }
        let plugin: &[&str] = &["rex-plugin-api"];
        let allowed = allowed.get(package.as_str()).copied().unwrap_or(plugin);
        for needed in needs {
            assert!(allowed.contains(&needed.as_str()), "{package} must not depend on {needed}");
        }
    }
}

#[test]
fn make_bench_runs_every_bench() {
    let makefile = read(&repository().join("Makefile"));
    let bench = makefile.lines().find(|line| line.starts_with("bench:")).expect("a target");
    for package in packages() {
        let mut targets = package["targets"].as_array().expect("a list").iter();
        let name = package["name"].as_str().expect("a name");
        let is_run = bench.contains("--workspace") || bench.contains(&format!("--package {name}"));
        let has_bench = targets.any(|target| target["kind"] == serde_json::json!(["bench"]));
        assert!(is_run || !has_bench, "make bench leaves out {name}");
    }
}

#[test]
fn only_the_boundary_names_abi_stable() {
    for file in files(".rs") {
        let name = shown(&file);
        let may = name == "plugin-api/src/abi.rs" || name.split('/').any(|part| part == "tests");
        let text = read(&file);
        let names = text.lines().any(|line| {
            let line = line.trim_start();
            !line.starts_with("//") && line.contains("abi_stable")
        });
        assert!(may || !names, "{name} names abi_stable; only plugin-api/src/abi.rs may");
    }
}

#[test]
fn every_module_says_what_it_is_for() {
    let code = files(".rs").into_iter().filter(|file| !shown(file).starts_with("tests/frozen/"));
    let silent: Vec<String> =
        code.filter(|file| !read(file).starts_with("//!")).map(|file| shown(&file)).collect();
    assert!(silent.is_empty(), "without `//!` at the top: {silent:?}");
}

#[test]
fn no_module_is_a_drawer() {
    let drawers = ["utils.rs", "util.rs", "helpers.rs", "common.rs", "misc.rs"];
    for file in files(".rs") {
        let name = file.file_name().expect("a file has a name").to_string_lossy();
        assert!(!drawers.contains(&&*name), "{}: name what it does", shown(&file));
    }
}

#[test]
fn links_between_pages_resolve() {
    for page in files(".md") {
        let text = read(&page);
        for (at, _) in text.match_indices("](") {
            let link = text[at + 2..].split([')', ' ']).next().unwrap_or_default();
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let target = if path.is_empty() {
                page.clone()
            } else {
                page.parent().expect("a page is in a folder").join(path)
            };
            assert!(target.exists(), "{} links to {link}, which is not there", shown(&page));
            if !anchor.is_empty() && target.is_file() {
                let heads = read(&target);
                let mut heads = heads.lines().filter(|line| line.starts_with('#'));
                assert!(
                    heads.any(|head| anchor_of(head) == anchor),
                    "{} links to {link}: no such heading",
                    shown(&page)
                );
            }
        }
    }
}

fn anchor_of(head: &str) -> String {
    let head = head.trim_start_matches('#').trim().to_lowercase();
    let kept = head.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn nothing_names_the_machine_it_was_made_on() {
    // In parts, so that this file passes its own test.
    let words = [["/wo", "rk/"].concat(), ["/ro", "ot/"].concat(), ["/ho", "me/"].concat()];
    for ending in [".rs", ".md", ".toml", ".yaml", "Makefile", "run", "demo", "dist"] {
        for file in files(ending).into_iter().filter(|file| file.is_file()) {
            let text = read(&file);
            for (number, line) in text.lines().enumerate() {
                let word = words.iter().find(|word| line.contains(word.as_str()));
                assert!(word.is_none(), "{}:{}: {line}", shown(&file), number + 1);
            }
        }
    }
}
