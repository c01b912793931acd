//! Queries of the job and mart machinery on deployed tables: RexDB naming, ETL, gateways.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use rex_db::{Address, Config, Gateway, Session, from_typed_json, value_json};
use rex_htsql::domain::Domain;
use rex_htsql::{Naming, Params};
use rex_test_support::server::Server;
use rex_test_support::shared::load_app;
use serde_json::{Value as Json, json};

struct Bench {
    app: Session,
    mart: Session,
    server: Server,
}

const MART: &str = "
CREATE SEQUENCE foo_seq;
CREATE TABLE foo (id int4 NOT NULL DEFAULT nextval('foo_seq'), col1 text NOT NULL);
ALTER TABLE foo ADD CONSTRAINT foo_uk UNIQUE (id);
ALTER TABLE foo ADD CONSTRAINT foo_pk PRIMARY KEY (col1);
CREATE TYPE status AS ENUM ('in-progress', 'completed');
CREATE TABLE subject (id serial UNIQUE, uid text PRIMARY KEY, mobile_tn text);
CREATE TABLE driver (
    id serial UNIQUE, assessment_uid text PRIMARY KEY, state status, as_date timestamp,
    a_json_field jsonb, age numeric(6,2)
);
";

impl Bench {
    fn new() -> Option<Bench> {
        let server = Server::start().unwrap();
        let app = load_app(&server, "app").unwrap()?;
        let mart = server.create_database("mart").unwrap();
        server.sql("mart", MART).unwrap();
        let address = |text: &str| Address::parse(text).unwrap();
        let session = |at: &str, gateways| {
            let naming = Naming::Rex;
            Session::new(Config { address: address(at), naming, gateways, statement_timeout: None })
                .unwrap()
        };
        let rexdb = Gateway { name: "rexdb".into(), address: address(&app), naming: Naming::Rex };
        let mart = session(&mart, vec![rexdb]);
        Some(Bench { app: session(&app, Vec::new()), mart, server })
    }
}

fn run(session: &mut Session, query: &str, params: Json) -> Result<Json, String> {
    let mut given = Params::new();
    if let Json::Object(params) = params {
        for (name, value) in params {
            given.set(&name, from_typed_json(&value.to_string()).unwrap());
        }
    }
    let product = session.produce(query, &given).map_err(|error| error.to_string())?;
    let domain = product.profile.as_ref().map_or(&Domain::Void, |profile| &profile.domain);
    Ok(value_json(domain, &product.data))
}

#[track_caller]
fn check(session: &mut Session, query: &str, params: Json, expected: Json) {
    assert_eq!(run(session, query, params).unwrap(), expected, "{query}");
}

#[track_caller]
fn check_error(session: &mut Session, query: &str, params: Json, expected: &str) {
    assert_eq!(run(session, query, params).unwrap_err(), expected);
}

