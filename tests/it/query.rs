//! `rex-host query` as a person meets it: Ctrl-C, files of statements, a terminal with its width and
//! a pager.

use std::process::Command;

use rex_test_support::env::{Env, dist};
use rex_test_support::pg::Database;
use rex_test_support::process::{self, Done, Running, wait_for};

const SCHEMA: &str = "
    create table school (code text primary key, name text not null);
    insert into school values ('art', 'School of Art and Design'), ('law', 'School of Law');
    create view slow as select 'x'::text as x from pg_sleep(600);";

fn database() -> Database {
    let database = Database::new();
    database.connect().batch_execute(SCHEMA).expect("the schema is right");
    database
}

/// Statements that the server is busy with on this database, besides the one that asks.
fn busy(database: &Database) -> i64 {
    let sql = "select count(*) from pg_stat_activity where datname = current_database() \
               and state = 'active' and pid <> pg_backend_pid()";
    database.connect().query_one(sql, &[]).expect("it can be asked").get(0)
}

#[test]
fn ctrl_c_stops_the_statement_on_the_server() {
    let (env, database) = (Env::new(), database());
    let script = env.write("script.htsql", "/school\n/slow\n/school\n");
    let script = script.to_str().expect("UTF-8");
    for args in [
        ["--csv", "/slow"],
        ["--json", "insert(school:=/slow{x :as code, x :as name})"],
        ["-f", script],
    ] {
        let mut all = vec!["query", "-d"];
        let uri = database.uri();
        all.push(&uri);
        all.extend(args);
        let query = Running::start(env.command("rex-host", &all));
        wait_for("the statement runs", || busy(&database) == 1);
        query.signal(libc::SIGINT);
        let output = query.wait_output("interrupted");
        assert!(!output.contains("school"), "{output}");
        wait_for("the server has stopped", || busy(&database) == 0);
    }
    let rows = database.connect().query_one("select count(*) from school", &[]);
    assert_eq!(rows.expect("it is there").get::<_, i64>(0), 2);
}

#[test]
fn a_file_is_one_transaction_and_shows_its_last_answer() {
    let (env, database) = (Env::new(), database());
    let uri = database.uri();
    let run = |text: &str| {
        let file = env.write("script.htsql", text);
        let args = ["query", "-d", &uri, "--csv", "-p", "n=New", "-f"];
        env.rex_host(&[&args[..], &[file.to_str().expect("UTF-8")]].concat())
    };
    let good = "# adds one\ninsert(school:={code:='eng',\n    # its name\n    name:=$n})\n\n\
                /school{code}\n  ?name=$n\n# the end\n";
    assert_eq!(run(good).ok(), "code\r\neng\r\n");
    let bad = run("insert(school:={code:='x', name:='x'})\n/school{nme}\n").fails(1);
    assert!(bad.contains("Found unknown attribute:\n    school.nme\n"), "{bad}");
    assert!(
        bad.contains("While executing:\n    ") && bad.contains("script.htsql, line 2"),
        "{bad}"
    );
    assert_eq!(run("/count(school)\n").ok(), "count(school)\r\n3\r\n");
    assert!(run("  /school\n").fails(1).contains("Got unexpected indentation"));
    assert_eq!(run("# nothing\n").ok(), "");
    let input = env.rex_host_with(&["query", "-d", &uri, "--csv", "-f", "-"], "/count(school)\n");
    assert_eq!(input.ok(), "count(school)\r\n3\r\n");
}

/// Runs a shell's line with `$REX_HOST` on a terminal of 40 columns.
fn on_terminal(env: &Env, line: &str) -> Done {
    let line = format!("stty cols 40 rows 10; {line}");
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).current_dir(env.work());
    command.env("REX_HOST", dist().join("bin/rex-host"));
    command.env("PAGER", "sed s/^/page:/").env("TERM", "dumb");
    process::run(command, "")
}

