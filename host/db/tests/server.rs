//! The private server starts, loads the reference data and goes away.
use rex_db::testing::{Server, load_sql, shared_file};

#[test]
fn server_loads_reference_data() {
    let Some(dump) = shared_file("htsql-corpus/demo.sql") else { return };
    let server = Server::start().unwrap();
    let uri = server.create_database("demo").unwrap();
    load_sql(&uri, &dump).unwrap();
    server.sql("demo", "SELECT 1/count(*) FROM ad.school").unwrap();
}
