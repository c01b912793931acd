//! ETL over plans made by hand: what reaches the tables, what comes back, who is to blame.

use std::sync::Arc;

use rex_htsql::clarify::Conversion;
use rex_htsql::domain::Domain;
use rex_htsql::error::Mark;
use rex_htsql::plan::{
    EtlKind, EtlPlan, FetchPlan, FieldTarget, Identify, Leaf, Plan, Segment, Shape, Statement,
    Target,
};
use rex_htsql::profile::Profile;
use rex_htsql::{Error, Naming, Params, Value};

use crate::exec::Run;
use crate::space::{MAIN, Space};
use rex_pg::Address;
use rex_test_support::server::Server;

const SCHEMA: &str = "
CREATE TABLE school (code varchar(8) PRIMARY KEY, name text NOT NULL);
CREATE TABLE program (
    school_code varchar(8) REFERENCES school,
    code char(4),
    title text,
    credits numeric(6,2),
    PRIMARY KEY (school_code, code)
);
INSERT INTO school VALUES ('art', 'Art'), ('eng', 'Engineering');
INSERT INTO program VALUES ('art', 'x', 'Old', 1);
";

fn mark() -> Mark {
    Mark { text: Arc::from("/etl"), start: 0, end: 4 }
}

fn text() -> Domain {
    Domain::Text
}

fn identity(labels: Vec<Domain>) -> Domain {
    Domain::Identity(labels.into())
}

fn convert(from: &Domain, to: &Domain) -> Conversion {
    Conversion::new(from, to).unwrap()
}

fn school() -> Identify {
    Identify {
        schema: "public".into(),
        table: "school".into(),
        joins: Vec::new(),
        leaves: vec![Leaf {
            sql: "\"t0\".\"code\"".into(),
            domain: text(),
            sql_type: "character varying(8)".into(),
        }],
        domain: identity(vec![text()]),
        key: vec!["code".into()],
        label: "school".into(),
    }
}

fn program() -> Identify {
    let leaf = |sql: &str, ty: &str| Leaf { sql: sql.into(), domain: text(), sql_type: ty.into() };
    Identify {
        schema: "public".into(),
        table: "program".into(),
        joins: vec![
            "INNER JOIN \"public\".\"school\" AS \"t1\" ON (\"t0\".\"school_code\" = \"t1\".\"code\")"
                .into(),
        ],
        leaves: vec![
            leaf("\"t1\".\"code\"", "character varying(8)"),
            leaf("\"t0\".\"code\"", "character(4)"),
        ],
        domain: identity(vec![identity(vec![text()]), text()]),
        key: vec!["school_code".into(), "code".into()],
        label: "program".into(),
    }
}

fn column(name: &str, from: &Domain, to: &Domain) -> FieldTarget {
    FieldTarget::Column {
        name: name.into(),
        column: name.into(),
        sql_type: String::new(),
        convert: convert(from, to),
    }
}

/// A feed of records, by a statement of its own.
fn feed(sql: &str, domains: &[Domain]) -> (Box<Plan>, Domain) {
    let profiles: Vec<Profile> = domains.iter().cloned().map(Profile::bare).collect();
    let record = Domain::Record(profiles.into());
    let mut index = 0;
    let mut leaf = |domain: &Domain| {
        index += 1;
        Shape::Column { index: index - 1, domain: domain.clone() }
    };
    let fields = domains
        .iter()
        .map(|domain| match domain {
            Domain::Identity(labels) => {
                Shape::Identity { labels: labels.iter().map(&mut leaf).collect() }
            }
            domain => leaf(domain),
        })
        .collect();
    let plan = FetchPlan {
        profile: Profile::bare(Domain::List(Box::new(record.clone()))),
        root: None,
        shape: Shape::List { segment: 0, indicator: None },
        segments: vec![Segment {
            parent: None,
            statement: Statement { sql: sql.into(), params: Vec::new(), width: domains.len() },
            key: Vec::new(),
            parent_key: Vec::new(),
            item: Shape::Record { indicator: None, fields },
        }],
        mark: mark(),
    };
    (Box::new(Plan::Fetch(plan.into())), record)
}