#[test]
fn a_table_fits_its_terminal_and_is_paged() {
    let (env, database) = (Env::new(), database());
    let uri = database.uri();
    let wide = "'/school{code, name, name+name :as twice}'";
    let shown = |args: &str| {
        let done = on_terminal(&env, &format!("$REX_HOST query -d {uri} {args}"));
        done.ok().replace("\r\n", "\n")
    };
    let plain = shown(&format!("--no-pager {wide}"));
    assert!(plain.lines().all(|line| line.len() <= 40), "{plain}");
    assert!(plain.contains("Art") && plain.contains("Law"), "{plain}");
    let paged = shown(wide);
    assert!(paged.lines().all(|line| line.starts_with("page:")), "{paged}");
    assert_eq!(paged.replace("page:", ""), plain);
    // Into a pipe the table is as wide as it is, and nothing pages it.
    let piped =
        env.rex_host(&["query", "-d", &uri, "/school{code, name, name+name :as twice}"]).ok();
    assert!(piped.contains("School of Art and DesignSchool of Art and Design"), "{piped}");
    assert!(!piped.contains("page:"), "{piped}");
    // Seven columns have no more than three letters each.
    let many = shown("--no-pager '/school{code, name, name, name, name, name, name}'");
    assert!(many.lines().all(|line| line.len() <= 40), "{many}");
}

#[test]
fn a_pager_that_is_not_there_costs_no_answer() {
    let (env, database) = (Env::new(), database());
    let query = format!("$REX_HOST query -d {} /school{{code}}", database.uri());
    let plain = on_terminal(&env, &format!("{query} --no-pager")).ok();
    assert_eq!(on_terminal(&env, &format!("PAGER= {query}")).ok(), plain);
    let told = on_terminal(&env, &format!("PAGER=nonesuch {query}")).ok();
    assert_eq!(told, format!("warning: there is no pager `nonesuch` (PAGER)\r\n{plain}"));
    let told = on_terminal(&env, &format!("PAGER=\"'none such'\" {query}; echo \"code $?\"")).ok();
    assert!(told.contains("error: the pager `'none such'` cannot be run"), "{told}");
    assert!(told.ends_with("code 1\r\n"), "{told}");
}

#[test]
fn a_table_in_a_file_is_as_wide_as_its_widest_row() {
    let (env, database) = (Env::new(), database());
    let many = "create table many (id int primary key, name text);
        insert into many select i, repeat('é', i / 100) from generate_series(1, 3000) i";
    database.connect().batch_execute(many).expect("it can be made");
    let table = env.rex_host(&["query", "-d", &database.uri(), "/many{id, name}"]).ok();
    assert_eq!(table.lines().count(), 3004);
    let last = format!(" | 3000 | {} |", "é".repeat(30));
    assert_eq!(table.lines().last(), Some(last.as_str()));
    let rows = table.lines().filter(|line| line.starts_with(" |"));
    assert!(rows.map(|row| row.chars().count()).all(|width| width == last.chars().count()));
}

/// The memory of the program is limited: the lists below one parent are several times as long.
#[test]
fn a_long_nested_list_needs_little_memory() {
    let (env, database) = (Env::new(), database());
    let many = "create table child (
            id int primary key, school_code text not null references school, name text);
        insert into child select i, 'art', 'name ' || i from generate_series(1, 300000) i;
        create table target (id int primary key, name text)";
    database.connect().batch_execute(many).expect("it can be made");
    let run = |args: &str| {
        let program = dist().join("bin/rex-host");
        let line = format!(
            "ulimit -d 60000; {} query -d {} {args} | tail -n 6",
            program.display(),
            database.uri()
        );
        let mut command = Command::new("bash");
        command.args(["-o", "pipefail", "-c", &line]).current_dir(env.work());
        process::run(command, "").ok()
    };
    let nested = "'/school{code, /child{id, name}}'";
    let csv = run(&format!("--csv {nested}"));
    assert!(csv.contains("\r\n,300000,name 300000\r\nlaw,"), "{csv}");
    let json = run(&format!("--json {nested}"));
    assert!(json.contains("\"code\": \"law\",\n      \"child\": []"), "{json}");
    let repeated = "'for($s := /school.code, /child{id, name}?school_code=$s)'";
    let csv = run(&format!("--csv {repeated}"));
    assert!(csv.contains("300000,name 300000"), "{csv}");
    // A list of lists goes through a command that writes, too.
    let insert = "'/school.child{id, name} :as target/:insert'";
    assert_eq!(run(&format!("--csv {insert}")).lines().last(), Some("300000"));
}

