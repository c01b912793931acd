//! The application of the mart corpus on a server of its own, and marts made of it.

use postgres::Client;
use rex_db::{Address, Config, Session};
use rex_deploy::{Deployer, Facts};
use rex_htsql::Naming;
use rex_mart::{Creation, Definitions, Entry, Inventory, Mart, Settings};
use rex_test_support::env::repository;
use rex_test_support::server::Server;
use rex_test_support::shared::{load_app, shared_file};
use rex_yaml::validate::Input;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

pub(crate) const APPLICATION: &str = "mart_demo";

/// The facts that one definition of the corpus includes.
const INCLUDED: &str = "
- table: foo
  title: Foo Bars
  with:
  - { column: col1, type: text, title: The First Column }
  - identity: [col1]
  - { column: col2, type: [foo, bar, baz], required: false }
";

pub(crate) struct App {
    pub(crate) server: Server,
    pub(crate) settings: Settings,
    pub(crate) definitions: Definitions,
    _folder: TempDir,
}

/// Makes the database agree with the facts of our projects.
pub(crate) fn deploy(address: &Address, names: &[&str]) {
    let config = Config {
        address: address.clone(),
        naming: Naming::Rex,
        gateways: Vec::new(),
        statement_timeout: None,
    };
    let mut session = Session::new(config).unwrap();
    session.begin();
    for name in names {
        let file = repository().join("settings").join(format!("{name}.deploy.yaml"));
        let facts = Facts::file(&file).unwrap_or_else(|error| panic!("{error}"));
        let mut deployer = Deployer::new(&mut session);
        deployer.deploy(&facts).unwrap_or_else(|error| panic!("{error}"));
    }
    session.end(true).unwrap();
}

impl App {
    /// That of the corpus, with its definitions; `None` where it is absent.
    pub(crate) fn of_corpus() -> Option<App> {
        let file = shared_file("mart-corpus/definitions.json")?;
        let definitions: Value =
            serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        App::with(&json!({"definitions": definitions}), json!({}))
    }

    /// The application of the corpus with definitions of the test's own.
    pub(crate) fn with(definitions: &Value, settings: Value) -> Option<App> {
        // JSON is YAML.
        App::written(&definitions.to_string(), settings)
    }

    /// As [`App::with`], of the text of a file.
    pub(crate) fn written(definitions: &str, settings: Value) -> Option<App> {
        let server = Server::start()?;
        let uri = load_app(&server, APPLICATION).unwrap()?;
        let mut values = Map::new();
        values.insert("mart_name_prefix".to_owned(), json!("mart_"));
        values.insert("mart_dictionary_presentation_priority".to_owned(), json!(["form", "sms"]));
        values.extend(settings.as_object().unwrap().clone());
        let settings = Settings::of(&values, Some(&uri)).unwrap();
        deploy(&settings.database, &["rex.job", "rex.mart"]);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("simple_deploy.yaml"), INCLUDED).unwrap();
        let file = folder.path().join("app.mart.yaml");
        std::fs::write(&file, definitions).unwrap();
        let definitions =
            Definitions::load(&[file], &settings).unwrap_or_else(|error| panic!("{error}"));
        Some(App { server, settings, definitions, _folder: folder })
    }

    pub(crate) fn client(&self, database: &str) -> Client {
        self.server.client(database)
    }

    /// Makes a mart; the log, and the mart or the error's text.
    pub(crate) fn create(&self, entry: Value) -> (Vec<String>, Result<Mart, String>) {
        let mut log = Vec::new();
        let made = Entry::read(Input::Value(&entry)).and_then(|entry| {
            let creation = Creation::new(&self.settings, &self.definitions, &entry)?;
            let made = creation.run(&mut |line, _| log.push(line.to_owned()), &|| false);
            made.map_err(|failure| failure.error)
        });
        (log, made.map_err(|error| error.to_string()))
    }

    /// Makes a mart of a definition for the owner `test`.
    #[track_caller]
    pub(crate) fn made(&self, definition: &str) -> Mart {
        let (log, made) = self.create(json!({"owner": "test", "definition": definition}));
        made.unwrap_or_else(|error| panic!("{}\n{error}", log.join("\n")))
    }

    pub(crate) fn inventory(&self) -> Vec<Mart> {
        Inventory::open(&self.settings.database).unwrap().all().unwrap()
    }

    /// The names of all databases but the server's own and the application's.
    pub(crate) fn databases(&self) -> Vec<String> {
        let query = "SELECT datname FROM pg_database WHERE NOT datistemplate
            AND datname NOT IN ('postgres', $1) ORDER BY datname";
        let rows = self.client("postgres").query(query, &[&APPLICATION]).unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }
}
