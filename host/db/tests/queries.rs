//! Queries on a small database of stock names: commands on lists, records and the catalog,
//! references to identities.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use rex_db::{Address, Config, Session, from_typed_json, value_json};
use rex_htsql::domain::Domain;
use rex_htsql::{Lens, Naming, Params};
use rex_test_support::server::Server;
use serde_json::{Value as Json, json};

const SCHEMA: &str = "
CREATE TABLE school (code text PRIMARY KEY, name text NOT NULL);
CREATE TABLE course (
    school_code text REFERENCES school, no int, title text, size int,
    PRIMARY KEY (school_code, no));
CREATE TABLE class (
    school_code text, course_no int, section text,
    FOREIGN KEY (school_code, course_no) REFERENCES course,
    PRIMARY KEY (school_code, course_no, section));
INSERT INTO school VALUES ('art', 'Art'), ('law', 'Law');
INSERT INTO course VALUES ('art', 1, 'Clay', 10), ('art', 2, 'Paint', 20), ('law', 1, 'Torts', 30);
INSERT INTO class VALUES ('art', 1, 'a'), ('art', 2, 'a'), ('art', 2, 'b');
";

struct Bench {
    session: Session,
    _server: Server,
}

impl Bench {
    fn new() -> Bench {
        let server = Server::start().unwrap();
        server.create_database("small").unwrap();
        server.sql("small", SCHEMA).unwrap();
        let address = Address::parse(&server.uri("small")).unwrap();
        let (naming, gateways) = (Naming::Stock, Vec::new());
        let config = Config { address, naming, gateways, statement_timeout: None };
        Bench { session: Session::new(config).unwrap(), _server: server }
    }

    fn run(&mut self, query: &str, params: Json) -> Result<Json, String> {
        let mut given = Params::new();
        if let Json::Object(params) = params {
            for (name, value) in params {
                given.set(&name, from_typed_json(&value.to_string()).unwrap());
            }
        }
        let product = self.session.produce(query, &given).map_err(|error| error.to_string())?;
        let domain = product.profile.as_ref().map_or(&Domain::Void, |profile| &profile.domain);
        Ok(value_json(domain, &product.data))
    }

    #[track_caller]
    fn check(&mut self, query: &str, params: Json, expected: Json) {
        assert_eq!(self.run(query, params), Ok(expected), "{query}");
    }

    /// The first line of the error.
    #[track_caller]
    fn check_error(&mut self, query: &str, params: Json, expected: &str) {
        let error = self.run(query, params).unwrap_err();
        assert_eq!(error.lines().next(), Some(expected), "{query}: {error}");
    }
}

#[test]
fn the_catalog_is_queried_by_meta() {
    let mut bench = Bench::new();
    bench.check("/meta(/table?name!='class'&name!~'ch')", json!({}), json!([["course"]]));
    bench.check(
        "/field{name, kind, sort}?table.name='course'/:meta",
        json!({}),
        json!([
            ["class", "link", null],
            ["no", "column", 2],
            ["school", "link", null],
            ["school_code", "column", 1],
            ["size", "column", 4],
            ["title", "column", 3],
        ]),
    );
    bench.check(
        "/meta(/table{name, count(column), /link{name, is_singular, target.name, reverse.name}}\
         ?name=$name)",
        json!({"name": "school"}),
        json!([["school", 2, [["course", false, "course", "school"]]]]),
    );
    bench.check(
        "meta(column[school.name]{domain, is_mandatory})",
        json!({}),
        json!(["text", true]),
    );
    bench.check("/for($t:=/table.name, length($t))/:meta", json!({}), json!([5, 6, 6]));
    bench.check_error("/meta(/tabel)", json!({}), "Found unknown attribute:");
    bench.check_error("/meta(table, 1)", json!({}), "Expected 1 argument");
    bench.check_error("/insert(table:={name:='x'})/:meta", json!({}), "No write permissions");
    bench.check_error("/truncate(table)/:meta", json!({}), "No write permissions");
    bench.check_error("/meta(meta(/table))", json!({}), "Found unknown function:");
}

