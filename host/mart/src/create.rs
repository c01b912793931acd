//! A mart from its definition, stage by stage. Each stage is in the log and, as the status, in the
//! inventory; what goes wrong says where. Whatever happens, in the end there is a complete mart or
//! none: who dies over it leaves a claim that the next one finds.

use std::collections::BTreeSet;

use jiff::civil::DateTime;
use rex_db::{Address, Config, Gateway, Session};
use rex_deploy::Deployer;
use rex_htsql::Naming;
use rex_yaml::Error;

use crate::assessment::{self, Making};
use crate::cluster::{self, Cluster};
use crate::copy::{self, Missing};
use crate::definition::{BaseKind, Definition, Definitions, Script};
use crate::failure::{Failure, guarded};
use crate::inventory::{Inventory, Mart, Planned, purged};
use crate::parameter::Parameters;
use crate::processor::Described;
use crate::purge::{self, Known};
use crate::runlist::Entry;
use crate::settings::Settings;
use crate::stop::Stops;
use crate::{moment, place, quota, script, stop};

/// Is told a line, and the fraction of the work that lies behind.
type Tell<'a> = dyn FnMut(&str, Option<f64>) + 'a;

/// A mart that is about to be made: who asks for it is known, and so is what.
#[derive(Debug)]
pub struct Creation<'a> {
    settings: &'a Settings,
    definitions: &'a Definitions,
    definition: &'a Definition,
    entry: &'a Entry,
}

impl<'a> Creation<'a> {
    /// # Errors
    /// There is no owner, or no such definition.
    pub fn new(
        settings: &'a Settings,
        definitions: &'a Definitions,
        entry: &'a Entry,
    ) -> Result<Creation<'a>, Error> {
        if entry.owner.is_empty() {
            return Err(Error::new("No owner specified"));
        }
        let id = &entry.definition;
        let definition = definitions
            .get(id)
            .ok_or_else(|| Error::new(format!("Unknown definition \"{id}\"")))?;
        Ok(Creation { settings, definitions, definition, entry })
    }

    fn known(&self) -> Known<'a> {
        Known { settings: self.settings, definitions: self.definitions }
    }

    /// Makes the mart; `tell` is told line by line how it goes, and where a stage begins how much of
    /// the work lies behind, from 0 to 1: the stages count alike, each assessment as one. It ends soon
    /// when `stops` says so.
    ///
    /// # Errors
    /// In the original's words; unless the entry says otherwise, nothing of the mart remains, or the
    /// failure says that something may.
    pub fn run(&self, tell: &mut Tell<'_>, stops: &Stops<'_>) -> Result<Mart, Failure> {
        let given = Parameters::bind(&self.definition.parameters, &self.entry.parameters)?;
        let mut inventory = Inventory::open(&self.settings.database)?;
        let mut cluster = Cluster::open(&self.settings.hosting)?;
        cluster.refuse_pooling()?;
        if let Some(error) = purge::sweep(self.known(), &mut inventory, &mut cluster)?.kept {
            tell(&stays("What an earlier Mart has left stays for now", &error), None);
        }
        quota::check(&mut inventory, self.settings, self.definition, &self.entry.owner)?;
        self.make(&mut inventory, &mut cluster, &given, tell, stops).map_err(|failure| Failure {
            error: failure.error.guard("While creating Mart database:", &self.definition.id),
            ..failure
        })
    }

    fn make(
        &self,
        inventory: &mut Inventory,
        cluster: &mut Cluster,
        given: &Parameters,
        tell: &mut Tell<'_>,
        stops: &Stops<'_>,
    ) -> Result<Mart, Failure> {
        let started = moment::now();
        // The record may be there even if its maker was not told so.
        let registered = self.register(inventory, cluster, started);
        let (id, name) = registered.map_err(|error| Failure { error, is_left: true })?;
        let own = (self.definition.base.kind != BaseKind::Existing).then(|| name.clone());
        let mut work = Work { creation: self, inventory, cluster, tell, stops, id, name };
        let made = stop::watching(&self.settings.hosting, own.clone(), stops, || {
            work.begin(0, &format!("Mart creation began: {}", moment::shown(started)))?;
            match given.shown().as_str() {
                "" => {}
                shown => work.log(&format!("Parameters: {shown}")),
            }
            work.stages(given)
        });
        made.map_err(|error| match work.clean_up(own.as_deref()) {
            Ok(true) => Failure { error, is_left: false },
            Ok(false) => Failure { error: purged(), is_left: false },
            Err(_) => Failure { error, is_left: true },
        })
    }

    /// The id of the record in the inventory, and the name of the database.
    fn register(
        &self,
        inventory: &mut Inventory,
        cluster: &mut Cluster,
        started: DateTime,
    ) -> Result<(i64, String), Error> {
        let base = &self.definition.base;
        let existing = match (base.kind, &base.target) {
            (BaseKind::Existing, Some(target)) => Some(target),
            _ => None,
        };
        // Whoever else fills that database comes first.
        if let Some(target) = existing {
            cluster.claim(target)?;
        }
        let token = base.name_token.as_deref().unwrap_or_default();
        let prefix = &self.settings.name_prefix;
        let (definition, owner) = (&self.definition.id, &self.entry.owner);
        let (is_existing, server) = (existing.is_some(), cluster.identifier()?);
        let planned = Planned { definition, owner, started, existing: is_existing, server };
        inventory.add(&planned, |code| match existing {
            Some(target) => Ok(target.clone()),
            None => {
                let name = |stamp| format!("{prefix}{token}{code}_{}", moment::compact(stamp));
                free_name(cluster, started, name)
            }
        })
    }
}

