//! The original's command lines, good and bad.

use super::*;

fn read(line: &str) -> Result<Line, Error> {
    parse(&line.split(' ').filter(|word| !word.is_empty()).map(String::from).collect::<Vec<_>>())
}

#[track_caller]
fn refused(line: &str, expect: &str) {
    assert_eq!(read(line).expect_err(line).to_string(), expect, "{line}");
}

#[test]
fn settings_and_options_are_told_apart() {
    let line = read(
        "@other --debug asynctask_workers rex.asynctask_demo --Halt_When-Empty --set=a=b=c \
         --set x --require r -q --quiet --project p --set y=",
    )
    .unwrap();
    assert_eq!(line.instance.as_deref(), Some("other"));
    assert_eq!(line.task.map(|task| task.name), Some("asynctask-workers"));
    assert_eq!(line.arguments, [Some("rex.asynctask_demo".to_owned())]);
    assert!(line.has("halt-when-empty") && line.has("quiet") && !line.has("scheduler"));
    assert_eq!(line.values("set").collect::<Vec<_>>(), ["a=b=c", "x", "y="]);
    assert_eq!(line.values("require").collect::<Vec<_>>(), ["r"]);
    assert_eq!(
        serde_json::to_string(&line.globals).unwrap(),
        r#"{"debug":true,"project":"p","quiet":true}"#
    );
    // `--quiet` is the setting, and only `-q` the option.
    assert!(!read("asynctask-workers --quiet").unwrap().has("quiet"));
}

#[test]
fn dashes_end_options_and_stand_for_nothing() {
    let line = read("asynctask-workers -- --odd-project").unwrap();
    assert_eq!(line.arguments, [Some("--odd-project".to_owned())]);
    assert_eq!(read("asynctask-workers -").unwrap().arguments, [None]);
    assert_eq!(read("--state /s").unwrap().globals["state"], "/s");
    assert!(read("").unwrap().task.is_none());
}

#[test]
fn mistakes_are_named_as_typed() {
    refused("--nope", "unknown option or setting --nope");
    refused("--scheduler asynctask-workers", "unknown option or setting --scheduler");
    refused("asynctask-workers --No_pe=1", "unknown option or setting --No_pe");
    refused("-q asynctask-workers", "unknown option -q");
    refused("asynctask-workers -qx", "unknown option -x");
    refused("asynctask-workers -qq", "duplicate option -q");
    refused("asynctask-workers --require", "missing value for option --require");
    refused("asynctask-workers --project", "missing value for setting --project");
    refused("--quiet=1", "unexpected value for toggle setting --quiet");
    refused("asynctask-workers --scheduler=1", "unexpected value for a toggle option --scheduler");
    refused("asynctask-workers --scheduler --SCHEDULER", "duplicate option --SCHEDULER");
    refused("asynctask-workers a b", "too many arguments for task asynctask-workers");
    refused(
        "asynctask-workers --set =x",
        "invalid value for option --set: \nExpected a string matching:\n    \
         /[0-9A-Za-z_-]+(=.*)?/\nGot:\n    '=x'",
    );
}

#[test]
fn no_words_make_it_panic() {
    let pieces = [
        "-",
        "--",
        "=",
        "@",
        "q",
        "set",
        "a=b",
        "asynctask-workers",
        "help",
        "é",
        "--set",
        "--quiet",
        "-q",
        "",
        " ",
        "--project",
        "_",
        "\u{0}",
    ];
    let mut state = 0x1234_5678_9abc_def1_u64;
    for _ in 0..20_000 {
        let mut words = vec![String::new()];
        for _ in 0..8 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            if state >> 60 < 6 {
                words.push(String::new());
            }
            let piece = pieces[(state % pieces.len() as u64) as usize];
            words.last_mut().unwrap().push_str(piece);
        }
        let _ = parse(&words);
    }
}