fn etl(
    kind: EtlKind,
    of: Identify,
    sql: &str,
    domains: &[Domain],
    fields: Vec<FieldTarget>,
) -> Plan {
    let (feed, record) = feed(sql, domains);
    let identity_fields = match (kind, of.table.as_str()) {
        (EtlKind::Merge, "program") => vec![0, 1],
        (EtlKind::Merge, _) => vec![0],
        _ => Vec::new(),
    };
    let all = match of.table.as_str() {
        "program" => ["school_code", "code", "title", "credits"].as_slice(),
        _ => ["code", "name"].as_slice(),
    };
    Plan::Etl(EtlPlan {
        kind,
        feed,
        target: Some(Target {
            schema: of.schema.clone(),
            table: of.table.clone(),
            tag: of.label.clone(),
            header: of.label.clone(),
            is_list: true,
            returns: !matches!(kind, EtlKind::Copy | EtlKind::Delete),
            record,
            fields,
            key: of.key.clone(),
            identity: Some(of),
            identity_fields,
            cloned: all.iter().map(ToString::to_string).collect(),
        }),
        mark: mark(),
    })
}

struct Bench {
    runtime: tokio::runtime::Runtime,
    space: Space,
    _server: Server,
}

impl Bench {
    fn new() -> Bench {
        let server = Server::start().unwrap();
        let uri = server.create_database("etl").unwrap();
        server.sql("etl", SCHEMA).unwrap();
        let address = Address::parse(&uri).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let gateways = vec![("other".to_string(), address.clone(), Naming::Stock)];
        let space = Space::new(address, Naming::Stock, gateways, None);
        Bench { runtime, space, _server: server }
    }

    fn run(&self, plan: &Plan) -> Result<Value, Error> {
        self.runtime.block_on(async {
            let run =
                Run { space: &self.space, database: MAIN, writes: true, busy: None, meta: false };
            let outcome = async {
                let feed = run.plan(plan, &Params::new()).await?;
                Ok(feed.collect().await?.1)
            }
            .await;
            self.space.end(outcome.is_ok()).await?;
            outcome
        })
    }

    #[track_caller]
    fn check(&self, plan: &Plan, expected: &[&str]) {
        let domain = match plan {
            Plan::Etl(EtlPlan { target: Some(target), .. }) => {
                target.identity.as_ref().unwrap().domain.clone()
            }
            _ => Domain::Void,
        };
        let Value::List(ids) = self.run(plan).unwrap() else { panic!("not a list") };
        let ids: Vec<String> =
            ids.iter().map(|id| rex_htsql::literal::plain_text(&domain, id).unwrap()).collect();
        assert_eq!(ids, expected);
    }

    #[track_caller]
    fn check_error(&self, plan: &Plan, expected: &str) {
        assert_eq!(self.run(plan).unwrap_err().to_string(), expected);
    }

    fn table(&self, sql: &str) -> Vec<String> {
        let sql = format!("SELECT x::text FROM ({sql}) AS x");
        self.runtime.block_on(async {
            let connection = self.space.connection(MAIN).await.unwrap();
            let rows = connection.rows(&sql, Vec::new()).await.unwrap();
            rows.iter().map(|row| row.get(0)).collect()
        })
    }
}