/// Claims the name of a moment, or of a second after it: on a server that several applications make
/// marts on, one of another may have that name.
fn free_name(
    cluster: &mut Cluster,
    mut moment: DateTime,
    name: impl Fn(DateTime) -> String,
) -> Result<String, Error> {
    loop {
        let name = name(moment);
        if cluster.is_abandoned(&name)? {
            if !cluster.exists(&name)? {
                return Ok(name);
            }
            cluster.unclaim(&name)?;
        }
        moment = moment::later(moment);
    }
}

/// A line that tells what could not be removed.
fn stays(what: &str, error: &Error) -> String {
    let text = error.to_string();
    format!("{what}: {}", text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// A session on a mart, from which scripts reach the databases that the settings name.
pub(crate) fn open(settings: &Settings, name: &str) -> Result<Session, Error> {
    let gateway = |name: &str, address: &rex_db::Address| Gateway {
        name: name.to_owned(),
        address: address.clone(),
        naming: Naming::Rex,
    };
    let mut gateways = vec![gateway("rexdb", &settings.database)];
    gateways.extend(settings.gateways.iter().map(|(name, address)| gateway(name, address)));
    guarded(Session::new(Config {
        address: settings.hosting.with_database(name),
        naming: Naming::Rex,
        gateways,
        statement_timeout: None,
    }))
}

/// A mart in the making.
struct Work<'a> {
    creation: &'a Creation<'a>,
    inventory: &'a mut Inventory,
    cluster: &'a mut Cluster,
    tell: &'a mut Tell<'a>,
    stops: &'a Stops<'a>,
    /// Of the record.
    id: i64,
    /// Of the database.
    name: String,
}

impl Work<'_> {
    fn stages(&mut self, given: &Parameters) -> Result<Mart, Error> {
        let definition = self.creation.definition;
        let mut parameters = given.clone();
        parameters.set_plain("OWNER", self.creation.entry.owner.as_str());
        parameters.set_plain("DEFINITION", definition.id.as_str());
        let mut described = Described::default();

        // It would be in vain.
        if let Some(fixed) = &definition.base.fixed_name {
            place::refuse_taken(self.cluster, self.inventory, fixed)?;
        }
        self.database()?;
        self.inventory.set_stage(self.id, "deployment")?;
        self.structures()?;
        self.inventory.set_stage(self.id, "post_deployment")?;
        self.scripts("Post-Deployment", 1, &definition.post_deploy_scripts, &parameters)?;
        self.inventory.set_stage(self.id, "assessment")?;
        self.assessments(&parameters, &mut described)?;
        self.inventory.set_stage(self.id, "post_assessment")?;
        let done = 2 + definition.assessments.len();
        self.scripts("Post-Assessment", done, &definition.post_assessment_scripts, &parameters)?;
        self.inventory.set_stage(self.id, "processing")?;
        self.processors(&described)?;
        self.take_fixed_name()?;
        self.complete()
    }

    fn log(&mut self, line: &str) {
        (self.tell)(line, None);
    }

    /// Begins a stage behind so many of [`Work::steps`], unless the work is to end.
    fn begin(&mut self, done: usize, line: &str) -> Result<(), Error> {
        if (self.stops)() {
            return Err(stop::stopped());
        }
        self.at(done, line);
        Ok(())
    }

    fn at(&mut self, done: usize, line: &str) {
        #[expect(clippy::cast_precision_loss, reason = "few steps")]
        let fraction = done as f64 / self.steps() as f64;
        (self.tell)(line, Some(fraction));
    }

    /// The database, the structures with what fills them, each assessment, what follows them, each
    /// processor.
    fn steps(&self) -> usize {
        let Definition { assessments, processors, .. } = self.creation.definition;
        3 + assessments.len() + processors.len()
    }

    fn database(&mut self) -> Result<(), Error> {
        let base = &self.creation.definition.base;
        let settings = self.creation.settings;
        let name = self.name.clone();
        if base.kind == BaseKind::Existing {
            self.log(&format!("Using existing database: {name}"));
            return self.must_exist(&name);
        }
        self.log(&format!("Creating database: {name}"));
        let source = match (base.kind, &base.target) {
            (BaseKind::Application, _) => Some(settings.database.clone()),
            (BaseKind::Copy, Some(target)) => Some(self.cluster.address(target)),
            _ => None,
        };
        if let Some(source) = &source {
            self.log(&format!("Cloning: {}", source.database()));
            if base.kind == BaseKind::Copy {
                self.must_exist(source.database())?;
            }
        }
        let made = self.made(source.as_ref());
        made.map_err(|error| error.guard("While creating database:", name))
    }

    /// Makes the database, unless its mart is purged by now. Who purges that waits until it is made:
    /// the server goes on making it if this process dies.
    fn made(&mut self, source: Option<&Address>) -> Result<(), Error> {
        let making = cluster::making(&self.name);
        self.cluster.claim(&making)?;
        let made = self.empty_or_copied(source);
        // In any case: whoever waits for it holds the mart, which is to be cleaned up now.
        let unclaimed = self.cluster.unclaim(&making);
        let missing = made?;
        unclaimed?;
        if let Some(oid) = self.cluster.oid(&self.name)? {
            self.inventory.set_database(self.id, oid)?;
        }
        let Some(source) = source else { return Ok(()) };
        if missing == Missing::AllAndRights {
            self.log("Owners and rights stay behind");
        }
        copy::restore(source, &self.cluster.address(&self.name), missing)?;
        purge::refer_once(self.cluster, &self.name)
    }

    /// Makes the database; what is missing in it.
    fn empty_or_copied(&mut self, source: Option<&Address>) -> Result<Missing, Error> {
        self.inventory.of(self.id)?.ok_or_else(purged)?;
        let Some(source) = source else {
            return self.cluster.create(&self.name, None).map(|()| Missing::Nothing);
        };
        self.inventory.leave()?;
        copy::database(self.cluster, source, &self.name)
    }

    fn must_exist(&mut self, name: &str) -> Result<(), Error> {
        match self.cluster.exists(name)? {
            true => Ok(()),
            false => Err(Error::new(format!("Database \"{name}\" does not exist"))),
        }
    }

    fn structures(&mut self) -> Result<(), Error> {
        let Some(facts) = &self.creation.definition.deploy else { return Ok(()) };
        self.begin(1, "Deploying structures...")?;
        let mut session = cluster::session(&self.cluster.address(&self.name))?;
        guarded(rex_deploy::prepare(&mut session))?;
        session.begin();
        let deployed = Deployer::new(&mut session).deploy(facts);
        let ended = guarded(session.end(deployed.is_ok()));
        deployed.and(ended).map_err(|error| error.remark("While Deploying structures"))
    }

    fn scripts(
        &mut self,
        phase: &str,
        done: usize,
        scripts: &[Script],
        parameters: &Parameters,
    ) -> Result<(), Error> {
        self.begin(done, &format!("Executing {phase} ETL..."))?;
        let open = || open(self.creation.settings, &self.name);
        script::run(scripts, parameters, open, &mut |line| (self.tell)(line, None))
            .map_err(|error| error.remark(format!("While executing {phase} Scripts")))?;
        self.log("...ETL complete");
        Ok(())
    }

    fn assessments(
        &mut self,
        parameters: &Parameters,
        described: &mut Described,
    ) -> Result<(), Error> {
        let settings = self.creation.settings;
        let mut app = cluster::session(&settings.database)?;
        let all = assessment::all(&mut app, self.creation.definition)?;
        let mut taken: BTreeSet<String> =
            all.iter().map(|assessment| assessment.name.clone()).collect();
        if let Some(facts) = &self.creation.definition.deploy {
            taken.extend(facts.tables()?);
        }
        for (n, assessment) in all.iter().enumerate() {
            let shown = format!("#{} ({})", n + 1, assessment.name);
            // One entry of a definition may stand for many.
            let done = 2 + n.min(self.creation.definition.assessments.len().saturating_sub(1));
            self.begin(done, &format!("Processing Assessment {shown}"))?;
            let open = || open(settings, &self.name);
            Making { settings, parameters, open: &open, app: &mut app, taken: &mut taken }
                .make(assessment, described, &mut |line| (self.tell)(line, None))
                .map_err(|error| error.guard("While processing Assessment:", shown))?;
        }
        Ok(())
    }

    fn processors(&mut self, described: &Described) -> Result<(), Error> {
        let definition = self.creation.definition;
        for (n, processor) in definition.processors.iter().enumerate() {
            let id = processor.id();
            let done = 3 + definition.assessments.len() + n;
            self.begin(done, &format!("Executing Processor {id}..."))?;
            let ran = open(self.creation.settings, &self.name).and_then(|mut mart| {
                processor.run(&mut mart, described, &mut |line| (self.tell)(line, None))
            });
            ran.map_err(|error| error.guard("While executing Processor:", id))?;
            self.log("...complete");
        }
        Ok(())
    }

    /// Gives the database the name that readers know, in place of the one that has it.
    fn take_fixed_name(&mut self) -> Result<(), Error> {
        let Some(fixed) = &self.creation.definition.base.fixed_name else { return Ok(()) };
        self.cluster.claim(fixed)?;
        let known = self.creation.known();
        purge::succeed(known, self.inventory, self.cluster, self.id, fixed)?;
        self.check_previous(fixed)
            .map_err(|error| error.remark("While purging previous fixed-name database"))?;
        self.log(&format!("Renaming database to: {fixed}"));
        let renaming = |error: Error| error.remark("While renaming database");
        let aside = purge::aside(&self.name);
        let mut pairs = vec![(self.name.as_str(), fixed.as_str())];
        let left_open = self.creation.entry.leave_incomplete;
        self.inventory.set_final_name(self.id, fixed, left_open).map_err(renaming)?;
        let (id, cluster) = (self.id, &mut *self.cluster);
        // Nobody purges it, or the previous one, before the inventory tells who has which name.
        let kept = self.inventory.hold(id, |inventory, mart| {
            mart.ok_or_else(purged)?;
            let previous = place::of_name(cluster, inventory.hold_named(fixed)?, fixed)?;
            let is_there = cluster.exists(fixed)?;
            purge::refuse_existing(known, &previous, fixed, is_there)?;
            if !previous.is_empty() && is_there {
                pairs.insert(0, (fixed.as_str(), aside.as_str()));
            }
            cluster.rename(&pairs)?;
            purge::replace(known, inventory, cluster, id, &self.name, fixed)
        });
        if let Some(error) = kept.map_err(renaming)? {
            self.log(&stays("The previous database stays for now", &error));
        }
        self.name.clone_from(fixed);
        Ok(())
    }

    /// Refuses to take the name from a mart that may not be purged for it.
    fn check_previous(&mut self, fixed: &str) -> Result<(), Error> {
        let marts = place::of_name(self.cluster, self.inventory.named(fixed)?, fixed)?;
        match marts.as_slice() {
            [] => Ok(()),
            [mart] if mart.owner == self.creation.entry.owner => {
                let is_there = self.cluster.exists(fixed)?;
                purge::refuse_existing(self.creation.known(), &marts, fixed, is_there)?;
                purge::refuse_shared(self.cluster, fixed)?;
                self.log(&format!("Purging previous database named \"{fixed}\"..."));
                Ok(())
            }
            [mart] => Err(Error::new(format!(
                "Cannot set name of Mart to \"{fixed}\" because a Mart with that name already \
                 exists owned by \"{}\"",
                mart.owner
            ))),
            _ => Err(Error::new(format!(
                "Multiple inventory records have a name of \"{fixed}\"; unsure what to do"
            ))),
        }
    }

    fn complete(&mut self) -> Result<Mart, Error> {
        let size = self
            .cluster
            .size(&self.name)
            .map_err(|error| error.remark("While retrieving database size"))?;
        let (id, is_told) = (self.id, !self.creation.entry.leave_incomplete);
        let (mart, completed) = self.inventory.hold(id, |inventory, mart| {
            mart.ok_or_else(purged)?;
            let completed = inventory.finish(id, size, is_told)?;
            Ok((inventory.of(id)?.ok_or_else(purged)?, completed))
        })?;
        self.at(self.steps(), &format!("Mart creation complete: {}", moment::shown(completed)));
        let duration = moment::between(mart.date_creation_started, completed);
        self.log(&format!("Mart creation duration: {duration}"));
        self.log(&format!("Mart database size: {size}"));
        let Creation { definition, entry, .. } = self.creation;
        let known = self.creation.known();
        let reaped = quota::reap(known, self.inventory, self.cluster, definition, &entry.owner);
        // It is complete, and readers may be in it.
        if let Err(error) = reaped {
            self.log(&stays("A Mart beyond the quota stays for now", &error));
        }
        Ok(mart)
    }

    /// After a failure: nothing remains, or all that there is, as the entry says. `own`: the name that
    /// its own database was made under. Whether nobody has purged the mart.
    fn clean_up(&mut self, own: Option<&str>) -> Result<bool, Error> {
        let (is_kept, cluster) = (!self.creation.entry.purge_on_failure, &mut *self.cluster);
        let known = self.creation.known();
        self.inventory.hold(self.id, |inventory, mart| match mart {
            Some(mart) if is_kept => inventory.release(mart.id).map(|()| true),
            Some(mart) => purge::remove(known, inventory, cluster, &mart).map(|()| true),
            // Whoever purged it may not have seen the database yet. The name is claimed still.
            None => own.map_or(Ok(()), |name| cluster.drop(name)).map(|()| false),
        })
    }
}