#[test]
fn for_runs_once_an_item_or_field() {
    let mut bench = Bench::new();
    bench.check("for($x:={1,2,3}, $x*2)", json!({}), json!([2, 4, 6]));
    bench.check("for($x:=/course.sort(size).size, $x+0)", json!({}), json!([10, 20, 30]));
    bench.check("for($x:=$j, $x+1)", json!({"j": [5, 6]}), json!([6, 7]));
    bench.check("for($x:=$j, $x)", json!({"j": []}), json!([]));
    bench.check("for($x:=$j, $x)", json!({"j": null}), json!([]));
    bench.check("for($x:={1,null(),3}, $x)", json!({}), json!([1, 3]));
    bench.check_error("for($x:=$j, $x)", json!({"j": 1}), "Expected a list value");
    bench.check_error("for($x:={1,'a'}, $x)", json!({}), "Unexpected loop body type:");
    bench.check(
        "for($x:=$j, insert(school:={code:=$x, name:=$x}))",
        json!({"j": ["k1", "k2"]}),
        json!([{"id": "k1"}, {"id": "k2"}]),
    );
    bench.check(
        "for($x:=$j, with($x, insert(school:={code:=$c, name:=$c})))",
        json!({"j": [{"c": "j1"}, {"c": "j2"}]}),
        json!([{"id": "j1"}, {"id": "j2"}]),
    );
    bench.check(
        "with($o, for($c:=$codes, insert(school:={code:=$c, name:=$name})))",
        json!({"o": {"codes": ["m1", "m2"], "name": "M"}}),
        json!([{"id": "m1"}, {"id": "m2"}]),
    );
    bench.check("with({a:=1,b:=2}, $a+$b)", json!({}), json!(3));
    bench.check(
        "for($i:=/course{school:=school.id(), no}?size>10, with($i, course[$school.$no]{title}))",
        json!({}),
        json!([["Paint"], ["Torts"]]),
    );
    bench.check("with(school['none'], insert(school:={code:=$code}))", json!({}), json!(null));
    bench.check_error("with($x, 1)", json!({"x": 1}), "Expected a record value");
}

#[test]
fn get_is_another_name_of_fetch() {
    let mut bench = Bench::new();
    for query in ["get(/school{code})", "/school{code}/:get", "fetch(/school{code})"] {
        bench.check(query, json!({}), json!([["art"], ["law"]]));
    }
    bench.check("get({count(school)})", json!({}), json!([2]));
    bench.check(
        "do($id:=insert(school:={code:='new', name:='N'}), get(/school[$id]{id(), name}))",
        json!({}),
        json!([[{"id": "new"}, "N"]]),
    );
    bench.check_error("get()", json!({}), "Expected 1 argument");
}

#[test]
fn the_statements_of_commands_are_explained() {
    let mut bench = Bench::new();
    let mut check = |query: &str, expected: &[&str]| {
        let shown = bench.session.explain(query, Lens::Sql, &Params::new()).unwrap();
        let mut rest = shown.as_str();
        for part in expected {
            let at = rest.find(part).unwrap_or_else(|| panic!("{query}: no `{part}` in\n{shown}"));
            rest = &rest[at + part.len()..];
        }
    };
    let (select, insert) =
        ("FROM \"public\".\"school\"", "INSERT INTO \"public\".\"school\" AS \"t0\"");
    let update = "UPDATE \"public\".\"school\" AS \"t0\" SET \"name\" = \"a\".v1";
    let delete = "DELETE FROM \"public\".\"school\" AS \"t0\"";
    check("/school{code+'x' :as code, name}/:insert", &[select, "$1: text = 'x'", insert]);
    let copy = "COPY \"public\".\"school\" (\"code\", \"name\") FROM STDIN";
    let long = format!("-- in place of it, for 64 records and more: {copy}");
    check("/school{code+'x' :as code, name}/:insert", &[insert, &long]);
    check("/school/:copy", &[select, copy]);
    check("/school{id(), 'x' :as name}/:update", &[select, update]);
    check("/school{code, name}/:merge", &[select, update, insert]);
    check("/school{id()}/:delete", &[select, delete]);
    check("truncate(school)", &["TRUNCATE \"public\".\"school\" RESTART IDENTITY CASCADE"]);
    check(
        "do(/school{id()}/:delete, $n:=count(school), if($n=0, truncate(school)), get(/course))",
        &[delete, "COUNT(*)", "-- not before it runs: $n=0", "TRUNCATE", "\"public\".\"course\""],
    );
    check("for($x:=/school{code}, truncate(school))", &[select, "TRUNCATE"]);
    for query in ["/", "describe(/school)", "/school/:sql"] {
        check(query, &["-- nothing is sent"]);
    }
}

#[test]
fn what_waits_for_a_value_is_said_to_wait() {
    let mut bench = Bench::new();
    let mut given = Params::new();
    given.set("x", from_typed_json("1").unwrap());
    let mut explain = |query: &str| bench.session.explain(query, Lens::Sql, &given);
    let waits = |body: &str| format!("-- not before it runs: {body}\n");
    // The parameter `$x` is not the `$x` of the script.
    let shown = explain("do($x:=count(school), get(/school?count(course)=$x), /course)").unwrap();
    let (head, tail) = shown.split_once(&waits("get(/school?count(course)=$x)")).unwrap();
    assert!(head.contains("COUNT") && tail.contains("\"course\""), "{shown}");
    let shown =
        explain("for($c:=/school.id(), insert(course:={$c :as school, 1 :as no}))").unwrap();
    assert!(shown.contains(&waits("insert(course:={$c :as school,1 :as no})")), "{shown}");
    // Of a record the fields are known, of a document none.
    let shown = explain("with(top(school){code}, get(/school?code=$code&$x>0))").unwrap();
    assert!(shown.contains(&waits("get(/school?code=$code&$x>0)")), "{shown}");
    let shown = explain("with(top(school){code}, get(/{$x}))").unwrap();
    assert!(!shown.contains("--") && shown.contains("= 1"), "{shown}");
    let shown = explain("insert(with(top(school){code}, {'n' :as code} :as school))").unwrap();
    assert!(shown.contains("-- not before it runs: what `insert` sends"), "{shown}");
    // What is wrong in any case is an error.
    for query in ["do($y:=count(school), get(/schol))", "for($y:=/schol, get({$y}))"] {
        let error = explain(query).unwrap_err().to_string();
        assert!(error.starts_with("Found unknown attribute:\n    schol"), "{error}");
    }
}