/// `--rexdb` takes an address; what is none is the query.
#[test]
fn a_project_names_the_database() {
    let (env, database) = (Env::new(), database());
    let project = env.write("shop.yaml", &format!("db: \"{}\"\n", database.uri()));
    let project = project.to_str().expect("UTF-8");
    for args in [&["/school{code}"][..], &["--rexdb", "/school{code}"]] {
        let all = [&["query", "--project", project, "--csv"], args].concat();
        assert_eq!(env.rex_host(&all).ok(), "Code\r\nart\r\nlaw\r\n");
    }
    let missing = env.rex_host(&["query", "--rexdb", "/school{code}"]).fails(2);
    assert!(missing.contains("no database is given"), "{missing}");
}

#[test]
fn a_project_has_gateways() {
    let (env, database, other) = (Env::new(), database(), database());
    other.connect().batch_execute("delete from school where code = 'art'").expect("it can be done");
    let written = |gateways: &str| {
        let text = format!("db: \"{}\"\ngateways: {gateways}\n", database.uri());
        env.write("shop.yaml", &text).to_str().expect("UTF-8").to_owned()
    };
    let project = written(&format!("{{Lab: \"{}\", gone: null}}", other.uri()));
    let query = |args: &[&str]| env.rex_host(&[&["query", "--csv"], args].concat());
    let in_lab = "/school{code}/:lab";
    assert_eq!(query(&["--project", &project, in_lab]).ok(), "Code\r\nlaw\r\n");
    // Together with a database of one's own, too, and overridden.
    let uri = database.uri();
    assert_eq!(query(&["-d", &uri, "--project", &project, in_lab]).ok(), "Code\r\nlaw\r\n");
    let again = format!("lab={uri}");
    let overridden = query(&["--project", &project, "--gateway", &again, in_lab]);
    assert_eq!(overridden.ok(), "Code\r\nart\r\nlaw\r\n");
    let unknown = query(&["--project", &project, "/school/:gone"]).fails(1);
    assert!(unknown.contains("Found unknown function:\n    gone"), "{unknown}");

    for (gateways, expect) in [
        ("[x]", "Expected a mapping\nGot:"),
        ("{my-lab: x}", "Expected a string matching:\n    /[A-Za-z_][0-9A-Za-z_]*/"),
        ("{lab: 5}", "While validating mapping value for key:\n    'lab'"),
        ("{lab: {engine: pgsql, port: x}}", "While validating setting:\n    gateways"),
        ("{insert: 'pgsql:x'}", "the setting gateways: a gateway cannot be named `insert`"),
        ("{lab: 'mssql://h/x'}", "the setting gateways: `lab` is no address: "),
        ("{lab: {tweak.filedb: {}}}", "the setting gateways: `lab` names no database"),
    ] {
        let told = query(&["--project", &written(gateways), "/school"]).fails(1);
        assert!(told.contains(expect), "{gateways}: {told}");
    }
}

#[test]
fn what_is_not_utf_8_is_told_by_its_line() {
    let (env, database) = (Env::new(), database());
    let uri = database.uri();
    let bad: &[u8] = b"# one\n/school?name='\xf6'\n";
    let file = env.work().join("bad.htsql");
    std::fs::write(&file, bad).expect("it can be written");
    let program = dist().join("bin/rex-host");
    let run = |args: &str| {
        let line = format!("{} query -d {uri} {args}", program.display());
        let mut command = Command::new("sh");
        command.args(["-c", &line]).current_dir(env.work());
        process::run(command, "")
    };
    let told = run("-f bad.htsql").fails(1);
    assert!(told.contains("failed to read `bad.htsql`: line 2 is not UTF-8"), "{told}");
    let told = run("- < bad.htsql").fails(1);
    assert!(told.contains("failed to read `-`: line 2 is not UTF-8"), "{told}");
    let told = run("\"$(cat bad.htsql)\"").fails(2);
    assert!(told.contains("invalid UTF-8 was detected in one or more arguments"), "{told}");
    let answers = run("--batch < bad.htsql").ok();
    assert!(answers.lines().nth(1).is_some_and(|line| line.contains("not UTF-8")), "{answers}");
    // Some editors put a mark before UTF-8.
    env.write("work/mark.htsql", "\u{feff}/school{code}?code='law'\n");
    for args in ["--csv -f mark.htsql", "--csv < mark.htsql"] {
        assert_eq!(run(args).ok(), "code\r\nlaw\r\n");
    }
}