#[test]
fn verbs() {
    let bench = Bench::new();
    let schools = |kind, sql: &str| {
        let fields = vec![column("code", &text(), &text()), column("name", &text(), &text())];
        etl(kind, school(), sql, &[text(), text()], fields)
    };
    bench.check(
        &schools(EtlKind::Insert, "SELECT 's' || i, 'School ' || i FROM generate_series(1, 3) i"),
        &["s1", "s2", "s3"],
    );

    // More than a batch by COPY, the feed from another connection and from the same.
    let copied = "SELECT 'c' || i, E'a\\t\\\\b\\n' || i FROM generate_series(1, 20000) i";
    let Plan::Etl(mut plan) = schools(EtlKind::Insert, copied) else { panic!() };
    plan.feed = Box::new(Plan::Gateway { name: "other".into(), plan: plan.feed, mark: mark() });
    let Value::List(ids) = bench.run(&Plan::Etl(plan)).unwrap() else { panic!() };
    assert_eq!(ids.len(), 20000);
    assert_eq!(ids[19999], Value::Identity(vec![Value::Text("c20000".into())]));
    bench
        .run(&schools(EtlKind::Copy, "SELECT 'd' || i, 'x' FROM generate_series(1, 20000) i"))
        .unwrap();
    assert_eq!(
        bench.table("SELECT count(*), count(DISTINCT name) FROM school WHERE code ~ '^[cd]'"),
        ["(40000,20001)"]
    );
    assert_eq!(bench.table("SELECT name FROM school WHERE code = 'c7'"), ["(\"a\t\\\\b\n7\")"]);

    // The record to blame, and nothing of the batch remains.
    let bad = "SELECT 'e' || i, CASE WHEN i <> 4321 THEN 'n' END FROM generate_series(1, 9000) i";
    bench.check_error(
        &schools(EtlKind::Insert, bad),
        "Got an error from the database driver:\n    null value in column \"name\" of relation \
         \"school\" violates not-null constraint\n    DETAIL:  Failing row contains (e4321, null).\n\
         While inserting record #4321:\n    {'e4321', null}\nWhile processing:\n    /etl\n    ^^^^",
    );
    assert_eq!(bench.table("SELECT count(*) FROM school WHERE code ~ '^e'"), ["(1)"]);

    bench.check(
        &schools(EtlKind::Merge, "VALUES ('s2', 'Two'), ('s9', 'Nine'), ('s9', 'Again')"),
        &["s2", "s9", "s9"],
    );
    assert_eq!(
        bench.table("SELECT * FROM school WHERE code IN ('s2', 's9') ORDER BY code"),
        ["(s2,Two)", "(s9,Again)"]
    );
}

#[test]
fn links_and_rows() {
    let bench = Bench::new();
    let id = program().domain;
    let link = |from: &Domain| FieldTarget::Link {
        name: "school".into(),
        columns: vec!["school_code".into()],
        identify: school(),
        convert: convert(from, &school().domain),
    };
    let insert = |sql: &str| {
        let fields = vec![
            link(&Domain::Untyped),
            column("code", &text(), &text()),
            column("credits", &Domain::Integer, &Domain::Decimal),
        ];
        etl(EtlKind::Insert, program(), sql, &[Domain::Untyped, text(), Domain::Integer], fields)
    };
    bench.check(
        &insert("VALUES ('art', 'a', 1), ('eng', 'b', NULL)"),
        &["art.'a   '", "eng.'b   '"],
    );
    bench.check_error(
        &insert("VALUES ('art', 'c', 1), ('law', 'd', 2)"),
        "Unable to resolve a link:\n    school[law]\nWhile inserting record #2:\n    \
         {'law', 'd', 2}\nWhile processing:\n    /etl\n    ^^^^",
    );

    let at = |kind, sql: &str| {
        let fields = vec![
            FieldTarget::Identity { convert: convert(&id, &id) },
            column("title", &text(), &text()),
        ];
        etl(kind, program(), sql, &[Domain::Identity(vec![text(), text()].into()), text()], fields)
    };
    bench.check(
        &at(EtlKind::Update, "VALUES ('eng', 'b', 'Bee'), ('art', 'x', 'Ex')"),
        &["eng.'b   '", "art.'x   '"],
    );
    bench.check_error(
        &at(EtlKind::Update, "VALUES ('art', 'x', 'Y'), ('art', 'zzz', 'Z')"),
        "Unable to find an entity:\n    program[art.zzz]\nWhile updating record #2:\n    \
         {[art.zzz], 'Z'}\nWhile processing:\n    /etl\n    ^^^^",
    );
    assert_eq!(
        bench.table("SELECT * FROM program ORDER BY school_code, code"),
        ["(art,\"a   \",,1.00)", "(art,\"x   \",Ex,1.00)", "(eng,\"b   \",Bee,)"]
    );

    let mut clone = at(EtlKind::Clone, "VALUES ('art', 'x', 'y')");
    if let Plan::Etl(EtlPlan { target: Some(target), .. }) = &mut clone {
        target.fields[1] = column("code", &text(), &text());
    }
    bench.check(&clone, &["art.'y   '"]);
    assert_eq!(bench.table("SELECT title, credits FROM program WHERE code = 'y'"), ["(Ex,1.00)"]);

    bench.run(&at(EtlKind::Delete, "VALUES ('art', 'x', ''), ('eng', 'b', '')")).unwrap();
    assert_eq!(bench.table("SELECT code FROM program ORDER BY 1"), ["(\"a   \")", "(\"y   \")"]);
}
