//! Deployment: facts about tables, columns, links, identities and rows, and the SQL that makes a
//! PostgreSQL database agree with them. The names and the structure are the original's, so that
//! both may deploy on one database; only differences are sent, so that nothing happens twice.
//!
//! | module | does |
//! |---|---|
//! | `spec`, `fact` | YAML or data to facts: first the shape, then the meaning |
//! | `deployer`, `change` | carries facts out; statements sent, image kept up to date |
//! | `table`, `column`, `link`, `identity`, `alias`, `data`, `raw` | one kind of fact each: what has to change |
//! | `database` | databases that are made |
//! | `generator` | the bodies of triggers that fill identities |
//! | `image` | the structure of the database, read once |
//! | `standing` | what keeps a column from moving |
//! | `rows` | the rows that facts are about |
//! | `shape` | a database in the terms of facts, for others |
//! | `comment` | what is remembered in comments |
//! | `name`, `column_type`, `sql`, `json`, `csv` | names, types and texts |

mod alias;
mod change;
mod column;
mod column_type;
mod comment;
pub mod csv;
mod data;
mod database;
mod deployer;
mod fact;
mod generator;
mod identity;
mod image;
mod json;
mod link;
mod name;
mod raw;
mod rows;
mod shape;
mod spec;
pub mod sql;
mod standing;
mod table;

pub use database::{create_database, prepare};
pub use deployer::Deployer;
pub use fact::Facts;
pub use shape::{FieldKind, FieldShape, TableShape};
