//! Two years of schedules, with four changes of the clock, against APScheduler.

use std::io::Write;
use std::process::{Command, Stdio};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rex_cron::{Cron, Field};
use serde_json::{Map, Value, json};

/// A Python that has APScheduler.
fn python() -> Option<String> {
    let named = std::env::var("REX_ORACLE_PYTHON").ok();
    let candidates = named.into_iter().chain(["python3".to_owned(), "/usr/bin/python3".to_owned()]);
    let mut able = candidates.filter(|python| {
        let asked = Command::new(python)
            .args(["-c", "import apscheduler, zoneinfo"])
            .stderr(Stdio::null())
            .status();
        asked.is_ok_and(|status| status.success())
    });
    able.next()
}

/// The same numbers on every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    fn expression(&mut self, field: Field) -> String {
        let (low, high) = match field {
            Field::Year => (2025, 2028),
            Field::Month => (1, 12),
            Field::Day => (1, 31),
            Field::Week => (1, 53),
            Field::DayOfWeek => (0, 6),
            Field::Hour => (0, 23),
            Field::Minute | Field::Second => (0, 59),
        };
        let a = low + self.below(high - low);
        let b = a + 1 + self.below(high - a);
        let step = 1 + self.below(b - a);
        let names = |names: &str, n: u64| {
            names.split(' ').nth(n as usize).expect("the case is right").to_owned()
        };
        match (self.below(7), field) {
            (0, _) => format!("{a}-{b}"),
            (1, _) => format!("{a}-{b}/{step}"),
            (2, Field::Year) => "*".to_owned(),
            (2, _) => format!("*/{}", 1 + self.below((high - low) / 2 + 1)),
            (3, _) => format!("{a}/{}", 1 + self.below(high - a)),
            (4, Field::Day) => "last".to_owned(),
            (4, Field::Month) => names("jan feb mar apr may jun jul aug sep oct nov dec", a - 1),
            (5, Field::Day) => {
                let nth = names("1st 2nd 3rd 4th 5th last", self.below(6));
                format!("{nth} {}", names("mon tue wed thu fri sat sun", self.below(7)))
            }
            (4 | 5, Field::DayOfWeek) => names("mon-wed sat sun tue,thu mon-fri Fri fri-sun", a),
            (6, _) => format!("{a},{b}"),
            _ => a.to_string(),
        }
    }
}

struct Case {
    fields: Vec<(Field, String)>,
    zone: &'static str,
    from: i64,
    until: i64,
}

impl Case {
    fn question(&self) -> Value {
        let fields: Map<String, Value> = self
            .fields
            .iter()
            .map(|(field, text)| (field.name().to_owned(), json!(text)))
            .collect();
        json!({"fields": fields, "zone": self.zone, "from": self.from, "until": self.until})
    }

    fn answer(&self) -> Vec<i64> {
        let given: Vec<(Field, &str)> =
            self.fields.iter().map(|(field, text)| (*field, text.as_str())).collect();
        let cron = Cron::parse(&given).expect("the case is right");
        let zone = TimeZone::get(self.zone).expect("the case is right");
        let moment = |second| Timestamp::from_second(second).expect("the case is right");
        let first = cron.next(moment(self.from), &zone);
        std::iter::successors(first, |at| cron.next(*at, &zone))
            .map(Timestamp::as_second)
            .take_while(|second| *second <= self.until)
            .collect()
    }
}

/// Changes of the clock at 01:00 UTC, at local midnight, by half an hour, and none.
const ZONES: [&str; 5] =
    ["Europe/Berlin", "America/New_York", "Africa/Cairo", "Australia/Lord_Howe", "Asia/Kolkata"];

fn cases() -> Vec<Case> {
    let second = |text: &str| text.parse::<Timestamp>().expect("the case is right").as_second();
    let (from, until) = (second("2026-01-01T00:00:00Z"), second("2028-01-01T00:00:00Z"));
    let mut dice = Dice(2026);
    let mut cases = Vec::new();
    for n in 0..150 {
        let zone = ZONES[n % ZONES.len()];
        // The coarse fields narrow the fine ones down: few occasions each, over two years.
        let mut fields = Vec::new();
        for field in Field::ALL {
            if dice.below(if field <= Field::Month { 5 } else { 3 }) == 0 {
                fields.push((field, dice.expression(field)));
            }
        }
        match fields.iter().map(|(field, _)| *field).max() {
            None => {}
            // Too many for two years: the hours around each change.
            Some(finest @ (Field::Minute | Field::Second)) => {
                let hours = if finest == Field::Second { 1 } else { 24 };
                for (from, until) in around_changes(zone, from, until, hours) {
                    cases.push(Case { fields: fields.clone(), zone, from, until });
                }
            }
            Some(_) => cases.push(Case { fields, zone, from, until }),
        }
    }
    // The schedules that people write.
    for zone in ZONES {
        for (field, text) in [
            (Field::Hour, "*/2"),
            (Field::Hour, "2"),
            (Field::Hour, "1-3"),
            (Field::Day, "*"),
            (Field::DayOfWeek, "mon"),
        ] {
            cases.push(Case { fields: vec![(field, text.to_owned())], zone, from, until });
        }
    }
    let fields = vec![(Field::Minute, "*/20".to_owned())];
    cases.push(Case { fields, zone: "Europe/Berlin", from, until });
    cases
}

/// So many hours before and after each change of the clock; where there is none, after `from`.
fn around_changes(zone: &str, from: i64, until: i64, hours: i64) -> Vec<(i64, i64)> {
    let zone = TimeZone::get(zone).expect("the case is right");
    let changes = zone.following(Timestamp::from_second(from).expect("the case is right"));
    let changes = changes.map(|change| change.timestamp().as_second());
    let mut spans: Vec<(i64, i64)> = changes
        .take_while(|change| *change < until)
        .map(|change| (change - hours * 3600, change + hours * 3600))
        .collect();
    if spans.is_empty() {
        spans.push((from, from + 2 * hours * 3600));
    }
    spans
}

#[test]
fn two_years_agree_with_apscheduler() {
    let Some(python) = python() else {
        println!("NOT RUN: two years of schedules against APScheduler: no Python has it");
        return;
    };
    let cases = cases();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle.py");
    let mut oracle = Command::new(python)
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let questions: Vec<String> = cases.iter().map(|case| case.question().to_string()).collect();
    let mut stdin = oracle.stdin.take().unwrap();
    let writer = std::thread::spawn(move || {
        stdin.write_all((questions.join("\n") + "\n").as_bytes()).unwrap();
    });
    let output = oracle.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success(), "{}", output.status);
    let answers: Vec<Vec<i64>> = output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    assert_eq!(answers.len(), cases.len());
    let mut occasions = 0;
    for (case, expected) in cases.iter().zip(answers) {
        let found = case.answer();
        let differs = found.iter().zip(&expected).find(|(ours, theirs)| ours != theirs);
        assert!(
            found == expected,
            "{}: {} and {} occasions, the first that differ: {differs:?}",
            case.question(),
            found.len(),
            expected.len()
        );
        occasions += found.len();
    }
    assert!(occasions > 50_000, "the cases have {occasions} occasions only");
    println!("oracle: {} schedules, {occasions} occasions", cases.len());
}
