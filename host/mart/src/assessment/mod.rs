//! Assessments of a definition, made tables of the mart.
//!
//! | module | does |
//! |---|---|
//! | `instrument` | what the application knows of an instrument |
//! | `definer` | definitions that are rows of the application's tables |
//! | `field` | fields to columns, values to cells |
//! | `select` | which assessments, and what else of them |
//! | `table` | fields to tables with names and facts |
//! | `load` | assessments to rows |
//! | `document`, `parent`, `lines` | what rows are made of: documents, links to other tables, text of COPY |

mod definer;
mod document;
mod field;
mod instrument;
mod lines;
mod load;
mod parent;
mod select;
mod table;

use std::collections::BTreeSet;

use rex_db::Session;
use rex_deploy::{Deployer, Facts};
use rex_yaml::Error;

use self::select::Selection;
use self::table::{Builder, Tables};
use crate::definition::{Assessment, Definition, Source, duplicates, of_instrument};
use crate::failure::guarded;
use crate::parameter::Parameters;
use crate::processor::Described;
use crate::settings::Settings;

/// The assessments of a definition, with what stands for any number of them filled in.
///
/// # Errors
/// What the application says is none, or two have one name.
pub(crate) fn all(app: &mut Session, definition: &Definition) -> Result<Vec<Assessment>, Error> {
    let mut found = Vec::new();
    for source in &definition.assessments {
        match source {
            Source::One(assessment) => found.push((**assessment).clone()),
            Source::All(like, parameters) => {
                for uid in instrument::all(app)? {
                    found.push(of_instrument(like, parameters, &uid)?);
                }
            }
            Source::Dynamic(_) => found.extend(definer::rexdb(app, &definition.id)?),
        }
    }
    match duplicates(found.iter().map(|assessment| assessment.name.as_str())).as_str() {
        "" => Ok(found),
        names => Err(Error::new(format!(
            "Assessment Names ({names}) cannot be duplicated within a Definition"
        ))),
    }
}

/// What an assessment is made with.
pub(crate) struct Making<'a> {
    pub(crate) settings: &'a Settings,
    /// Those of the mart.
    pub(crate) parameters: &'a Parameters,
    /// Opens the mart, with gateways.
    pub(crate) open: &'a (dyn Fn() -> Result<Session, Error> + Sync),
    pub(crate) app: &'a mut Session,
    /// Names of tables that are, or are to be, of any assessment of the mart, and of those that its
    /// definition deploys.
    pub(crate) taken: &'a mut BTreeSet<String>,
}

impl Making<'_> {
    /// Makes the tables of an assessment and fills them.
    ///
    /// # Errors
    /// In the original's words, with what was being done.
    pub(crate) fn make(
        &mut self,
        assessment: &Assessment,
        described: &mut Described,
        log: &mut dyn FnMut(&str),
    ) -> Result<(), Error> {
        log("...deploying structures");
        let (tables, selection) = self
            .deploy(assessment)
            .map_err(|error| error.remark("While deploying Assessment structures"))?;
        tables.describe(described);
        log("...loading Assessments");
        let count = load::load(&tables, &selection, self.open, self.app)
            .map_err(|error| error.remark("While loading Assessments"))?;
        log(&format!("...{count} Assessments loaded"));
        if !assessment.post_load_calculations.is_empty() {
            log("...performing calculations");
            self.calculate(assessment, &tables)
                .map_err(|error| error.remark("While performing Assessment calculations"))?;
        }
        log("...complete");
        Ok(())
    }

    fn deploy(&mut self, assessment: &Assessment) -> Result<(Tables, Selection), Error> {
        let mut mart = (self.open)()?;
        let mut params = self.parameters.over(&assessment.selector.parameters);
        params.set_plain("INSTRUMENT", assessment.instrument.clone());
        let selection = Selection::of(assessment, params.htsql()?, &mut mart)?;
        let mut builder = Builder::new(assessment, selection.fields()?);
        builder.calculations()?;
        for uid in &assessment.instrument {
            builder.instrument(&instrument::read(self.app, self.settings, uid)?)?;
        }
        let tables = builder.build(self.settings.max_columns, self.taken)?;
        let facts = Facts::value(&tables.facts(), std::path::Path::new(""))?;
        mart.begin();
        let deployed = Deployer::new(&mut mart).deploy(&facts);
        let ended = guarded(mart.end(deployed.is_ok()));
        deployed.and(ended)?;
        Ok((tables, selection))
    }

    fn calculate(&mut self, assessment: &Assessment, tables: &Tables) -> Result<(), Error> {
        let mut params = self.parameters.clone();
        params.set_plain("INSTRUMENT", assessment.instrument.clone());
        let statement = calculation(assessment, tables);
        let mut mart = (self.open)()?;
        guarded(mart.stream(&statement, &params.htsql()?, &mut rex_db::Nowhere))
    }
}

/// The statement that computes the columns of an assessment's calculations, which other fields may keep
/// from being called as these are.
fn calculation(assessment: &Assessment, tables: &Tables) -> String {
    let all = &assessment.post_load_calculations;
    let column = |name: &str| {
        let field = tables.fields.iter().find(|field| field.id == *name);
        field.map_or_else(|| name.to_owned(), |field| field.name.clone())
    };
    let defined: Vec<String> =
        all.iter().map(|each| format!("${} := {}", each.name, each.expression)).collect();
    let fields: Vec<String> =
        all.iter().map(|each| format!("${} :as {}", each.name, column(&each.name))).collect();
    let (defined, fields) = (defined.join(", "), fields.join(", "));
    format!("/{}.define({defined}){{id(), {fields}}}/:update", assessment.name)
}