#[test]
fn jobs() {
    let Some(mut bench) = Bench::new() else { return };
    let app = &mut bench.app;
    let job = "/{'test' :as owner, $job_type :as type, $payload :as payload} :as job/:insert";
    let params = json!({"job_type": "rexmart-create", "payload": {"a": [1, "x"]}});
    check(app, job, params.clone(), json!([{"id": "1"}]));
    check(app, job, params, json!([{"id": "2"}]));
    check(
        app,
        "/merge(job_rexmart_create := {id($job) :as job, $log :as log})",
        json!({"job": 2, "log": "done"}),
        json!({"id": "2"}),
    );
    check(
        app,
        "/job{code, owner, type, payload, job_rexmart_create{*} :as facet}.filter(code=$code)",
        json!({"code": 2}),
        json!([[2, "test", "rexmart-create", {"json": {"a": [1, "x"]}}, [{"id": "2"}, "done"]]]),
    );
    check(
        app,
        "/job{code, job_rexmart_create{*} :as facet}",
        json!({}),
        json!([[1, null], [2, [{"id": "2"}, "done"]]]),
    );
    check(
        app,
        "/job[$job]{id(), 'queued' :as status} /:update",
        json!({"job": 2}),
        json!([{"id": "2"}]),
    );
    check(
        app,
        "/job[$job]{id(), 'started' :as status, now() :as date_started} /:update",
        json!({"job": 1}),
        json!([{"id": "1"}]),
    );
    check(
        app,
        "/count(job.filter(type = $job_type & status = {'started', 'queued'}))",
        json!({"job_type": "rexmart-create"}),
        json!([2]),
    );
    check(
        app,
        "/job{code, type}.filter(status='queued').sort(date_submitted, code)",
        json!({}),
        json!([[2, "rexmart-create"]]),
    );
    check(
        app,
        "/job[$job]{id(), 'completed' :as status, now() :as date_completed} /:update",
        json!({"job": 1}),
        json!([{"id": "1"}]),
    );
    check(
        app,
        "/job{id()}.filter(status={'completed', 'failed'} \
         & (date_completed + $age_in_days) < now()) /:delete",
        json!({"age_in_days": -0.5}),
        json!(null),
    );
    check(app, "/job{code}", json!({}), json!([[2]]));
    check_error(
        app,
        "/{'2' :as code, 'a' :as owner, 'b' :as type} :as job/:insert",
        json!({}),
        "Got a duplicate identity:\n    Job . Code\nWhich triggered an error from the database \
         driver:\n    duplicate key value violates unique constraint \"job_pk\"\n    DETAIL:  Key \
         (code)=(2) already exists.\nWhile inserting record #1:\n    {'2', 'a', 'b'}\n\
         While processing:\n    /{'2' :as code, 'a' :as owner, 'b' :as type} :as job/:insert\n    \
         \u{20}                                                     ^^^^^^",
    );
    assert!(
        run(app, "/{'a' :as owner} :as job/:insert", json!({}))
            .unwrap_err()
            .starts_with("Got a blank field value:\n    Job . Type\nWhich triggered an error")
    );
}

#[test]
fn inventory() {
    let Some(mut bench) = Bench::new() else { return };
    let app = &mut bench.app;
    check(
        app,
        "{definition:=$definition, owner:=$owner, name:='TBD', status:='creation', \
         date_creation_started:=$date_creation_started} :as rexmart_inventory /:insert",
        json!({
            "definition": "empty", "owner": "me",
            "date_creation_started": {"$datetime": "2020-01-02 03:04:05"}
        }),
        json!({"id": "1"}),
    );
    check(
        app,
        "/rexmart_inventory{id(), status:=$status}.filter(code=$code) /:update",
        json!({"status": "complete", "code": 1}),
        json!([{"id": "1"}]),
    );
    check(
        app,
        "/rexmart_inventory{id(), date_creation_completed:=$at, size:=$size}\
         .filter(code=$code) /:update",
        json!({"at": {"$datetime": "2020-01-02 03:05:00"}, "size": null, "code": 1}),
        json!([{"id": "1"}]),
    );
    check(
        app,
        "/rexmart_inventory[$code]{id(), $pinned :as pinned}/:update",
        json!({"code": 1, "pinned": true}),
        json!([{"id": "1"}]),
    );
    let row = json!([[
        1, "empty", "me", "TBD", "complete", {"datetime": "2020-01-02 03:04:05"},
        {"datetime": "2020-01-02 03:05:00"}, null, true
    ]]);
    check(app, "/rexmart_inventory[$code]", json!({"code": 1}), row);
    check(
        app,
        "/{count(rexmart_inventory.filter(owner=$owner&status='complete')), \
         count(rexmart_inventory.filter(owner=$owner&status='complete'&pinned)), \
         count(rexmart_inventory.filter(owner=$owner&definition=$definition))}",
        json!({"owner": "me", "definition": null}),
        json!([[1, 1, 0]]),
    );
    check(
        app,
        "/top(rexmart_inventory.filter(definition=$definition & status='complete')\
         .sort(date_creation_completed-)).name",
        json!({"definition": "empty"}),
        json!(["TBD"]),
    );
    check(
        app,
        "/rexmart_inventory.filter(owner=$owner)^definition{definition, count(^)}",
        json!({"owner": "me"}),
        json!([["empty", 1]]),
    );
    check(app, "/rexmart_inventory[$code]{id()}/:delete", json!({"code": 1}), json!(null));
    check(app, "count(rexmart_inventory)", json!({}), json!(0));
}

#[test]
fn a_shared_transaction_may_write_to_a_gateway_that_it_read() {
    let Some(mut bench) = Bench::new() else { return };
    let mart = &mut bench.mart;
    mart.begin();
    check(mart, "/job{code, /job_rexmart_create}/:rexdb", json!({}), json!([]));
    let job = "rexdb(insert(job:={owner:='me', type:='rexmart-create', payload:=$p}))";
    check(mart, job, json!({"p": {}}), json!({"id": "1"}));
    mart.end(false).unwrap();
}