#[test]
fn without_a_record_nothing_is_done_with_it() {
    let mut bench = Bench::new();
    for record in ["null()", "$none", "top(school?code='none'){code}", "json(null())"] {
        bench.check(&format!("with({record}, get(1))"), json!({"none": null}), json!(null));
    }
    for record in ["1", "'x'", "/school", "json('[1]')", "integer(null())"] {
        bench.check_error(&format!("with({record}, get(1))"), json!({}), "Expected a record value");
    }
}

#[test]
fn the_command_sql_shows_what_would_write_and_writes_nothing() {
    let mut bench = Bench::new();
    for (query, part) in [
        ("insert(school:={code:='x', name:='X'})/:sql", "INSERT INTO \"public\".\"school\""),
        ("/school{id()}/:delete/:sql", "DELETE FROM \"public\".\"school\""),
        ("sql(truncate(school))", "TRUNCATE \"public\".\"school\""),
        ("sql(do(truncate(school), get(/course)))", "FROM \"public\".\"course\""),
    ] {
        let shown = bench.run(query, json!({})).unwrap();
        assert!(shown.as_str().is_some_and(|text| text.contains(part)), "{query}: {shown}");
    }
    bench.check("count(school)", json!({}), json!(2));
    assert!(
        bench
            .session
            .explain("insert(school:={code:='x'})", Lens::Sql, &Params::new())
            .is_ok_and(|text| !text.contains("COPY"))
    );
}

#[test]
fn what_writes_is_not_described() {
    let mut bench = Bench::new();
    for query in [
        "describe(insert(school:={code:='x', name:='X'}))",
        "/describe(delete(/school{id()}))",
        "describe(truncate(school))",
        "describe(do(school))",
    ] {
        bench.check_error(query, json!({}), "unsupported action");
    }
    let described = bench.run("describe(/school{code})", json!({})).unwrap();
    assert_eq!(described["json"]["tag"], "school", "{described}");
}

#[test]
fn a_reference_locates_by_a_whole_identity() {
    let mut bench = Bench::new();
    let paint = json!([["Paint"]]);
    bench.check("/course[$c]{title} :given $c:=[art.2]", json!({}), paint.clone());
    bench.check("/course[[art.2]]{title}", json!({}), paint.clone());
    bench.check("do($c:=course[art.2].id(), /course[$c]{title})", json!({}), paint);
    bench.check("/class[$c]{section} :given $c:=[(art.2).b]", json!({}), json!([["b"]]));
    bench.check("/class[$c.b]{section} :given $c:=[art.2]", json!({}), json!([["b"]]));
    for query in ["/course[$c] :given $c:='art.2'", "/course[$c] :given $c:=[art]"] {
        bench.check_error(query, json!({}), "Found ill-formed locator");
    }
    bench.check_error("/class[$c] :given $c:=[art.2]", json!({}), "Found ill-formed locator");
}

#[test]
fn an_entity_that_is_null_is_named_so() {
    let mut bench = Bench::new();
    let error = bench.run("update(school:={null(), name:='x'})", json!({})).unwrap_err();
    assert!(error.starts_with("Unable to find an entity:\n    school[null]\n"), "{error}");
}

#[test]
fn values_turn_into_columns_by_pivot() {
    let mut bench = Bench::new();
    bench.check(
        "/pivot(/course{school_code, no, size})",
        json!({}),
        json!([["art", 10, 20], ["law", 30, null]]),
    );
    bench.check(
        "/pivot(/course{no, size, school_code}, -1, 1)",
        json!({}),
        json!([[1, 10, 30], [2, 20, null]]),
    );
    bench.check("/pivot(/course{no, size}?false())", json!({}), json!([]));
    for (query, error) in [
        ("/pivot()", "Expected 1 to 3 arguments"),
        ("/pivot(/course, 'x')", "Expected an integer"),
        ("/pivot(/course, 4)", "'on' is out of range"),
        ("/pivot(/course, 0, -5)", "'by' is out of range"),
        ("/pivot(/course, 1, 1)", "'on' and 'by' should not coincide"),
        ("/pivot(count(course))", "Expected a list of records; got integer"),
        ("/pivot(/course{no, /class})", "Cannot use pivot with:"),
        ("/pivot(/course{school_code, {no, size}, title})", "Cannot pivot on type:"),
        ("/pivot(/course{school_code, size}{school_code, 1, size})", "Got duplicate row"),
    ] {
        bench.check_error(query, json!({}), error);
    }
}
