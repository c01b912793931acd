//! A small university catalog for tests, and the shared ways to look at a query.

use std::sync::Arc;

use rex_htsql::catalog::model::{Column, Database, ForeignKey, Schema, Table, UniqueKey};
use rex_htsql::domain::{Domain, EnumType};
use rex_htsql::{Catalog, Env, Error, Gateways, Lens, Naming, Params};

/// Tables, one a paragraph: the name, columns `name:type` (`!` for NOT NULL), keys `pk`, `uk`, and
/// foreign keys `fk columns > table columns`.
const UNIVERSITY: &str = "
school | code:text! name:text! campus:text | pk code | uk name
department | code:text! name:text! school_code:text | pk code | uk name \
 | fk school_code > school code
program | school_code:text! code:text! title:text! degree:text part_of_code:text \
 | pk school_code code | fk school_code > school code \
 | fk school_code part_of_code > program school_code code
course | department_code:text! no:int! title:text! credits:int description:text \
 | pk department_code no | uk title | fk department_code > department code
semester | year:dec! season:season! begin_date:date! | pk year season
class | department_code:text! course_no:int! year:dec! season:season! section:text! class_seq:int! \
 | pk department_code course_no year season section | uk class_seq \
 | fk department_code course_no > course department_code no \
 | fk year season > semester year season
student | id:int! name:text! dob:date! school_code:text program_code:text is_active:bool! \
 | pk id | fk school_code program_code > program school_code code
enrollment | student_id:int! class_seq:int! grade:dec | pk student_id class_seq \
 | fk student_id > student id | fk class_seq > class class_seq
";

fn domain(name: &str) -> Domain {
    match name {
        "int" => Domain::Integer,
        "dec" => Domain::Decimal,
        "date" => Domain::Date,
        "bool" => Domain::Boolean,
        "season" => Domain::Enum(
            EnumType {
                schema: "ad".into(),
                name: "season_t".into(),
                labels: vec!["fall".into(), "spring".into()],
            }
            .into(),
        ),
        _ => Domain::Text,
    }
}

fn columns_of(text: &str, columns: &[Column]) -> Vec<usize> {
    text.split_whitespace()
        .map(|name| columns.iter().position(|column| column.name == name).unwrap())
        .collect()
}

pub(crate) fn catalog(naming: Naming) -> Catalog {
    // A deployment lies in the schema `public`.
    let schema = if naming == Naming::Rex { "public" } else { "ad" };
    let mut tables: Vec<Table> = Vec::new();
    let text = UNIVERSITY.replace("\\\n", "");
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    for line in &lines {
        let parts: Vec<&str> = line.split(" | ").map(str::trim).collect();
        let columns = parts[1]
            .split_whitespace()
            .map(|column| {
                let (name, kind) = column.split_once(':').unwrap();
                let kind_name = kind.trim_end_matches('!');
                Column {
                    name: name.into(),
                    domain: domain(kind_name),
                    sql_type: kind_name.into(),
                    nullable: !kind.ends_with('!'),
                    has_default: false,
                    comment: None,
                }
            })
            .collect();
        tables.push(Table { name: parts[0].into(), columns, ..Table::default() });
    }
    for (index, line) in lines.iter().enumerate() {
        for part in line.split(" | ").skip(2).map(str::trim) {
            let (kind, rest) = part.split_once(' ').unwrap();
            if kind == "fk" {
                let (own, target) = rest.split_once(" > ").unwrap();
                let (table, columns) = target.split_once(' ').unwrap();
                let other = tables.iter().find(|t| t.name == table).unwrap();
                let target_columns = columns_of(columns, &other.columns);
                let key = ForeignKey {
                    name: format!("{}_{table}_fk", tables[index].name),
                    columns: columns_of(own, &tables[index].columns),
                    target_schema: schema.into(),
                    target_table: table.into(),
                    target_columns,
                    partial: false,
                    comment: None,
                };
                tables[index].foreign_keys.push(key);
            } else {
                let columns = columns_of(rest, &tables[index].columns);
                let name = format!("{}_{kind}", tables[index].name);
                let key = UniqueKey { name, columns, primary: kind == "pk", partial: false };
                tables[index].unique_keys.push(key);
            }
        }
    }
    tables.sort_by(|a, b| a.name.cmp(&b.name));
    let schema = Schema { name: schema.into(), priority: 0, comment: None, tables };
    Catalog::new(Database { schemas: vec![schema] }, naming)
}

/// One gateway, `other`, to a database with the same tables.
struct Other;

impl Gateways for Other {
    fn has(&self, name: &str) -> bool {
        name == "other"
    }

    fn catalog(&self, _: &str) -> Result<Arc<Catalog>, Error> {
        Ok(Arc::new(catalog(Naming::Stock)))
    }
}

pub(crate) fn env() -> Env<'static> {
    Env { gateways: &Other }
}

/// What a stage makes of a query, or the error text.
pub(crate) fn explain(query: &str, lens: Lens) -> String {
    explain_in(query, lens, Naming::Stock)
}

/// As `explain`, with names of either kind and the text `x'y` as `$code`.
pub(crate) fn explain_in(query: &str, lens: Lens, naming: Naming) -> String {
    let catalog = catalog(naming);
    let mut params = Params::new();
    params.set("code", rex_htsql::Param::text("x'y"));
    rex_htsql::explain(query, lens, &catalog, &env(), &params)
        .unwrap_or_else(|error| error.to_string())
}