#[test]
fn gateways() {
    let Some(mut bench) = Bench::new() else { return };
    let Bench { mart, server, .. } = &mut bench;
    check_error(
        mart,
        "/people{first_name :as col1} :as foo /:rexdb /:insert",
        json!({}),
        "Found unknown attribute:\n    people.first_name\nPerhaps you had in mind:\n    firstname\n\
         While translating:\n    /people{first_name :as col1} :as foo /:rexdb /:insert\n            \
         ^^^^^^^^^^",
    );
    let ids = run(mart, "/people{firstname :as col1} :as foo /:rexdb /:insert", json!({})).unwrap();
    check(mart, "count(foo)", json!({}), json!(ids.as_array().unwrap().len()));
    assert_eq!(ids[0], json!({"id": "John"}));
    check(
        mart,
        "/{$prefix + string($bar) :as col1} :as foo /:insert",
        json!({"prefix": "p-", "bar": 123}),
        json!([{"id": "p-123"}]),
    );
    let subjects = run(mart, "/subject{uid, mobile_tn} /:rexdb /:insert", json!({})).unwrap();
    check(mart, "count(subject)", json!({}), json!(subjects.as_array().unwrap().len()));

    // Domains across databases: enumerations by labels, dates to timestamps, numbers, JSON.
    run(
        mart,
        "/assessment{uid :as assessment_uid, status :as state, evaluation_date :as as_date, \
         string(calculation) :as a_json_field, age_at_evaluation :as age} :as driver \
         /:rexdb /:insert",
        json!({}),
    )
    .unwrap();
    let direct = "/assessment{uid, status, datetime(evaluation_date), calculation, \
                  decimal(age_at_evaluation)} /:rexdb";
    let there = run(mart, direct, json!({})).unwrap();
    let here = run(mart, "/driver", json!({})).unwrap();
    let plain = |rows: &Json| rows.to_string().replace(".00\"", "\"");
    assert_eq!(plain(&there), plain(&here));

    // A large feed, by COPY; then an error far in it, with nothing left behind.
    server
        .sql(
            "app",
            "INSERT INTO people (code, firstname, lastname) \
             SELECT i, CASE i WHEN 15000 THEN 'P12' ELSE 'P' || i END, 'x' \
             FROM generate_series(1000, 30000) i",
        )
        .unwrap();
    let error =
        run(mart, "/people{firstname :as col1}?lastname='x' :as foo /:rexdb /:insert", json!({}));
    assert_eq!(error.as_ref().map(|ids| ids.as_array().unwrap().len()).ok(), Some(29001));
    let again = "/people{firstname :as col1}?lastname='x'&code>20000 :as foo /:rexdb /:insert";
    let error = run(mart, again, json!({})).unwrap_err();
    assert!(
        error.contains("DETAIL:  Key (col1)=(P20001) already exists.\nWhile inserting record #1:"),
        "{error}"
    );
}

#[test]
fn control() {
    let Some(mut bench) = Bench::new() else { return };
    let app = &mut bench.app;
    check(
        app,
        "/do($id := insert(people := {code := 900, firstname := 'A', lastname := 'B'}), \
         people[$id])",
        json!({}),
        json!([900, "A", "B"]),
    );
    check(
        app,
        "/for($x := /(people?code<3).id(), update(people := {$x, lastname := 'same'}))",
        json!({}),
        json!([{"id": "1"}, {"id": "2"}]),
    );
    check(
        app,
        "/with($data, insert(people := {$code :as code, $name :as firstname, 'x' :as lastname}))",
        json!({"data": {"code": 901, "name": "json"}}),
        json!({"id": "901"}),
    );
    check(app, "/people[901]", json!({}), json!([[901, "json", "x"]]));
    // All of a query or nothing of it.
    let query = "/do(insert(people := {code := 950, firstname := 'A', lastname := 'B'}), \
                 insert(people := {code := 950, firstname := 'A', lastname := 'B'}))";
    assert!(run(app, query, json!({})).unwrap_err().contains("Got a duplicate identity"));
    check(app, "/people?code=950", json!({}), json!([]));
}
